"""Real workers, supervisors and stage processes: whatever is killed, the job ends as if nothing had been."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from server.jobs import lease, service
from server.jobs.states import State
from server.store.models import Job, JobEvent
from tests.worker.conftest import SHORT_LEASE, Office
from worker.bell import make_app, ringer

BACKENDS = ["embedded", pytest.param("production", marks=pytest.mark.slow)]
both = pytest.mark.parametrize("office", BACKENDS, indirect=True)
both_standing = pytest.mark.parametrize("standing", BACKENDS, indirect=True)
SUM = 20 * 21 // 2


def numbers(office: Office, job_id: str) -> list[int]:
    """The steps of the metric rows."""
    with office.db.reading() as session:
        rows = session.query(JobEvent).filter_by(job_id=job_id, kind="metric").order_by(JobEvent.id)
        return [row.data["step"] for row in rows]


def assert_done(office: Office, job_id: str) -> None:
    """Succeeded with the undisturbed result, every event stored once, and nothing left alive."""
    job = office.until_ended(job_id)
    assert (job.state, job.message) == (State.SUCCEEDED, "Finished.")
    assert json.loads((office.folder(job_id) / "result.json").read_text())["sum"] == SUM
    steps = numbers(office, job_id)
    assert sorted(set(steps)) == list(range(1, 21))
    assert len(steps) == (office.folder(job_id) / "events.jsonl").read_text().count('"metric"')
    assert job.progress == {"done": 20, "total": 20, "what": "counting"}
    office.until(lambda: not office.processes(job_id))


# ---- a worker that stands --------------------------------------------------------------------------------------


@both_standing
def test_a_lost_message_is_found_by_looking(standing: Office) -> None:
    assert_done(standing, standing.queue(bell=False, pause=0.02))


@both_standing
@pytest.mark.parametrize("victim", ["worker.supervise", "pipelines counting"])
def test_a_killed_supervisor_or_stage_is_made_good(standing: Office, victim: str) -> None:
    job = standing.queue(family=True)
    standing.until_counted(job, 5)
    before = standing.family(job)
    os.kill(standing.pid(job, victim), signal.SIGKILL)
    standing.until(lambda: not set(before) & set(standing.processes(job)))
    assert_done(standing, job)
    assert standing.job(job).attempt == 2
    first, second = standing.starts(job)
    assert (first, second >= 4) == (0, True)


@both_standing
@pytest.mark.parametrize("deaf", [False, True])
def test_cancel(standing: Office, deaf: bool) -> None:
    job = standing.queue(to=10_000, deaf=deaf, family=True)
    standing.until_counted(job, 3)
    standing.family(job)
    standing.cancel(job)
    row = standing.until_ended(job)
    assert (row.state, row.lease_token) == (State.CANCELED, None)
    standing.until(lambda: not standing.processes(job))
    assert not (deaf and (standing.folder(job) / "outcome.json").exists())


def test_an_error_of_a_persons_making_fails_once_and_one_of_the_machine_thrice(standing: Office) -> None:
    bad, away = standing.queue(always="bad_input"), standing.queue(always="retry")
    job = standing.until_ended(bad)
    assert (job.state, job.attempt, job.message) == ("failed", 1, "The numbers are not to be had; give others.")
    job = standing.until_ended(away)
    assert (job.state, job.attempt, job.message) == ("failed", 3, "The numbers are away. It was tried 3 times.")
    log = standing.root / f"{job.folder}.log"
    assert log.read_text().splitlines() == ["The numbers are away."] * 3
    assert log.stat().st_mode & 0o077 == 0


def test_work_that_was_finished_but_not_recorded_is_recorded(standing: Office) -> None:
    with standing.db.session() as session:
        job = Job(stage="counting", resource_kind="cohort", resource_id="none", title="Counted", spec={}, folder="c")
        job.state = State.CANCELED
        session.add(job)
    folder = standing.root / "c"
    folder.mkdir()
    (folder / "result.json").write_text('{"sum": NaN}')
    (folder / "outcome.json").write_text('{"outcome": "stopped", "message": "of an attempt before"}')
    with standing.db.session() as session:
        service.resume(session, session.get_one(Job, job.id))
    assert standing.until_ended(job.id).state == State.SUCCEEDED
    assert not (folder / "starts.txt").exists()


# ---- workers that come and go ----------------------------------------------------------------------------------


@both
def test_a_bell_rung_many_times_starts_a_job_once(office: Office) -> None:
    office.start("--slots", "2", POLL_SECONDS=600)
    office.until(lambda: "2 slots" in (office.root / "worker.log").read_text())
    job = office.queue(pause=0.02)
    ring = ringer(make_app(office.settings))
    for _ in range(5):
        ring("cpu", job)
    assert_done(office, job)
    for _ in range(3):
        ring("cpu", job)
    after = office.queue(to=1)
    office.until_ended(after)
    assert (office.job(job).attempt, office.starts(job)) == (1, [0])


@both
def test_a_killed_worker_is_made_good_by_the_next(office: Office) -> None:
    worker = office.start()
    job = office.queue(family=True)
    office.until_counted(job, 5)
    office.family(job)
    worker.kill()
    office.until(lambda: not office.processes(job))
    assert office.job(job).state == State.QUEUED, "the supervisor gives its job back when its worker is gone"
    office.start()
    assert_done(office, job)
    assert len(office.starts(job)) == 2


def test_worker_and_supervisor_killed_together_are_made_good_at_once(office: Office) -> None:
    worker = office.start()
    job = office.queue(family=True)
    office.until_counted(job, 5)
    before = office.family(job)
    supervisor = office.pid(job, "worker.supervise")
    worker.send_signal(signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    worker.kill()
    assert office.job(job).state == State.RUNNING
    office.start()
    office.until(lambda: not set(before) & set(office.processes(job)))
    assert_done(office, job)


@both
def test_sigterm_returns_jobs_to_the_queue_uncounted(office: Office) -> None:
    worker = office.start()
    job = office.queue(family=True)
    office.until_counted(job, 5)
    office.family(job)
    worker.terminate()
    assert worker.wait(30) == 0
    assert not office.processes(job)
    row = office.job(job)
    assert (row.state, row.attempt, row.lease_token) == (State.QUEUED, 0, None)
    outcome = json.loads((office.folder(job) / "outcome.json").read_text())
    assert outcome["outcome"] == "stopped", "the stage was not given time to stop by itself"
    office.start()
    assert_done(office, job)


@both
def test_a_stalled_supervisor_loses_its_job_to_another(office: Office) -> None:
    office.start("--slots", "2", **SHORT_LEASE)
    job = office.queue(family=True, to=60)
    office.until_counted(job, 3)
    before, zombie = office.family(job), office.job(job)
    os.kill(office.pid(job, "worker.supervise"), signal.SIGSTOP)
    office.until(lambda: office.job(job).attempt == 2)
    with pytest.raises(lease.LeaseLost), office.db.session() as session:
        lease.hold(session, job, zombie.lease_token, 5)
    office.until(lambda: not set(before) & set(office.processes(job)))
    assert office.until_ended(job).state == State.SUCCEEDED
    assert json.loads((office.folder(job) / "result.json").read_text())["sum"] == 60 * 61 // 2


def test_a_supervisor_cut_off_from_the_database_stops_its_stage_before_the_lease_ends(office: Office) -> None:
    office.start(BROKER_URL="redis://127.0.0.1:1/0", **SHORT_LEASE)  # nor does a broken broker stop any work
    job = office.queue(family=True, to=10_000)
    office.until_counted(job, 3)
    before = office.family(job)
    with office.db.session() as session:  # on SQLite nobody else can write as long as this is open
        expires = session.connection().exec_driver_sql("SELECT lease_expires_at FROM job").scalar()
        stage = next(pid for pid, line in before.items() if "pipelines counting" in line)
        office.until(lambda: stage not in office.processes(job))
        assert str(lease.clock(session)) < expires
    office.until(lambda: not set(before) & set(office.processes(job)))
    office.cancel(job)
    assert office.until_ended(job).state == State.CANCELED


def test_a_stage_sees_its_gpus_and_no_setting_of_the_control_plane(office: Office, tmp_path: Path, monkeypatch) -> None:
    smi = tmp_path / "bin/nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'GPU-aaaa, NVIDIA H200'\necho 'GPU-bbbb, NVIDIA H200'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    office.start("--queues", "gpu")
    without, job = office.queue(), office.queue(gpus=2)
    office.until_counted(job, 3)
    (line,) = Path(f"/proc/{office.pid(job, 'pipelines counting')}/environ").read_bytes().split(b"\0\0")
    environment = dict(pair.partition("=")[::2] for pair in line.decode().split("\0") if pair)
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa,GPU-bbbb"
    assert {key for key in environment if key.startswith("INTRAMURAL_")} == {
        "INTRAMURAL_JOB",
        "INTRAMURAL_LEASE",
        "INTRAMURAL_DATA",
        "INTRAMURAL_PARENT_PID",
    }
    assert environment["HF_HUB_OFFLINE"] == environment["TRANSFORMERS_OFFLINE"] == "1"
    office.until_ended(job)
    again = office.queue(gpus=1)
    assert office.until_ended(again).state == State.SUCCEEDED
    assert office.job(without).state == State.QUEUED


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_kill_storm(office: Office, seed: int) -> None:
    """Anything of the job is killed again and again at moments of its own; never two stages at once."""
    import random

    chance = random.Random(seed)
    office.start("--slots", "2")
    job = office.queue(to=20, pause=0.15)
    with office.db.session() as session:
        session.get_one(Job, job).max_attempts = 1000
    for _ in range(12):
        time.sleep(chance.uniform(0.2, 2.5))
        alive = office.processes(job)
        assert sum("-m pipelines" in line for line in alive.values()) <= 1, alive
        if alive:
            os.kill(chance.choice(list(alive)), signal.SIGKILL)
    assert_done(office, job)
