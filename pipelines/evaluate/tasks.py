"""What is asked of the models: the labels of each task and their targets on the images of a cohort."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from pipelines.cohort import Cohort
from pipelines.contract import BadInput
from pipelines.tables import LINES

PROBED = ("findings", "lines", "view")
"""Tasks that are a label an image, read by probes; the others stand in `pipelines.evaluate.measured`."""
TITLES = {
    "findings": "Findings",
    "lines": "Lines and tubes",
    "view": "View (control)",
    "segmentation": "Segmentation",
    "reports": "Report generation",
}
HEADLINES = {"segmentation": "dice", "reports": "label_f1"}
"""The metric that verdicts are made from; larger is better. AUROC for probes."""
VIEW_LABEL = "AP"
CONTROL = "view"
LINEAR, ZERO_SHOT = "linear", "zero-shot"
UNTAUGHT = "the train split lacks one of the two classes"


def answers(methods: Iterable[str | None]) -> str | None:
    """Of the methods that scored a task, the one that its verdicts are made from: the linear probe or, where nothing
    could be learnt, zero-shot. None for tasks that are no probe."""
    found = set(methods)
    return next((method for method in (LINEAR, ZERO_SHOT) if method in found), None)


def headline(task: str) -> str:
    """The metric that verdicts on a task are made from."""
    return HEADLINES.get(task, "auroc")


@dataclass(frozen=True)
class Question:
    """One label of one task."""

    task: str
    label: str
    target: np.ndarray
    """float32 [images]: 1, 0, nan where blank or uncertain."""
    taught: bool = True
    """Whether the train split shows both classes; zero-shot alone scores what it does not teach."""


@dataclass(frozen=True)
class Images:
    """The images that are scored or learnt from: all but lateral ones, of every split."""

    rows: np.ndarray
    """int64 rows of the cohort's index, rising."""
    split: np.ndarray
    """`train`, `validation` or `test` of each."""
    patient: np.ndarray
    """Pseudonym of each."""
    view: np.ndarray

    def of(self, split: str) -> np.ndarray:
        """Places (not rows) of a split's images."""
        return np.flatnonzero(self.split == split)


def frontal_images(cohort: Cohort) -> Images:
    """Every image but the lateral ones; images of unknown view stay, since CR headers often name none."""
    columns = {
        name: np.asarray(pc.fill_null(cohort.index[name], "").to_pylist(), object)
        for name in ("split", "patient", "view")
    }
    rows = np.flatnonzero(columns["view"] != "LATERAL")
    if not len(rows):
        raise BadInput("The cohort has no frontal image; build it with the views AP, PA or unknown.")
    return Images(rows.astype(np.int64), *(columns[name][rows] for name in ("split", "patient", "view")))


def questions(cohort: Cohort, images: Images, tasks: tuple[str, ...]) -> list[Question]:
    """The labels of the probed tasks asked for, in task order, then by name."""
    out = []
    for task in tasks:
        if task not in PROBED:
            continue
        if task == "view":
            known = np.where(images.view == "PA", 0.0, np.nan)
            out.append(Question(task, VIEW_LABEL, np.where(images.view == VIEW_LABEL, 1.0, known).astype(np.float32)))
            continue
        names = [n for n in cohort.label_names() if (n in LINES) == (task == "lines")]
        matrix = cohort.label_matrix(names)[images.rows]
        out += [Question(task, name, matrix[:, i]) for i, name in enumerate(names)]
    return out


def choose(
    asked: list[Question], images: Images, minimum_positives: int, methods: Iterable[str]
) -> tuple[list[Question], list[dict[str, object]]]:
    """The questions that can be scored by one of `methods`, and of the others their counts and reasons.

    Zero-shot needs no train images: it scores a task of which no label can be learnt, and every task where it is the
    only method. Beside a probe it is asked what the probe is asked, so that their macros are over the same labels.
    """
    scored: list[Question] = []
    reasons: list[dict[str, object]] = []
    names = set(methods)
    for task in dict.fromkeys(q.task for q in asked):
        own = [q for q in asked if q.task == task]
        able = [q for q in own if teaches(q, images) and not why_not(q, images, minimum_positives)]
        if ZERO_SHOT in names and (names == {ZERO_SHOT} or not able):
            own = [replace(q, taught=False) for q in own]
        said = [(q, why_not(q, images, minimum_positives)) for q in own]
        scored += [q for q, reason in said if not reason]
        reasons += [reason for _, reason in said if reason]
    return scored, reasons


def teaches(question: Question, images: Images) -> bool:
    """Whether the train split has both classes."""
    learnt = question.target[images.of("train")]
    return bool((learnt == 1).any() and (learnt == 0).any())


def why_not(question: Question, images: Images, minimum_positives: int) -> dict[str, object] | None:
    """None when the label can be scored, else its counts on the test split and the reason."""
    counts = test_counts(question, images)
    if counts["positives"] < minimum_positives:
        reason = f"fewer than {minimum_positives} positive test patients"
    elif not counts["negatives"]:
        reason = "no negative test patient"
    elif question.taught and not teaches(question, images):
        reason = UNTAUGHT
    else:
        return None
    return {"task": question.task, "label": question.label, **counts, "reason": reason}


def test_counts(question: Question, images: Images) -> dict[str, int]:
    """Images of known label and patients of either class in the test split."""
    test = images.of("test")
    target = question.target[test]
    positives, negatives = (len(set(images.patient[test][target == value])) for value in (1, 0))
    return {"images": int(np.isfinite(target).sum()), "positives": positives, "negatives": negatives}
