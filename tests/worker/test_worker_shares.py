"""Two workers on one data root share one job: whoever is killed, the bytes are the same."""

import hashlib
import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from pipelines.contract import Outcome, run_stage
from pipelines.deidentify.spec import Spec as Deidentify
from pipelines.keys import DerivationSecret, create_vault_key
from server.jobs import shares
from server.jobs.states import State
from server.store.models import Job
from tests.dicoms import as_bytes, instance, write_export
from tests.worker.conftest import Office

UNITS = 40


def helpers(office: Office, job: str) -> list[Job]:
    with office.db.reading() as session:
        return [share for share in shares.of(session, job) if share.started_at]


def tries(office: Office, job: str) -> Counter[tuple[int, str]]:
    notes = office.folder(job) / "tries"
    lines = notes.read_text().splitlines() if notes.exists() else []
    return Counter((int(number), who) for number, who in map(str.split, lines))


def at_work(office: Office, job: str) -> set[str]:
    return {who for _, who in tries(office, job)}


def picking(office: Office, **more: object) -> str:
    return office.queue(stage="picking", units=UNITS, together=2, share_of=None, **more)


def assert_picked(office: Office, job: str) -> None:
    row = office.until_ended(job)
    assert (row.state, row.message) == (State.SUCCEEDED, "Finished.")
    for number in range(UNITS):
        whole = (office.folder(job) / f"unit-{number:03d}").read_text()
        assert whole == hashlib.sha256(str(number).encode()).hexdigest()
    assert row.progress == {"done": UNITS, "total": UNITS, "what": "picking"}


@pytest.mark.parametrize("office", ["embedded", pytest.param("production", marks=pytest.mark.slow)], indirect=True)
def test_a_free_worker_helps_and_each_unit_is_done_once(office: Office) -> None:
    office.start(SHARE_FROM=1)
    office.start(SHARE_FROM=1)
    job = picking(office)
    assert_picked(office, job)
    done = tries(office, job)
    # One who came when nothing was left may stand beside the one that worked.
    (helper,) = [share.id for share in helpers(office, job) if share.id in at_work(office, job)]
    office.until(lambda: office.job(helper).finished_at)
    assert office.job(helper).state == State.SUCCEEDED
    assert at_work(office, job) == {job, helper}
    assert sorted(number for number, _ in done) == list(range(UNITS)) and set(done.values()) == {1}
    said = json.loads((office.folder(helper) / "result.json").read_text())
    assert said == {"units": sum(who == helper for _, who in done)}


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["helper", "leader"])
def test_a_killed_worker_costs_only_the_unit_it_was_at(office: Office, victim: str) -> None:
    first = office.start(SHARE_FROM=1)
    job = picking(office, pause=0.5)
    office.until(lambda: at_work(office, job))
    second = office.start(SHARE_FROM=1)
    office.until(lambda: len(at_work(office, job)) == 2)
    (helper,) = helpers(office, job)
    gone, worker = (helper.id, second) if victim == "helper" else (job, first)
    (supervisor,) = [pid for pid, line in office.processes(gone).items() if "worker.supervise" in line]
    os.kill(supervisor, signal.SIGKILL)
    worker.kill()
    office.start(SHARE_FROM=1)
    assert_picked(office, job)
    done = Counter(number for number, _ in tries(office, job).elements())
    assert set(done) == set(range(UNITS))
    # When the leader is killed its job waits again, and a helper makes room for it: it leaves a unit too.
    assert sum(done.values()) <= UNITS + 1 + (victim == "leader"), "more was done again than what was interrupted"


@pytest.mark.slow
def test_a_helper_makes_room_and_comes_back(office: Office) -> None:
    office.start(SHARE_FROM=1)
    office.start(SHARE_FROM=1)
    job = picking(office, pause=0.5)
    office.until(lambda: len(at_work(office, job)) == 2)
    other = office.queue(to=1)
    assert office.until_ended(other).state == State.SUCCEEDED
    assert office.job(job).state == State.RUNNING, "the other job had to wait for the end of the shared one"
    assert_picked(office, job)
    assert {helper.attempt for helper in helpers(office, job)} == {1}


# ---- the real thing --------------------------------------------------------------------------------------------

APART = {"vault", "events.jsonl", "spec.json"}


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] not in APART)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_deidentification_by_two_workers_one_of_them_killed_has_the_bytes_of_one(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.worker.conftest.DEADLINE", 900.0)
    export = write_export(tmp_path / "export", patients=3, studies=2)
    for number in range(250):
        ds = instance(number, patient=f"77{number:04d}", name=f"Name{number}^First", accession=f"ACC{number:06d}",
                      study=f"7.{number}")  # fmt: skip
        (export / f"IM{number}").write_bytes(as_bytes(ds))
    DerivationSecret.create(tmp_path / "secret.json")
    create_vault_key(tmp_path / "vault.key")
    given = {"export": str(export), "secret": str(tmp_path / "secret.json"), "vault_key": str(tmp_path / "vault.key")}
    spec = Deidentify.model_validate(given | {"workers": 1}).model_dump(mode="json")

    first = office.start(SHARE_FROM=1)
    job = office.queue(stage="deidentify", **spec)
    office.until(lambda: office.job(job).progress)
    office.start(SHARE_FROM=1)
    office.until(lambda: helpers(office, job))
    parts = office.folder(job) / "parts"
    office.until(lambda: len(list(parts.glob("part-*.parquet"))) >= 3)
    (supervisor,) = [pid for pid, line in office.processes(job).items() if "worker.supervise" in line]
    first.kill()
    os.kill(supervisor, signal.SIGKILL)
    office.start(SHARE_FROM=1)
    assert office.until_ended(job).state == State.SUCCEEDED
    assert (office.folder(job) / "result.json").exists()
    assert not (office.folder(job) / "claims").exists()

    alone = tmp_path / "alone"
    assert run_stage("deidentify", spec, alone) is Outcome.DONE
    ours, theirs = snapshot(office.folder(job)), snapshot(alone)
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []
    shutil.rmtree(alone)
