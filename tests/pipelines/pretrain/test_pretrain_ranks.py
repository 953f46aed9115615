"""Two gloo processes against one, and runs that are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.contract import Outcome, run_stage, sha256_file
from pipelines.pretrain import ranks as ranks_module
from tests.pipelines.pretrain.ends import same_end

ROOT = Path(__file__).resolve().parents[3]


def spec(cohort: Path, encoder: str, **values: Any) -> dict[str, Any]:
    return {"cohort": str(cohort), "encoder": encoder, "budget": 16, "batch": 4, "checkpoint_every": 1} | values


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def as_rank(rank: int, port: int, work: Any, *arguments: Any) -> None:
    """Body of a forked process: torchrun's environment, one thread (forked thread pools do not work)."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    sys.exit(work(*arguments))


def two_ranks(work: Any, *arguments: Any) -> list[int | None]:
    context, port = multiprocessing.get_context("fork"), free_port()
    processes = [context.Process(target=as_rank, args=(rank, port, work, *arguments)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def run_pretrain(values: dict[str, Any], out: Path) -> int:
    return 0 if run_stage("pretrain", values, out) is Outcome.DONE else 1


def losses(out: Path) -> list[float]:
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [e["values"]["loss"] for e in events if e["kind"] == "metric" and "loss" in e["values"]]


@pytest.mark.parametrize(
    ("encoder", "extra"), [("rad-dino-tiny", {}), ("mi2-tiny", {}), ("mi2-tiny", {"micro_batch": 1})]
)
def test_two_processes_train_as_one(cohort: Path, tmp_path: Path, encoder: str, extra: dict[str, Any]) -> None:
    assert run_stage("pretrain", spec(cohort, encoder), tmp_path / "one") is Outcome.DONE
    assert two_ranks(run_pretrain, spec(cohort, encoder, **extra), tmp_path / "two") == [0, 0]
    # AdamW turns rounding in tiny gradients into whole steps, so only the first losses can agree closely.
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert two[0] == pytest.approx(one[0], abs=1e-5)
    assert two[1] == pytest.approx(one[1], abs=1e-4)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=2e-3)


def gathered_gradient() -> int:
    """One loss of gathered rows, on each rank whole; averaged parameter gradients must be that loss's gradient."""
    ranks = ranks_module.Ranks(torch.device("cpu"))
    inputs = torch.arange(12.0).view(4, 3) / 10
    weight = torch.ones(3, 3, requires_grad=True)
    rows = ranks_module.gather(inputs[2 * ranks.rank : 2 * ranks.rank + 2] @ weight)
    (rows @ rows.T).tanh().sum().backward()
    ranks_module.average_gradients([weight])
    alone = torch.ones(3, 3, requires_grad=True)
    whole = inputs @ alone
    (whole @ whole.T).tanh().sum().backward()
    torch.testing.assert_close(weight.grad, alone.grad)
    assert ranks.any(ranks.rank == 1) and not ranks.any(False)
    assert ranks.agree(7 + ranks.rank) == 7
    ranks.close()
    return 0


def test_gathering_has_the_gradient_of_one_loss() -> None:
    assert two_ranks(gathered_gradient) == [0, 0]


def lose_a_rank(values: dict[str, Any], out: Path) -> int:
    if os.environ["RANK"] == "1":

        def kill(self: Any, flag: bool) -> bool:
            os._exit(9)

        ranks_module.Ranks.any = kill
    return 0 if run_stage("pretrain", values, out) is Outcome.RETRY else 1


def test_a_lost_rank_is_a_retry_and_the_run_resumes(cohort: Path, tmp_path: Path) -> None:
    values = spec(cohort, "mi2-tiny")
    assert two_ranks(lose_a_rank, values, tmp_path) == [0, 9]
    assert "process of this run was lost" in json.loads((tmp_path / "outcome.json").read_text())["message"]
    assert two_ranks(run_pretrain, values, tmp_path) == [0, 0]


def launch(values: dict[str, Any], out: Path, processes: int = 1) -> subprocess.Popen:
    path = out.parent / f"{out.name}.json"
    path.write_text(json.dumps(values))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if processes == 2 else []
    command = [sys.executable, *launcher, "-m", "pipelines", "pretrain", str(path), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for_step(process: subprocess.Popen, out: Path, step: int) -> None:
    name, end = f"step-{step:08d}.sha256", time.monotonic() + 120
    while not (out / "checkpoints" / name).exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def descendants(pid: int) -> set[int]:
    """Pids below `pid`, by /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["rad-dino-tiny", "mi2-tiny"])
def test_sigkill_and_start_again_is_bit_equal(cohort: Path, tmp_path: Path, encoder: str) -> None:
    values = spec(cohort, encoder, budget=40)
    assert launch(values, tmp_path / "undisturbed").wait(180) == 0
    for step in (2, 7):
        process = launch(values, tmp_path / "killed")
        wait_for_step(process, tmp_path / "killed", step)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
    assert launch(values, tmp_path / "killed").wait(180) == 0
    same_end(tmp_path / "killed", tmp_path / "undisturbed")
    cards = [sha256_file(tmp_path / name / "model/card.json") for name in ("killed", "undisturbed")]
    assert cards[0] == cards[1]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["torchrun", "rank"])
def test_torchrun_or_a_rank_killed_leaves_nobody_and_resumes(cohort: Path, tmp_path: Path, victim: str) -> None:
    values = spec(cohort, "mi2-tiny", budget=80)
    assert launch(values, tmp_path / "undisturbed", 2).wait(240) == 0
    process = launch(values, tmp_path / "killed", 2)
    wait_for_step(process, tmp_path / "killed", 3)
    family = descendants(process.pid)
    ranks = [p for p in family if "RANK" in environment_of(p)]
    assert len(ranks) == 2
    os.kill(process.pid if victim == "torchrun" else max(ranks), signal.SIGKILL)
    process.wait(120)
    end = time.monotonic() + 60
    while any(alive(p) for p in family) and time.monotonic() < end:
        time.sleep(0.2)
    assert not [p for p in family if alive(p)]
    assert launch(values, tmp_path / "killed", 2).wait(240) == 0
    same_end(tmp_path / "killed", tmp_path / "undisturbed")


def environment_of(pid: int) -> set[str]:
    try:
        return {v.split(b"=")[0].decode() for v in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}
    except OSError:
        return set()


def two_nodes(values: dict[str, Any], out: Path) -> list[subprocess.Popen]:
    """Two launchers, as on two machines, that find each other by rendezvous; a rank on each."""
    path = out.parent / f"{out.name}.json"
    path.write_text(json.dumps(values))
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", f"--rdzv-id={out.name}"]
    launcher = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *meeting]
    command = [sys.executable, *launcher, "-m", "pipelines", "pretrain", str(path), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **silent) for _ in range(2)]


@pytest.mark.slow
def test_two_nodes_find_each_other_and_train_as_two_processes_of_one(cohort: Path, tmp_path: Path) -> None:
    values = spec(cohort, "mi2-tiny", budget=40)
    assert launch(values, tmp_path / "one", 2).wait(240) == 0
    # The node with rank 0 is lost on the way; the other does not go on alone, and both are started again.
    nodes = two_nodes(values, tmp_path / "two")
    wait_for_step(nodes[0], tmp_path / "two", 3)
    families = [descendants(node.pid) for node in nodes]
    (first,) = [n for n, family in enumerate(families) if any(rank_of(p) == "0" for p in family)]
    for pid in [nodes[first].pid, *families[first]]:
        os.kill(pid, signal.SIGKILL)
    assert nodes[1 - first].wait(120) != 0
    assert not [p for family in families for p in family if alive(p)]
    assert not (tmp_path / "two" / "result.json").exists()
    assert [node.wait(240) for node in two_nodes(values, tmp_path / "two")] == [0, 0]
    same_end(tmp_path / "two", tmp_path / "one")


KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("encoder", ["rad-dino-tiny", "mi2-tiny"])
def test_twenty_kills_at_random_steps_change_no_byte(cohort: Path, tmp_path: Path, encoder: str) -> None:
    """Also while a checkpoint, a milestone or a picture is being written."""
    values = spec(cohort, encoder, budget=1200, checkpoint_every=2, milestones=[0.1, 0.2, 0.3], insight_every=5)
    assert launch(values, tmp_path / "undisturbed").wait(300) == 0
    out, dice = tmp_path / "killed", random.Random(encoder)
    killed_at = []
    for _ in range(KILLS):
        before = last_step(out)
        process = launch(values, out)
        wait_for_events(process, out, before + dice.randint(1, 3))
        time.sleep(dice.random() * 0.1)
        assert process.poll() is None, "it was killed too late to prove anything"
        process.kill()
        process.wait(30)
        killed_at.append(last_step(out))
    assert launch(values, out).wait(300) == 0
    assert len(set(killed_at)) > KILLS // 2
    same_end(out, tmp_path / "undisturbed")
    for name in ("model/card.json", "model/patients.parquet"):
        assert sha256_file(out / name) == sha256_file(tmp_path / "undisturbed" / name)
    kept = [p.relative_to(out) for p in sorted((out / "milestones").rglob("*")) if p.is_file()]
    assert len(kept) > 4
    for name in kept:
        assert sha256_file(out / name) == sha256_file(tmp_path / "undisturbed" / name)


def last_step(out: Path) -> int:
    """The last step that a run's progress speaks of."""
    try:
        lines = (out / "events.jsonl").read_bytes().split(b"\n")
    except OSError:
        return 0
    done = [json.loads(line)["done"] for line in lines if b'"kind": "progress"' in line and line.endswith(b"}")]
    return done[-1] // 4 if done else 0


def wait_for_events(process: subprocess.Popen, out: Path, step: int) -> None:
    end = time.monotonic() + 120
    while last_step(out) < step:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)


def rank_of(pid: int) -> str | None:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    return next((pair[5:].decode() for pair in pairs if pair.startswith(b"RANK=")), None)
