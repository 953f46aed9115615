"""Pretraining through a real worker: whoever is killed in the middle, the run ends with the undisturbed loss."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from server.jobs import service
from server.jobs.states import State
from server.store.models import Cohort, Job, Model, Run
from tests.cohorts import make_cohort
from tests.worker.conftest import Office

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SPEC = {"encoder": "rad-dino-tiny", "budget": 240, "batch": 4, "checkpoint_every": 2, "seed": 3, "device": "cpu"}
SPEC |= {"milestones": [], "insight_every": 1000}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("cohort") / "c", patients=24, side=64)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """Sums are rounded by the number of threads; and the machine is small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def pretrain(office: Office, cohort: Path, processes: int) -> str:
    """A run and its job."""
    with office.db.session() as session:
        data = Cohort(name="A cohort", spec={}, folder="cohorts/c")
        session.add(data)
        session.flush()
        run = Run(name="A run", spec={}, folder="", cohort_id=data.id, encoder="rad-dino-tiny")
        session.add(run)
        session.flush()
        job = service.enqueue(
            session,
            stage="pretrain",
            resource_kind="run",
            resource_id=run.id,
            title="Pretrain",
            spec=SPEC | {"cohort": str(cohort)},
            folder=f"runs/{run.id}",
            processes=processes,
        )
        return job.id


def until_trained(office: Office, job_id: str, steps: int) -> None:
    path = office.folder(job_id) / "events.jsonl"
    office.until(lambda: path.exists() and path.read_text().count('"metric"') >= steps)


def final_loss(office: Office, job_id: str) -> float:
    job = office.until_ended(job_id)
    assert (job.state, job.message) == (State.SUCCEEDED, "Finished.")
    office.until(lambda: not office.processes(job_id))
    result = json.loads((office.folder(job_id) / "result.json").read_text())
    with office.db.reading() as session:
        run = session.get_one(Run, job.resource_id)
        assert (run.state, run.result["final_loss"]) == ("ready", result["final_loss"])
        models = session.query(Model).filter_by(run_id=run.id).all()
        assert {(m.kind, m.state) for m in models} == {("run", "ready"), ("untrained", "ready")}
    return result["final_loss"]


@pytest.fixture(scope="module")
def undisturbed(standing: Office, cohort: Path, one_thread: None) -> Callable[[int], float]:
    losses: dict[int, float] = {}

    def loss(processes: int) -> float:
        if processes not in losses:
            losses[processes] = final_loss(standing, pretrain(standing, cohort, processes))
        return losses[processes]

    return loss


def ranks(office: Office, job_id: str) -> list[int]:
    """The ranks' processes, by rank."""
    found = {}
    for pid in office.processes(job_id):
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        found |= {int(pair[5:]): pid for pair in pairs if pair.startswith(b"RANK=")}
    return [found[rank] for rank in sorted(found)]


@pytest.mark.parametrize(
    ("processes", "victim"),
    [(1, "supervisor"), (1, "stage"), (2, "supervisor"), (2, "torchrun"), (2, "rank 0"), (2, "rank 1")],
)
def test_the_loss_is_that_of_an_undisturbed_run(
    standing: Office, cohort: Path, undisturbed: Callable[[int], float], processes: int, victim: str
) -> None:
    job = pretrain(standing, cohort, processes)
    until_trained(standing, job, 7)
    before = standing.processes(job)
    if victim.startswith("rank"):
        pid = ranks(standing, job)[int(victim[-1])]
    else:
        command = {"supervisor": "worker.supervise", "torchrun": "torch.distributed.run", "stage": "pipelines pretrain"}
        pid = standing.pid(job, command[victim])
    os.kill(pid, signal.SIGKILL)
    standing.until(lambda: not set(before) & set(standing.processes(job)))
    assert not (standing.folder(job) / "result.json").exists(), "it was killed too late to prove anything"
    assert final_loss(standing, job) == undisturbed(processes)
    assert standing.job(job).attempt == 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_worker_may_go_and_another_goes_on(
    standing: Office, office: Office, cohort: Path, undisturbed: Callable[[int], float], number: signal.Signals
) -> None:
    worker = office.start()
    job = pretrain(office, cohort, 2)
    until_trained(office, job, 7)
    worker.send_signal(number)
    worker.wait()
    office.until(lambda: not office.processes(job))
    row = office.job(job)
    assert (row.state, row.attempt) == (State.QUEUED, 0 if number == signal.SIGTERM else 1)
    assert json.loads((office.folder(job) / "outcome.json").read_text())["outcome"] == "stopped"
    office.start()
    assert final_loss(office, job) == undisturbed(2)


def test_cancel_and_resume(standing: Office, cohort: Path, undisturbed: Callable[[int], float]) -> None:
    job = pretrain(standing, cohort, 2)
    until_trained(standing, job, 7)
    standing.cancel(job)
    assert standing.until_ended(job).state == State.CANCELED
    standing.until(lambda: not standing.processes(job))
    with standing.db.session() as session:
        service.resume(session, session.get_one(Job, job))
    assert final_loss(standing, job) == undisturbed(2)
