"""The labeller that asks a language model of the site, kept inside the walls: ask, check, ask again, never guess."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from pipelines import tables
from pipelines.contract import RunFolder
from pipelines.label.answers import Refused
from pipelines.label.causal import CausalModel
from pipelines.label.parts import PART, part_rows
from pipelines.label.prompt import load_prompt
from pipelines.label.reports import reports_of
from pipelines.label.spec import Spec
from pipelines.label.values import Label

# The longest answer: every name of the prompt with a value takes about half of it.
NEW_TOKENS = 640
TOO_LONG = "too_long"


@dataclass(frozen=True)
class Question:
    """A report on its way through the model."""

    number: int
    text: str
    prompt: list[int]
    reason: str = ""
    """Why the last answer was refused."""


class ModelLabeller:
    """Labels reports by the language model of a spec. BadInput when its folder or the prompt cannot be used."""

    def __init__(self, spec: Spec) -> None:
        assert spec.model is not None  # noqa: S101 - the spec holds the source and the folder together
        self.prompt = load_prompt(spec.prompt)
        self.answers = self.prompt.answers
        self.model = CausalModel(spec.model, spec.device, NEW_TOKENS)
        self.retries, self.batch = spec.retries, spec.batch
        self.version = f"{self.prompt.content.version}-{self.prompt.digest}-{self.model.digest}"

    def label_part(self, part: pa.Table, path: Path, run: RunFolder, done: int, total: int) -> None:
        """Label a part and write it; `done` of `total` reports came before it. Raises Stopped between batches."""
        reports = reports_of(part)
        said: dict[int, list[Label] | str] = {n: r.reason for n, r in enumerate(reports) if r.reason}
        for number, answer in self.ask({n: r.text for n, r in enumerate(reports) if not r.reason}, run):
            said[number] = answer
            run.progress(done + len(said), total, "reports by the language model")
        labels = [said[n] for n in range(len(reports))]
        tables.write_table(path, list(part_rows(reports, labels, "model", self.version)), PART)

    def ask(self, texts: dict[int, str], run: RunFolder) -> Iterator[tuple[int, list[Label] | str]]:
        """(number, labels) of every text as it is answered, or (number, reason) when no answer could be used."""
        left = [Question(n, text, self.model.encode(self.prompt.messages(text))) for n, text in texts.items()]
        yield from ((q.number, TOO_LONG) for q in left if not self.model.fits(q.prompt))
        left = [q for q in left if self.model.fits(q.prompt)]
        for attempt in range(self.retries + 1):
            refused = []
            for question, labels in self._round(left, run):
                if isinstance(labels, Question) and attempt < self.retries and self.model.fits(labels.prompt):
                    refused.append(labels)
                else:
                    yield question.number, labels.reason if isinstance(labels, Question) else labels
            left = refused

    def _round(self, questions: list[Question], run: RunFolder) -> Iterator[tuple[Question, list[Label] | Question]]:
        """Each question with its labels, or with the question to ask next."""
        for batch in _batches(questions, self.batch):
            answers = self.model.generate([q.prompt for q in batch], lambda: run.stopping)
            run.check_stop()  # before they are read: a stop leaves them unfinished
            for question, (answer, cut) in zip(batch, answers, strict=True):
                try:
                    yield question, self.answers.read(answer)
                except Refused as refused:
                    yield question, self._again(question, answer, refused, cut)

    def _again(self, question: Question, answer: str, refused: Refused, cut: bool) -> Question:
        error = "It is too long and was cut off." if cut else str(refused)
        messages = self.prompt.messages(question.text, (answer, error))
        return replace(question, prompt=self.model.encode(messages), reason="answer_cut_off" if cut else refused.reason)


def _batches(questions: Iterable[Question], size: int) -> Iterator[list[Question]]:
    """Questions of like length together, so that little is padded."""
    ordered = sorted(questions, key=lambda q: len(q.prompt))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]
