"""What is asked of the models: the labels of each task and their targets on the images of a cohort."""

from __future__ import annotations

from dataclasses import dataclass

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
LINEAR = "linear"
"""The method that answers: see `pipelines.evaluate.methods`."""


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


def why_not(question: Question, images: Images, minimum_positives: int) -> dict[str, object] | None:
    """None when the label can be scored, else its counts on the test split and the reason."""
    test, train = images.of("test"), images.of("train")
    target, learnt = question.target[test], question.target[train]
    positives = len(set(images.patient[test][target == 1]))
    negatives = len(set(images.patient[test][target == 0]))
    if positives < minimum_positives:
        reason = f"fewer than {minimum_positives} positive test patients"
    elif not negatives:
        reason = "no negative test patient"
    elif not (learnt == 1).any() or not (learnt == 0).any():
        reason = "the train split lacks one of the two classes"
    else:
        return None
    counts = {"images": int(np.isfinite(target).sum()), "positives": positives, "negatives": negatives}
    return {"task": question.task, "label": question.label, **counts, "reason": reason}
