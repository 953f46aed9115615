"""Losses that are no number or far too high: the run goes back, leaves batches out, says so, and gives up at last."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.contract import Outcome, run_stage
from pipelines.pretrain.guard import ENOUGH, HIGH_STEPS, Guard, Trouble
from pipelines.pretrain.sampler import Sampler
from pipelines.pretrain.unicl_task import UniclTask
from tests.pipelines.pretrain.ends import same_end

# ---- the verdict ---------------------------------------------------------------------------------------------------


def judged(losses: list[float], guard: Guard | None = None, first: int = 0) -> Trouble | None:
    guard = guard or Guard()
    return next((t for s, loss in enumerate(losses, first) if (t := guard.judge(s, loss, 1.0))), None)


def falling(steps: int) -> list[float]:
    return [10.0 - 0.05 * n + 0.1 * (-1) ** n for n in range(steps)]


def test_a_loss_that_falls_or_jumps_once_is_let_be() -> None:
    assert judged(falling(80)) is None
    assert judged([*falling(40), 90.0, 8.0, 90.0, 91.0, 8.0]) is None
    # A level that changes by less than a quarter, as when a teacher grows warmer.
    assert judged([*falling(40), *[9.5] * 10]) is None
    # Too little is known at the start.
    assert judged([5.0] * (ENOUGH - 1) + [50.0] * HIGH_STEPS) is None


def test_a_loss_that_stays_too_high_is_a_spike() -> None:
    trouble = judged([*falling(40), *[14.0] * 9])
    assert (trouble.onset, trouble.step) == (40, 39 + HIGH_STEPS)
    assert "rose to 14 at step 43" in trouble.what


def test_what_is_no_number_is_trouble_at_once() -> None:
    for loss, norm, what in ((float("nan"), 1.0, "loss"), (float("inf"), 1.0, "loss"), (2.0, float("inf"), "gradient")):
        trouble = Guard().judge(7, loss, norm)
        assert (trouble.onset, trouble.step) == (7, 7)
        assert f"The {what} was no longer a number at step 8" in trouble.what


def test_a_verdict_is_the_same_after_a_checkpoint() -> None:
    losses = [*falling(40), *[14.0] * 5]
    for cut in range(len(losses) - 5):
        before, after = Guard(), Guard()
        assert judged(losses[:cut], before) is None
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert judged(losses[cut:], after, cut) == judged(losses)


def test_batches_that_were_left_out_are_seen_by_no_later_step() -> None:
    rows = torch.arange(7).numpy()
    plain, sampler = Sampler(rows, 3, 0), Sampler(rows, 3, 0)
    sampler.skipped = 4
    assert (sampler.batch(2).step, sampler.batch(2).number) == (2, 6)
    assert sampler.batch(2).rows_B.tolist() == plain.batch(6).rows_B.tolist()
    assert sampler.batch(2).positions_B.tolist() == plain.batch(6).positions_B.tolist()


# ---- the stage -----------------------------------------------------------------------------------------------------


def spec(cohort: Path, **values: Any) -> dict[str, Any]:
    few = {"milestones": [], "insight_every": 1000}
    base = {"cohort": str(cohort), "encoder": "mi2-tiny", "budget": 40, "batch": 4, "checkpoint_every": 2}
    return base | few | values


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, float], float]], None]:
    """Change the loss that a step reports, by the number of its batch."""
    step = UniclTask.step

    def spoil(change: Callable[[int, float], float]) -> None:
        def spoiled(self: UniclTask, batch: Any, inputs: Any) -> dict[str, torch.Tensor]:
            values = step(self, batch, inputs)
            return values | {"loss": torch.tensor(change(batch.number, float(values["loss"])))}

        monkeypatch.setattr(UniclTask, "step", spoiled)

    return spoil


def pretrain(out: Path, values: dict[str, Any], stop_at: int | None = None) -> Outcome:
    def listen(event: dict[str, Any]) -> None:
        if event["kind"] == "checkpoint" and event["step"] == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    return run_stage("pretrain", values, out, listener=listen)


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["kind"] == kind]


def warnings(out: Path) -> list[str]:
    return [e["message"] for e in events(out, "log") if e["level"] == "warning"]


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text())


def test_a_batch_that_spoils_the_loss_is_left_out(
    cohort: Path, tmp_path: Path, spoil: Callable[[Callable[[int, float], float]], None]
) -> None:
    spoil(lambda number, loss: float("nan") if number == 5 else loss)
    out = tmp_path / "run"
    assert pretrain(out, spec(cohort)) is Outcome.DONE
    (said,) = warnings(out)
    assert "no longer a number at step 6. Went back to step 4; the 2 batches since are left out" in said
    assert (result(out)["steps"], result(out)["skipped_batches"]) == (10, 2)
    for path in (out / "checkpoints").glob("*.pt"):
        assert all(torch.isfinite(t).all() for t in torch.load(path)["task"]["towers"].values())


@pytest.mark.parametrize("stop_at", [2, 4, 6])
def test_a_run_with_trouble_ends_the_same_when_it_was_stopped(
    cohort: Path, tmp_path: Path, spoil: Callable[[Callable[[int, float], float]], None], stop_at: int
) -> None:
    spoil(lambda number, loss: float("nan") if number in (5, 9) else loss)
    assert pretrain(tmp_path / "whole", spec(cohort)) is Outcome.DONE
    assert pretrain(tmp_path / "run", spec(cohort), stop_at) is Outcome.STOPPED
    assert pretrain(tmp_path / "run", spec(cohort)) is Outcome.DONE
    assert len(warnings(tmp_path / "whole")) == 2
    same_end(tmp_path / "run", tmp_path / "whole")


def test_where_it_goes_back_to_does_not_depend_on_when_it_was_stopped(
    cohort: Path, tmp_path: Path, spoil: Callable[[Callable[[int, float], float]], None]
) -> None:
    """Stops write checkpoints of their own, at steps where none is due."""
    spoil(lambda number, loss: float("nan") if number == 9 else loss)
    values = spec(cohort, checkpoint_every=5, budget=48, insight_every=1)
    assert pretrain(tmp_path / "whole", values) is Outcome.DONE

    def stop_at(step: int) -> Outcome:
        def listen(event: dict[str, Any]) -> None:
            if event["kind"] == "metric" and event["step"] == step:
                os.kill(os.getpid(), signal.SIGTERM)

        return run_stage("pretrain", values, tmp_path / "run", listener=listen)

    assert [stop_at(step) for step in (6, 8)] == [Outcome.STOPPED] * 2
    assert pretrain(tmp_path / "run", values) is Outcome.DONE
    assert "Went back to step 5; the 5 batches" in warnings(tmp_path / "run")[0]
    same_end(tmp_path / "run", tmp_path / "whole")


def test_a_spike_goes_back_to_before_its_onset(
    cohort: Path, tmp_path: Path, spoil: Callable[[Callable[[int, float], float]], None]
) -> None:
    spoil(lambda number, loss: 50.0 if 23 <= number < 27 else loss)
    out = tmp_path / "run"
    assert pretrain(out, spec(cohort, budget=4 * 30)) is Outcome.DONE
    # It is seen at step 26 only, and the checkpoint of step 24 holds a step of the spike.
    (said,) = warnings(out)
    assert "rose to 50 at step 26" in said and "Went back to step 22; the 4 batches since" in said
    assert max(e["values"]["loss"] for e in events(out, "metric")[-3:] if "loss" in e["values"]) < 10


def test_a_run_that_stays_in_trouble_gives_up_with_its_reason(
    cohort: Path, tmp_path: Path, spoil: Callable[[Callable[[int, float], float]], None]
) -> None:
    spoil(lambda number, loss: float("nan") if number >= 5 else loss)
    out = tmp_path / "run"
    assert pretrain(out, spec(cohort)) is Outcome.BAD_INPUT
    assert len(warnings(out)) == 3
    message = json.loads((out / "outcome.json").read_text())["message"]
    assert "no longer a number at step 5, also after going back 3 times" in message and "learning_rate" in message
    assert sorted(p.name for p in (out / "checkpoints").glob("*.pt")) == ["step-00000002.pt", "step-00000004.pt"]
