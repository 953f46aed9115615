"""How near a written report is to the radiologist's, as sums over studies: sum(numerator) over sum(denominator).

ROUGE-L: F measure of the longest common subsequence (rouge_score). BLEU-4: mean over studies of smoothed sentence BLEU
(sacrebleu); the BLEU of a corpus is no ratio of sums and stands beside it as a number without interval. F1 of findings:
what a labeller finds in both texts, positive or uncertain against the rest, as CheXbert F1 counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from pipelines.label.values import ABSENT, DEVICES, NO_FINDING

FINDINGS = (
    "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", DEVICES, NO_FINDING,
)  # fmt: skip
"""The 14 of CheXpert, in CheXbert's order."""
FIVE = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
"""Those that are reported as the mean of five."""
REPORT = "whole report"
"""The label of metrics that are not of one finding."""
Labeller = Callable[[Sequence[str]], np.ndarray]
"""Texts to bool [texts, 14]: stated as present or uncertain, in the order of FINDINGS."""


@dataclass(frozen=True)
class Measure:
    """One metric of one label on every study."""

    label: str
    metric: str
    numerator: np.ndarray
    denominator: np.ndarray


def text_measures(references: Sequence[str], written: Sequence[str]) -> list[Measure]:
    """ROUGE-L and BLEU-4, each study with weight 1."""
    rouge, bleu = RougeScorer(["rougeL"]), BLEU(lowercase=True, effective_order=True)
    pairs = list(zip(references, written, strict=True))
    scores = {
        "rouge_l": [rouge.score(a, b)["rougeL"].fmeasure for a, b in pairs],
        "bleu_4": [bleu.sentence_score(b, [a]).score / 100 for a, b in pairs],
    }
    return [Measure(REPORT, name, np.array(values), np.ones(len(pairs))) for name, values in scores.items()]


def corpus_bleu(references: Sequence[str], written: Sequence[str]) -> float:
    """BLEU-4 of all studies as one corpus, 0 to 1 (sacrebleu, lower case)."""
    return float(BLEU(lowercase=True).corpus_score(list(written), [list(references)]).score) / 100


def label_measures(kind: str, stated_N14: np.ndarray, found_N14: np.ndarray, scored: Sequence[str]) -> list[Measure]:
    """F1 of findings: micro over 14 and over 5, and one by one for those `scored`, of which the macro is the mean.

    `stated` in the references and `found` in the written reports; F1 = 2 TP / (2 TP + FP + FN).
    """
    both, either = 2.0 * (stated_N14 & found_N14), 1.0 * stated_N14 + found_N14
    five = [FINDINGS.index(name) for name in FIVE]
    out = [
        Measure(REPORT, f"{kind}_micro", both.sum(1), either.sum(1)),
        Measure(REPORT, f"{kind}_micro_5", both[:, five].sum(1), either[:, five].sum(1)),
    ]
    for name in scored:
        i = FINDINGS.index(name)
        out.append(Measure(name, kind, both[:, i], either[:, i]))
        if name in FIVE:
            out.append(Measure(name, f"{kind}_5", both[:, i], either[:, i]))
    return out


class RuleFindings:
    """The product's own rules as a Labeller; a text that was read once is not read again."""

    def __init__(self) -> None:
        # Late: spaCy takes its time.
        from pipelines.label.phrases import load_phrases
        from pipelines.label.rules import RuleLabeller

        self._labeller = RuleLabeller(load_phrases())
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        self._known.update(zip(new, self._read(new), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _read(self, texts: list[str]) -> Iterator[np.ndarray]:
        for labels in self._labeller.label(texts):
            values = {label.name: label.value for label in labels}
            yield np.array([values.get(name, ABSENT) != ABSENT for name in FINDINGS])
