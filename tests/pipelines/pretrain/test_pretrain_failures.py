"""A run that fails ends with its reason and goes on from its last checkpoint; a GPU that is too small is made to do."""

from __future__ import annotations

import errno
import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.contract import BadInput, Outcome, Retry, RunFolder, run_stage
from pipelines.pretrain import run as stage
from pipelines.pretrain.checkpoint import Checkpoints
from pipelines.pretrain.fit import fit_micro_batch
from pipelines.pretrain.loop import Plan
from pipelines.pretrain.ranks import Ranks
from pipelines.pretrain.unicl_task import UniclTask
from tests.pipelines.pretrain.ends import same_end


def spec(cohort: Path, **values: Any) -> dict[str, Any]:
    few = {"budget": 24, "batch": 4, "checkpoint_every": 2, "milestones": [], "insight_every": 1000}
    return {"cohort": str(cohort), "encoder": "mi2-tiny"} | few | values


def message(out: Path) -> str:
    return json.loads((out / "outcome.json").read_text())["message"]


@pytest.fixture(scope="module")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert run_stage("pretrain", spec(cohort), out) is Outcome.DONE
    return out


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(finished: Path, cohort: Path, tmp_path: Path) -> None:
    """The kernel refuses to let any file grow as large as a checkpoint, as a full disk or a quota would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: dict[str, Any]) -> None:
        if event["kind"] == "checkpoint" and event["step"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))

    try:
        assert run_stage("pretrain", spec(cohort), tmp_path, listener=fill) is Outcome.RETRY
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "No space is left" in message(tmp_path) and not (tmp_path / "crash.txt").exists()
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == [f"step-0000000{n}.{e}" for n in (0, 2) for e in ("pt", "sha256")]
    assert Checkpoints(RunFolder(tmp_path), 2).newest() == 2
    assert run_stage("pretrain", spec(cohort), tmp_path) is Outcome.DONE
    same_end(tmp_path, finished)


def test_other_failures_of_writing_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(state: Any, file: Any) -> None:
        raise RuntimeError("cannot be pickled") from OSError(errno.EIO, "broken")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="broken"):
        Checkpoints(RunFolder(tmp_path), 1).save(1, {})
    monkeypatch.setattr(torch, "save", lambda state, file: (_ for _ in ()).throw(RuntimeError("cannot be pickled")))
    with pytest.raises(RuntimeError, match="pickled"):
        Checkpoints(RunFolder(tmp_path), 1).save(1, {})
    assert not list(tmp_path.glob("checkpoints/*"))


def fail_once(monkeypatch: pytest.MonkeyPatch, error: Exception, at: int) -> None:
    step, failed = UniclTask.step, []

    def failing(self: UniclTask, batch: Any, inputs: Any) -> Any:
        if batch.step == at and not failed:
            failed.append(True)
            raise error
        return step(self, batch, inputs)

    monkeypatch.setattr(UniclTask, "step", failing)


@pytest.mark.parametrize(
    "error",
    [torch.AcceleratorError("CUDA error: an illegal memory access"), RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")],
)
def test_a_lost_gpu_is_a_retry_with_its_reason(
    finished: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    fail_once(monkeypatch, error, 3)
    monkeypatch.setattr(stage, "works", lambda device: False)
    assert run_stage("pretrain", spec(cohort), tmp_path) is Outcome.RETRY
    assert "The GPU failed" in message(tmp_path) and not (tmp_path / "crash.txt").exists()
    assert run_stage("pretrain", spec(cohort), tmp_path) is Outcome.DONE
    same_end(tmp_path, finished)


def test_a_run_of_a_gpu_does_not_go_on_slowly_without_one(tmp_path: Path) -> None:
    checkpoints = Checkpoints(RunFolder(tmp_path), 1)
    checkpoints.save(1, {"cohort": "c", "device": "cuda"})
    with pytest.raises(Retry, match="none can be used now"):
        checkpoints.load(1, torch.device("cpu"), "c")
    checkpoints.save(2, {"cohort": "c", "device": "cpu"})
    assert checkpoints.load(2, torch.device("cpu"), "c")["device"] == "cpu"


def test_an_error_that_is_not_the_gpus_stays_what_it_is(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, RuntimeError("shapes do not match"), 3)
    assert run_stage("pretrain", spec(cohort), tmp_path) is Outcome.RETRY
    assert "The GPU failed" not in message(tmp_path) and (tmp_path / "crash.txt").exists()


def test_out_of_memory_names_the_setting_and_the_run_goes_on_with_it(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), 3)
    assert run_stage("pretrain", spec(cohort, micro_batch=4), tmp_path) is Outcome.BAD_INPUT
    assert "too small for 4 samples at once; set micro_batch to 2" in message(tmp_path)
    assert run_stage("pretrain", spec(cohort, micro_batch=2), tmp_path) is Outcome.DONE
    # A finished folder is left alone, whatever it is asked; one at work is not begun anew with another batch.
    (tmp_path / "result.json").unlink()
    assert run_stage("pretrain", spec(cohort, batch=2), tmp_path) is Outcome.BAD_INPUT
    assert "batch differ" in message(tmp_path)


def test_the_micro_batch_is_halved_until_a_step_fits(tmp_path: Path) -> None:
    class Task:
        micro = 24
        tried: list[int] = []  # noqa: RUF012

    def step() -> None:
        Task.tried.append(Task.micro)
        if Task.micro > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    task, run, ranks = Task, RunFolder(tmp_path), Ranks(torch.device("cpu"))
    room = 6
    fit_micro_batch(task, step, ranks, run)
    assert (task.micro, task.tried) == (6, [24, 12, 6])
    assert "24 samples at once do not fit" in (tmp_path / "events.jsonl").read_text()
    room, task.micro = 0, 3
    with pytest.raises(BadInput, match="too small for 1 samples"):
        fit_micro_batch(task, step, ranks, run)


def test_fitting_leaves_nothing_behind_in_the_run(
    finished: Path, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that had to fit its micro-batch trains as one that was told it."""
    monkeypatch.setattr(stage, "Plan", lambda *args, **named: Plan(*args, **(named | {"fit": True})))
    step = UniclTask.step

    def small(self: UniclTask, batch: Any, inputs: Any) -> Any:
        if self.micro > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, batch, inputs)

    monkeypatch.setattr(UniclTask, "step", small)
    assert run_stage("pretrain", spec(cohort), tmp_path / "fitted") is Outcome.DONE
    monkeypatch.undo()
    assert run_stage("pretrain", spec(cohort, micro_batch=2), tmp_path / "told") is Outcome.DONE
    same_end(tmp_path / "fitted", tmp_path / "told")
    said = (tmp_path / "fitted" / "events.jsonl").read_text()
    assert "each process takes 2 at a time" in said
    # The start whose step was tried is the start of the run.
    state = torch.load(tmp_path / "fitted" / "checkpoints" / "step-00000006.pt")
    assert (state["micro"], json.loads((tmp_path / "told" / "result.json").read_text())["steps"]) == (2, 6)
    assert json.loads((finished / "result.json").read_text())["final_loss"] == pytest.approx(
        json.loads((tmp_path / "fitted" / "result.json").read_text())["final_loss"], abs=1e-3
    )
