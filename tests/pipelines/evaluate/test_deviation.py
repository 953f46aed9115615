"""How far the store departs from a baseline's published preparation, where the answer is known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.build.references import read_references
from pipelines.cohort import Cohort
from pipelines.contract import Outcome, RunFolder, run_stage
from pipelines.evaluate.deviation import measure_deviations
from pipelines.evaluate.models import Model
from tests.pipelines.build.folders import Deid, public_key
from tests.pipelines.evaluate.folders import tiny_model


def cohort_of(folder: Path, **header: Any) -> Cohort:
    """Six smooth images of 12 bits under a window that the header states."""
    rng = np.random.default_rng(0)
    deid = Deid(folder / "deid")
    for i in range(6):
        noise = cv2.GaussianBlur(rng.normal(size=(160, 200)), (0, 0), 6)
        pixels = np.interp(noise, (noise.min(), noise.max()), (0, 4095)).round().astype(np.uint16)
        deid.image(f"p{i}", f"s{i}", f"i{i}", pixels, BitsStored=12, HighBit=11, **header)
    values = {
        "deid": [str(deid.write())],
        "release_key": str(public_key(folder)),
        "side": 112,
        "workers": 1,
    }
    assert run_stage("build", values, folder / "cohort") is Outcome.DONE
    return Cohort.open(folder / "cohort")


def deviation_of(folder: Path, **header: Any) -> dict[str, float]:
    folder.mkdir()
    cohort = cohort_of(folder, **header)
    model = Model.open(tiny_model(folder / "m", "Theirs", "open-weight", 1))
    own = Model.open(tiny_model(folder / "o", "Ours", "run", 2))
    run = RunFolder(folder / "run")
    found = measure_deviations([model, own], cohort, "cpu", run, folder / "store")
    assert list(found) == ["Theirs"]
    made: dict[str, float] = found["Theirs"]
    return made


def test_a_window_over_the_whole_range_departs_by_rounding_and_a_narrow_one_by_far(tmp_path: Path) -> None:
    whole = deviation_of(tmp_path / "whole", WindowCenter=2048, WindowWidth=4096)
    assert whole["images"] == read_count(tmp_path / "whole") and whole["images"] >= 1
    assert whole["mean"] < 1.5 and whole["max"] < 8 and whole["lowest_cosine"] > 0.999
    narrow = deviation_of(tmp_path / "narrow", WindowCenter=2048, WindowWidth=512)
    assert narrow["mean"] > 30 and narrow["max"] > 100
    assert narrow["lowest_cosine"] < whole["lowest_cosine"]
    inverted = deviation_of(
        tmp_path / "inverted", WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation="MONOCHROME1"
    )
    assert inverted["mean"] < 1.5, "references are dark where the store is"


def read_count(folder: Path) -> int:
    return len(read_references(folder / "cohort"))


def test_references_are_the_source_whole(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, WindowCenter=2048, WindowWidth=512)
    for row, pixels in read_references(cohort.folder):
        assert pixels.dtype == np.uint16 and pixels.shape == (160, 200)
        assert (pixels.min(), pixels.max()) == (0, 65535) and 0 <= row < len(cohort)


def test_it_is_measured_once_and_said_when_it_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = cohort_of(tmp_path)
    model = Model.open(tiny_model(tmp_path / "m", "Theirs", "open-weight", 1))
    run = RunFolder(tmp_path / "run")
    first = measure_deviations([model], cohort, "cpu", run, tmp_path / "store")
    monkeypatch.setattr("pipelines.evaluate.features.load", None)
    assert measure_deviations([model], cohort, "cpu", run, tmp_path / "store") == first
    for path in (cohort.folder / "references").iterdir():
        path.unlink()
    assert measure_deviations([model], cohort, "cpu", run, tmp_path / "other") == {"Theirs": None}
    said = [json.loads(line)["message"] for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    assert "not measured" in said[-1] and "grey levels of 255 on average" in said[0]
