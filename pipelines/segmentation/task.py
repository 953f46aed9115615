"""Task `segmentation` of an evaluation: heads on frozen patch features (pipelines.evaluate.measured)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.contract import RunFolder, atomic
from pipelines.evaluate import features
from pipelines.evaluate.measured import ALL, Section
from pipelines.evaluate.models import Model
from pipelines.segmentation import report
from pipelines.segmentation.exam import Exam, make_exam, targets
from pipelines.segmentation.judge import judge
from pipelines.segmentation.outputs import Shown, write_outputs

if TYPE_CHECKING:
    from pipelines.evaluate.run import Bench
    from pipelines.evaluate.spec import Spec
    from pipelines.segmentation.training import Lesson

FINER = 8
"""Side of the masks that heads learn from, as a multiple of the side of the patch grid."""


def why_not(bench: Bench, spec: Spec) -> list[dict[str, Any]]:
    """See measured.MeasuredTask."""
    exam, reasons = make_exam(bench.cohort, bench.images, spec.minimum_positives, spec.segmentation.side)
    if not exam.structures and not reasons:
        none = {"images": 0, "positives": 0, "negatives": 0, "reason": "the cohort has no mask and no polyline"}
        reasons = [{"task": "segmentation", "label": ALL, **none}]
    elif not exam.structures:
        reasons.append(reasons[0] | {"label": ALL, "reason": "no structure can be judged"})
    return reasons


def measure(bench: Bench, models: Sequence[Model], spec: Spec, run: RunFolder, store: Path) -> pa.Table:
    """See measured.MeasuredTask. Leaves `segmentation/` in the run folder: DICOM SEG, overlays and facts."""
    exam, _ = make_exam(bench.cohort, bench.images, spec.minimum_positives, spec.segmentation.side)
    seeds = sorted(set(spec.seeds))
    found, shown = [], []
    for model in models:
        parts = _Parts(exam, model, spec, run, store)
        for head in spec.segmentation.heads:
            found += [parts.part(head, seed) for seed in seeds]
        first = (spec.segmentation.heads[0], seeds[0])
        shown.append(Shown(model.name, model.digest, partial(parts.masks, *first), parts.kept(*first, "thresholds")))
    table = pa.concat_tables(found)
    write_outputs(exam, shown, table, spec.segmentation, seeds[0], run)
    return table


def on_validation(bench: Bench, models: Sequence[Model], spec: Spec, run: RunFolder, store: Path) -> dict[str, float]:
    """See measured.MeasuredTask: mean Dice of the first head, over structures and seeds."""
    exam, _ = make_exam(bench.cohort, bench.images, spec.minimum_positives, spec.segmentation.side)
    head, out = spec.segmentation.heads[0], {}
    for model in models:
        parts = _Parts(exam, model, spec, run, store)
        out[model.name] = float(np.mean([parts.kept(head, seed, "validation") for seed in sorted(set(spec.seeds))]))
    return out


def sections(rows: list[dict[str, Any]], result: dict[str, Any], root: Path) -> list[Section]:
    """See measured.MeasuredTask."""
    return report.sections(rows, result, root)


class _Parts:
    """The parts of one model: measures and masks of every head and seed, made once and kept in the store."""

    def __init__(self, exam: Exam, model: Model, spec: Spec, run: RunFolder, store: Path) -> None:
        self.exam, self.model, self.spec, self.run = exam, model, spec, run
        self.store = store
        self.folder = store / "segmentation"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lesson: Lesson | None = None

    def part(self, head: str, seed: int) -> pa.Table:
        """tables.MEASURES of a head under a seed, on the test split."""
        path = self._path(head, seed)
        if not path.exists():
            self._make(head, seed, path)
        table = tables.read_table(path, tables.MEASURES)
        # A part may have been made under another name of the same weights.
        return table.set_column(0, "model", pa.repeat(self.model.name, len(table)))

    def masks(self, head: str, seed: int) -> np.ndarray:
        """bool [test, S, side, side]"""
        side = self.exam.side
        bits = np.unpackbits(self.kept(head, seed, "masks"), axis=-1, count=side * side).astype(bool)
        return bits.reshape(*bits.shape[:2], side, side)

    def kept(self, head: str, seed: int, what: str) -> np.ndarray:
        """`thresholds` [S] that masks were cut at, `validation` [S] mean Dice there, or `masks` as stored."""
        with np.load(self._path(head, seed).with_suffix(".npz")) as stored:
            found: np.ndarray = stored[what]
            return found

    def _path(self, head: str, seed: int) -> Path:
        settings = self.spec.segmentation
        names = [s.name for s in self.exam.structures]
        asked = [self.exam.cohort.digest, names, self.exam.side, settings.steps, settings.batch, head, seed]
        asked.append(head == settings.heads[0])
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return self.folder / f"{self.model.digest[:16]}-{digest[:16]}.parquet"

    def _make(self, head: str, seed: int, path: Path) -> None:
        from pipelines.segmentation import training

        lesson = self._lesson = self._lesson or self._learn()
        settings, device = self.spec.segmentation, features.choose_device(self.spec.device)
        what = f"{head} head on {self.model.name}, seed {seed}"
        fitted = training.fit(head, lesson, settings, seed, device, self.run, what)
        test = self.exam.of("test")
        cut = fitted.thresholds[None, :, None, None]
        masks = np.zeros((len(test), len(self.exam.structures), self.exam.side, self.exam.side), bool)
        for begin, odds in training.predict(fitted.head, lesson, test, device):
            self.run.check_stop()
            masks[begin : begin + len(odds)] = odds.numpy() >= cut
        prefix = "" if head == settings.heads[0] else f"{head}_"
        table = judge(self.exam, test, masks, {"model": self.model.name, "seed": seed}, prefix, self.run)
        with atomic(path.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
            packed = np.packbits(masks.reshape(*masks.shape[:2], -1), axis=-1)
            np.savez_compressed(file, masks=packed, thresholds=fitted.thresholds, validation=fitted.dice)
        tables.write_table(path, table, tables.MEASURES)

    def _learn(self) -> Lesson:
        from pipelines.encoders import load_encoder
        from pipelines.segmentation.training import Lesson

        exam, run = self.exam, self.run
        patches = features.extract(
            self.model, exam.cohort, exam.rows, self.spec.device, run, self.store, kind="patches"
        )
        how = load_encoder(self.model.folder, "cpu").how
        side = min(exam.side, FINER * patches.shape[1])
        train = exam.of("train")
        key = json.dumps(
            [exam.cohort.digest, [s.name for s in exam.structures], exam.side, side, how.to_json(), len(train)]
        )
        path = self.folder / f"targets-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        return Lesson(exam, patches, how, train, targets(exam, train, how, side, path, run))
