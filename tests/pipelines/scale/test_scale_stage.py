"""The whole stage on tiny encoders: curves, baselines, what waits for its seeds, refusals, what is not made again."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.scale.hours import Speed
from pipelines.scale.plan import Study, planned_runs
from tests.cohorts import make_cohort
from tests.pipelines.evaluate.folders import digest, tiny_model

SIZES, SEEDS = (20, 40, 80), (0, 1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cohort, runs of three sizes and two seeds with their starts, and their study."""
    root = tmp_path_factory.mktemp("scale")
    make_cohort(root / "cohort", patients=70, side=56)
    for seed in SEEDS:
        for size in SIZES:
            folder = root / "runs" / f"{size}-{seed}"
            start = tiny_model(folder / "start", f"untrained {seed}", "untrained", seed)
            card = {"start": digest(start), "samples": size, "budget": 640}
            # Other weights for every run, as if it had been trained.
            tiny_model(folder / "model", f"{size} seed {seed}", "run", seed, [], **card)
            _nudge(folder / "model", size)
    models = [str(root / "runs" / f"{size}-{seed}" / "model") for size in SIZES for seed in SEEDS]
    spec = {"cohort": str(root / "cohort"), "models": models, "resamples": 200, "seeds": [0]}
    spec |= {"minimum_positives": 4, "device": "cpu", "store": str(root / "store")}
    assert run_stage("scale", spec, root / "study") is Outcome.DONE
    return root, spec


def _nudge(folder, size):
    """Change the weights a little, by the size, and seal the folder anew."""
    from safetensors.torch import load_file, save_file

    from pipelines.contract import sha256_file

    weights = load_file(folder / "model.safetensors")
    weights = {k: v + size * 1e-4 for k, v in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    card = json.loads((folder / "card.json").read_text()) | {
        "weights_sha256": sha256_file(folder / "model.safetensors")
    }
    (folder / "card.json").write_text(json.dumps(card))


def test_the_report_foretells_what_the_next_doubling_takes_by_what_runs_told(world, tmp_path):
    from pipelines.scale import report

    root, _ = world
    result = json.loads((root / "study" / "result.json").read_text())
    assert [g["doubling_cost"] for g in result["groups"]] == [None], "these models were made by no run"
    law = {"preferred": "power", "because": "one fits better", "identified": True, "forms": {}}
    law["forms"]["power"] = {"a": 1.0, "b": {"value": 0.3, "low": 0.2, "high": 0.4}}
    law["doubling"] = {"samples": 160, "value": 0.01, "low": 0.0, "high": 0.02}
    for group in result["groups"]:
        group["doubling_cost"] = Speed("NVIDIA H100", 1, 10).cost(36_000, 2)
    for curve in result["curves"]:
        curve["law"] = law
    report.write(tmp_path / "report.html", result)
    text = (tmp_path / "report.html").read_text()
    assert "to 160 samples" in text and "2 runs of 1.0 hours each on NVIDIA H100, 2.0 GPU hours" in text


def test_every_task_has_a_curve_over_the_sizes(world):
    root, _ = world
    result = json.loads((root / "study" / "result.json").read_text())
    assert result["protocol"] == "below" and result["practice"]
    assert {c["task"] for c in result["curves"]} == {"findings", "lines", "view"}
    for curve in result["curves"]:
        assert [p["samples"] for p in curve["points"]] == list(SIZES)
        assert all(len(p["seeds"]) == 2 and 0 <= p["low"] <= p["value"] <= p["high"] <= 1 for p in curve["points"])
        assert curve["baseline"] == "rad-dino-tiny untrained, 2 seeds"
        assert not curve["law"]["identified"] and "3 sizes" in curve["law"]["reason"]
        assert set(curve["law"]["forms"]) == {"offset", "power"}
    assert "break-even is not reached" in result["answer"]


def test_the_curve_is_the_mean_over_seeds_of_the_single_results(world):
    import pyarrow.parquet as pq

    root, _ = world
    rows = pq.read_table(root / "study" / "results.parquet").to_pylist()
    macro = {(r["model"], r["task"]): r["value"] for r in rows if r["label"] == "macro" and r["metric"] == "auroc"}
    for curve in json.loads((root / "study" / "result.json").read_text())["curves"]:
        for point in curve["points"]:
            own = [macro[(f"{point['samples']} seed {seed}", curve["task"])] for seed in SEEDS]
            assert point["seeds"] == pytest.approx(own) and point["value"] == pytest.approx(sum(own) / 2)
        starts = [macro[(f"untrained {seed}", curve["task"])] for seed in SEEDS]
        assert curve["baseline_value"]["value"] == pytest.approx(sum(starts) / 2)


def test_the_report_stands_alone_and_says_what_it_is(world):
    page = (world[0] / "study" / "report.html").read_text()
    assert "PRACTICE DATA" in page and "Below protocol" in page and page.count("<svg") == 3
    assert not re.search(r"(src|href)=\"https?:", page)


def test_a_size_added_later_reuses_what_stands(world, tmp_path):
    root, spec = world
    fewer = spec | {"models": spec["models"][:4]}
    stamps = {p.name: p.stat().st_mtime_ns for p in (root / "store" / "features").glob("*.npy")}
    assert run_stage("scale", fewer, tmp_path / "partial") is Outcome.DONE
    assert {p.name: p.stat().st_mtime_ns for p in (root / "store" / "features").glob("*.npy")} == stamps
    events = (tmp_path / "partial" / "events.jsonl").read_text()
    assert "features of" not in events and "probes on" not in events
    result = json.loads((tmp_path / "partial" / "result.json").read_text())
    whole = json.loads((root / "study" / "result.json").read_text())
    assert [p["value"] for p in result["curves"][0]["points"]] == [p["value"] for p in whole["curves"][0]["points"][:2]]
    assert result["curves"][0]["law"]["forms"] == {}


def test_a_run_whose_other_seeds_are_missing_waits(world, tmp_path):
    _, spec = world
    assert run_stage("scale", spec | {"models": spec["models"][:5]}, tmp_path / "out") is Outcome.DONE
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["groups"][0]["left_out"] == ["80 seed 0"] and result["groups"][0]["sizes"] == [20, 40]
    assert "80 seed 0" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("fault", ["budget", "no baseline", "baseline as a model"])
def test_what_cannot_be_compared_is_refused(world, tmp_path, fault):
    root, spec = world
    card = {"samples": 160, "budget": 640}
    if fault == "budget":
        other = tiny_model(tmp_path / "other" / "model", "other", "run", 0, **(card | {"budget": 320}))
        spec = spec | {"models": [*spec["models"], str(other)]}
    elif fault == "no baseline":
        alone = tiny_model(tmp_path / "other" / "model", "alone", "run", 0, **card)
        spec = spec | {"models": [str(alone)]}
    else:
        spec = spec | {"models": [str(root / "runs" / "20-0" / "start")]}
    assert run_stage("scale", spec, tmp_path / "out") is Outcome.BAD_INPUT
    message = json.loads((tmp_path / "out" / "outcome.json").read_text())["message"]
    assert {"budget": "one budget", "no baseline": "nothing to be compared", "baseline as a model": "no run"}[
        fault
    ] in (message)


def study(**other):
    return Study.model_validate(
        {"cohort": "c", "encoders": ["mi2-tiny"], "sizes": [10, 100, 1000], "seeds": [0, 1]}
        | {"pretrain": {"budget": 64, "batch": 8}}
        | other
    )


def test_sizes_are_cut_to_what_exists_and_small_ones_come_first():
    runs = planned_runs(study(), 250)
    assert [(r.samples, r.seed) for r in runs] == [(10, 0), (10, 1), (100, 0), (100, 1), (250, 0), (250, 1)]
    assert [r.samples for r in planned_runs(study(everything=False, seeds=[0]), 100)] == [10, 100]
    assert runs[0].settings == {
        "budget": 64, "batch": 8, "encoder": "mi2-tiny", "samples": 10, "seed": 0, "device": "auto",
    }  # fmt: skip


def test_a_plan_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match="smaller size"):
        planned_runs(study(everything=False), 5)
    with pytest.raises(BadInput, match="'seed' belongs to the study"):
        planned_runs(study(pretrain={"budget": 64, "batch": 8, "seed": 3}), 250)


@pytest.fixture(scope="module")
def beyond(world, tmp_path_factory):
    """A study of the same runs over outlines and, beside its start, a baseline from elsewhere."""
    _, spec = world
    other = tiny_model(tmp_path_factory.mktemp("other") / "m", "from elsewhere", "open-weight", 7)
    head = {"side": 32, "steps": 8, "batch": 8, "heads": ["linear"]}
    spec = spec | {"tasks": ["segmentation"], "segmentation": head, "models": spec["models"][:2]}
    return spec | {"baselines": [str(other)]}


def test_outlines_have_a_curve_of_dice_and_a_baseline_that_validation_chose(beyond, tmp_path):
    import pyarrow.parquet as pq

    assert run_stage("scale", beyond, tmp_path / "out") is Outcome.DONE
    (curve,) = json.loads((tmp_path / "out" / "result.json").read_text())["curves"]
    assert (curve["task"], curve["metric"]) == ("segmentation", "dice")
    rows = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    macro = {r["model"]: r["value"] for r in rows if (r["label"], r["metric"]) == ("macro", "dice")}
    for point in curve["points"]:
        own = [macro[f"{point['samples']} seed {seed}"] for seed in SEEDS]
        assert point["seeds"] == pytest.approx(own) and point["value"] == pytest.approx(sum(own) / 2)
        assert point["difference"] == pytest.approx(point["value"] - curve["baseline_value"]["value"])
    kept = Path(beyond["store"]) / "segmentation"
    by_digest = {
        m[:16]: [np.load(p)["validation"].mean() for p in kept.glob(f"{m[:16]}-*.npz")] for m in digests(beyond)
    }
    assert all(len(dice) == 1 for dice in by_digest.values())
    other, *starts = (np.mean(dice) for dice in by_digest.values())
    best = "from elsewhere" if other > np.mean(starts) else "rad-dino-tiny untrained, 2 seeds"
    assert curve["baseline"] == best
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Macro Dice" in page and "1 − macro Dice" not in page and "Segmentation: a head learns outlines" in page
    assert "AUROC" not in page.split("<h2>Runs</h2>")[0]
    assert not list((tmp_path / "out" / "segmentation").glob("dicom/*")), "of a study no DICOM SEG is written"
    measured = pq.read_table(tmp_path / "out" / "measures.parquet")
    assert set(measured["model"].to_pylist()) == set(macro)


def digests(spec):
    """Of the baseline from elsewhere, then of the starts."""
    starts = [Path(m).parent / "start" for m in spec["models"][:2]]
    return [digest(folder) for folder in (Path(spec["baselines"][0]), *starts)]


@pytest.mark.slow
def test_reports_have_a_curve_of_label_f1(beyond, tmp_path):
    writer = {"studies": 30, "steps": 6, "tokens": 24, "grid": 2, "seeds": 1, "batch": 4}
    spec = beyond | {"tasks": ["findings", "reports"], "reports": writer}
    assert run_stage("scale", spec, tmp_path / "out") is Outcome.DONE
    curves = {c["task"]: c for c in json.loads((tmp_path / "out" / "result.json").read_text())["curves"]}
    assert {task: c["metric"] for task, c in curves.items()} == {"findings": "auroc", "reports": "label_f1"}
    assert all(0 <= p["value"] <= 1 for p in curves["reports"]["points"])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Macro label F1" in page and "Report generation: a writer learns" in page
