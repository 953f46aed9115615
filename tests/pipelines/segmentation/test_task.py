"""Segmentation in an evaluation: heads learn, predictions are measured, written, shown, and nothing is done twice."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc
import pytest
import torch

import pipelines.encoders
from pipelines import tables
from pipelines.cohort import Cohort
from pipelines.contract import RunFolder, Stopped
from pipelines.evaluate import features
from pipelines.evaluate.measured import ALL
from pipelines.evaluate.models import Model
from pipelines.evaluate.run import prepare
from pipelines.evaluate.run import run as evaluate
from pipelines.evaluate.spec import Spec
from pipelines.preprocessing import Preprocessing
from pipelines.segmentation import task
from pipelines.segmentation.exam import make_exam
from pipelines.segmentation.spec import Segmentation
from tests.cohorts import add_masks, make_cohort, tubes
from tests.pipelines.evaluate.folders import bare_model

SIDE = 64


class Grid:
    """An encoder whose patches are the pixels of 4 x 4 squares (`sees`), or say nothing of the image."""

    def __init__(self, sees: bool, crops: bool) -> None:
        self.sees, self.crops = sees, crops
        self.how = Preprocessing(SIDE, "crop" if crops else "stretch")

    def prepare(self, images: list[np.ndarray]) -> torch.Tensor:
        out = []
        for image in images:
            height, width = image.shape
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            part = image[top : top + side, left : left + side] if self.crops else image
            out.append(cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        return torch.from_numpy(np.stack(out)).float()[:, None] / 255

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        patches = torch.nn.functional.pixel_unshuffle(x, 4).permute(0, 2, 3, 1)
        if not self.sees:
            patches = torch.rand(patches.shape, generator=torch.Generator().manual_seed(0))
        return patches.mean((1, 2)), patches

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.features(x)[1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with lungs, and tubes as polylines where the label says that there is one."""
    folder = make_cohort(tmp_path_factory.mktemp("cohort") / "c", patients=60, side=SIDE)
    cohort = Cohort.open(folder)
    return add_masks(folder, [*tubes(cohort), cohort.masks.to_pylist()[0] | {"structure": "heart"}])


@pytest.fixture(scope="module")
def models(folder: Path) -> list[Path]:
    return [bare_model(folder.parent / name, name) for name in ("sees-crops", "sees-stretched", "blind-crops")]


def count_encoders(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts how often an encoder is opened, by model."""
    opened: Counter = Counter()

    def load(model, device):
        opened[model.name] += 1
        return Grid("sees" in model.name, "crops" in model.name)

    monkeypatch.setattr(features, "load", load)
    monkeypatch.setattr(pipelines.encoders, "load_encoder", lambda folder, device: load(Model.open(folder), device))
    return opened


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return count_encoders(monkeypatch)


def make_spec(folder: Path, models: list[Path], **more) -> Spec:
    values = {"cohort": folder, "models": models[:2], "baselines": models[2:], "tasks": ("segmentation",)}
    settings = {"side": SIDE, "steps": 30, "batch": 8, "dicom": 2} | more.pop("segmentation", {})
    return Spec(**values | {"seeds": (0,), "resamples": 100, "device": "cpu", "segmentation": settings} | more)


@pytest.fixture(scope="module")
def done(folder: Path, models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    with pytest.MonkeyPatch.context() as patch:
        count_encoders(patch)
        root = tmp_path_factory.mktemp("run")
        return root, evaluate(make_spec(folder, models), RunFolder(root))


def value(root: Path, model: str, label: str, metric: str) -> float:
    rows = tables.read_table(root / "results.parquet", tables.RESULTS).to_pylist()
    keys = {"model": model, "baseline": None, "label": label, "metric": metric}
    (row,) = [r for r in rows if all(r[k] == v for k, v in keys.items())]
    return row["value"]


def test_heads_find_what_features_show_whatever_the_encoder_does_to_the_frame(done) -> None:
    root, _ = done
    for model in ("sees-crops", "sees-stretched"):
        for metric, least in (("dice", 0.75), ("linear_dice", 0.6)):
            assert value(root, model, "Lung", metric) > least
            assert value(root, model, "Lung", metric) > value(root, "blind-crops", "Lung", metric) + 0.02


def test_measures_and_results_agree(done) -> None:
    root, _ = done
    found = tables.read_table(root / "measures.parquet", tables.MEASURES)
    own = found.filter((pc.field("model") == "sees-crops") & (pc.field("metric") == "linear_iou"))
    own = own.filter(pc.field("label") == "Lung")
    sums = own.group_by("seed").aggregate([("numerator", "sum"), ("denominator", "sum")])
    expected = np.mean(sums["numerator_sum"].to_numpy() / sums["denominator_sum"].to_numpy())
    assert value(root, "sees-crops", "Lung", "linear_iou") == pytest.approx(expected)


def test_known_empty_images_are_counted_apart(done, folder: Path) -> None:
    root, _ = done
    cohort = Cohort.open(folder)
    truth = cohort.label_matrix(["ETT"])[cohort.rows("test"), 0]
    found = tables.read_table(root / "measures.parquet", tables.MEASURES)
    found = found.filter((pc.field("seed") == 0) & (pc.field("model") == "sees-crops") & (pc.field("label") == "ETT"))
    count = Counter(found["metric"].to_pylist())
    assert count["dice"] == (truth == 1).sum() and count["empty_kept"] == (truth == 0).sum()


def test_what_cannot_be_judged_is_told(done) -> None:
    _, result = done
    (reason,) = [n for n in result["not_scored"] if n["task"] == "segmentation"]
    assert reason["label"] == "Heart" and "fewer than 5 test patients" in reason["reason"]


def test_predicted_masks_are_written_where_they_belong(done, folder: Path) -> None:
    import highdicom

    root, _ = done
    files = sorted((root / "segmentation" / "dicom").rglob("*.dcm"))
    assert len(files) == 2 * 3
    index = {row["instance"]: row for row in Cohort.open(folder).index.to_pylist()}
    for file in files:
        seg, row = highdicom.seg.segread(file), index[file.stem]
        assert (seg.Rows, seg.Columns) == (row["source_rows"], row["source_columns"])
        assert seg.PatientID == row["patient"]
    seg = highdicom.seg.segread(next(f for f in files if "sees-crops" in f.parent.name))
    lung = seg.get_pixels_by_source_instance(
        [seg.SourceImageSequence[0].ReferencedSOPInstanceUID], ignore_spatial_locations=True
    )[0, ..., 1]
    row = index[seg.SourceImageSequence[0].ReferencedSOPInstanceUID]
    path = folder / next(
        m["path"]
        for m in Cohort.open(folder).masks.to_pylist()
        if m["image"] == row["image"] and m["structure"] == "lung"
    )
    truth = cv2.resize(cv2.imread(str(path), 0), lung.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert 2 * (lung.astype(bool) & truth).sum() / (lung.sum() + truth.sum()) > 0.75


def test_the_report_shows_it_with_pseudonyms_at_most(done, folder: Path) -> None:
    root, result = done
    html = (root / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/png") == 2 * 2 * 3 + 1 and "<h2>Segmentation</h2>" in html
    assert "clDice" in html and "Tip off by" in html and "segmentation" in result["answer"]
    assert not any(instance in html for instance in Cohort.open(folder).index["instance"].to_pylist())


def test_a_second_evaluation_finds_all_in_the_store(done, folder, models, tmp_path, encoders) -> None:
    root, _ = done
    evaluate(make_spec(folder, models, store=root), RunFolder(tmp_path / "again"))
    assert not encoders
    first, second = (tables.read_table(r / "measures.parquet", tables.MEASURES) for r in (root, tmp_path / "again"))
    assert first.equals(second)


def test_it_stops_when_asked_and_goes_on_to_the_same_numbers(done, folder, models, tmp_path, encoders) -> None:
    root, _ = done
    spec = make_spec(folder, models[:1], baselines=())

    def listen(record: dict) -> None:
        run.stopping |= "linear head" in record.get("what", "")

    run = RunFolder(tmp_path / "run", listener=listen)
    with pytest.raises(Stopped):
        evaluate(spec, run)
    (part,) = (tmp_path / "run" / "segmentation").glob("*.parquet")
    when = part.stat().st_mtime_ns
    evaluate(spec, RunFolder(tmp_path / "run"))
    assert part.stat().st_mtime_ns == when
    first, second = (tables.read_table(r / "measures.parquet", tables.MEASURES) for r in (root, tmp_path / "run"))
    assert first.filter(pc.field("model") == "sees-crops").equals(second)


def test_a_cohort_without_masks_cannot_be_judged(folder: Path, models: list[Path]) -> None:
    spec = make_spec(folder, models)
    bench = prepare(spec)
    bench.cohort.__dict__["masks"] = tables.COHORT_MASKS.empty_table()
    (reason,) = task.why_not(bench, spec)
    assert reason["label"] == ALL and "no mask and no polyline" in reason["reason"]


def test_images_are_numbered_as_they_lie_in_the_index(folder: Path, models: list[Path]) -> None:
    bench = prepare(make_spec(folder, models))
    exam, _ = make_exam(bench.cohort, bench.images, 5, Segmentation().side)
    assert exam.side == SIDE and (np.diff(exam.rows) > 0).all() and exam.known.any(1).all()
    assert [s.name for s in exam.structures] == ["ett", "lung"]
    # 0.35 mm of the source, of which the store has half as many pixels.
    assert exam.pixel_mm(0) == pytest.approx((0.7, 0.7))
