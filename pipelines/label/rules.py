"""The rule-based labeller: what a report states of findings, lines and tubes.

Phrases (phrases.py) are found by spaCy's Matcher; negation, uncertainty and what is told aside (history, questions,
recommendations) by three components of negspacy, an implementation of NegEx (Chapman et al. 2001), each with cues of
its own. Of several statements in one report, present wins over uncertain and uncertain over absent, as in the
CheXpert labeller (arXiv 1901.07031). No Finding is derived: nothing abnormal is stated, devices aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from pipelines.label.phrases import ANY_LINE, OTHER, Phrases
from pipelines.label.sentences import Said, SentenceReader, split_sentences
from pipelines.label.values import ABSENT, DEVICES, NO_FINDING, POSITIONS, PRESENT, Label, strongest

TEXTS = 64


class RuleLabeller:
    """Labels report texts by `phrases`."""

    def __init__(self, phrases: Phrases) -> None:
        self.phrases = phrases
        self.lines = [name for name in phrases.lines if name != ANY_LINE]
        self.reader = SentenceReader(phrases)

    def label(self, texts: Iterable[str]) -> Iterator[list[Label]]:
        """The labels of each text, in a fixed order; what a text does not speak of has no label."""
        texts = iter(texts)
        while batch := [split_sentences(text) for text in islice(texts, TEXTS)]:
            known = self.reader.read(s for sentences in batch for s in sentences)
            for sentences in batch:
                yield self._merge([known[s] for s in sentences])

    def _merge(self, said: list[Said]) -> list[Label]:
        values: dict[str, int] = {}
        for name, value in (pair for sentence in said for pair in sentence.values):
            values[name] = strongest((value, values.get(name, value)))
        lines = {name: values.pop(name) for name in self.lines if name in values}
        if lines:
            values[DEVICES] = strongest((*lines.values(), values.get(DEVICES, ABSENT)))
        if said:
            values[NO_FINDING] = int(all(v == ABSENT for n, v in values.items() if n != DEVICES))
        positions = _worst_positions(said, frozenset(lines))
        names = [NO_FINDING, *(n for n in self.phrases.findings if n != OTHER)]
        labels = [Label(name, values[name]) for name in names if name in values]
        return labels + [Label(n, v, positions.get(n) if v == PRESENT else None) for n, v in lines.items()]


def _worst_positions(said: list[Said], lines: frozenset[str]) -> dict[str, str]:
    """line -> the worst position that is said of it; "Its tip ..." speaks of the last line of the sentence before."""
    worst: dict[str, str] = {}
    last: str | None = None
    for sentence in said:
        positions = list(sentence.positions)
        if last and sentence.refers:
            positions += [(last, position) for name, position in sentence.loose if name in (last, ANY_LINE)]
        for line, position in positions:
            if line not in worst or POSITIONS.index(position) > POSITIONS.index(worst[line]):
                worst[line] = position
        named = [name for name, _ in sentence.values if name in lines]
        last = named[-1] if named else last if sentence.refers else None
    return worst
