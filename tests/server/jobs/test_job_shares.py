"""Shares of a job: offered while much is left, taken by who has nothing else, ended with the job. Pauses and tries."""

from datetime import timedelta
from pathlib import Path

import pytest

from server.jobs import claim, lease, outbox, reaper, service, shares
from server.jobs.states import IllegalTransition, State
from server.services import common
from server.store.db import Database
from server.store.models import Export, Job, Site, now
from tests.server.jobs.jobs import HERE, THERE, expire, get, queue

ROOT = Path("/data")
SPEC = {"workers": 2, "share_of": None}
MUCH, LITTLE = {"done": 10, "total": 5000, "what": "images"}, {"done": 4990, "total": 5000, "what": "images"}


def take(db: Database, me=HERE) -> claim.Claim | None:
    with db.session() as session:
        return claim.claim(session, me, "cpu", 60)


def say(db: Database, taken: claim.Claim, progress: dict, least: int = 1000) -> None:
    """As a supervisor does when its stage has told its progress."""
    with db.session() as session:
        job = lease.hold(session, taken.job_id, taken.token, 60)
        job.progress = progress
        shares.offer(session, job, ROOT, least)


def states(db: Database, job: str) -> list[str]:
    with db.reading() as session:
        return [share.state for share in shares.of(session, job)]


def end(db: Database, taken: claim.Claim, state: State) -> None:
    with db.session() as session:
        lease.end(session, lease.hold(session, taken.job_id, taken.token, 60), state, "It ended.")


@pytest.fixture
def export(db: Database) -> str:
    with db.session() as session:
        session.add(site := Site(name="A site"))
        session.flush()
        session.add(thing := Export(name="An export", site_id=site.id, path="/exports/a", policy="basic"))
        session.flush()
        return thing.id


@pytest.fixture
def parent(db: Database, export: str) -> claim.Claim:
    """A running de-identification."""
    queue(db, stage="deidentify", resource_kind="export", resource_id=export, folder="deid/a", spec=SPEC)
    taken = take(db)
    assert taken is not None
    return taken


def test_one_share_is_on_offer_while_much_is_left(db: Database, parent: claim.Claim) -> None:
    say(db, parent, LITTLE)
    say(db, parent, {})
    say(db, parent, MUCH, least=0)
    assert states(db, parent.job_id) == []
    for _ in range(3):
        say(db, parent, MUCH)
    assert states(db, parent.job_id) == ["queued"]
    share = take(db, THERE)
    say(db, parent, MUCH)
    assert states(db, parent.job_id) == ["running", "queued"]
    row = get(db, share.job_id)
    assert row.spec == SPEC | {"share_of": "/data/deid/a"}
    assert (row.folder, row.parent_id) == (f"deid/a.shares/{share.job_id}", parent.job_id)
    say(db, share, MUCH)
    assert len(states(db, parent.job_id)) == 2, "a share was offered of a share"


def test_other_stages_are_not_shared(db: Database) -> None:
    queue(db, stage="build")
    say(db, taken := take(db), MUCH)
    assert states(db, taken.job_id) == []


def test_shares_that_fail_are_not_offered_for_ever(db: Database, parent: claim.Claim) -> None:
    for _ in range(2 * shares.FAILURES):
        say(db, parent, MUCH)
        if share := take(db, THERE):
            end(db, share, State.FAILED)
    assert states(db, parent.job_id) == ["failed"] * shares.FAILURES


def test_other_jobs_come_first_and_a_share_knows_when_one_waits(db: Database, parent: claim.Claim) -> None:
    say(db, parent, MUCH)
    with db.reading() as session:
        assert not claim.wanted(session)
    later = queue(db)
    with db.reading() as session:
        assert claim.wanted(session)
    assert take(db, THERE).job_id == later
    assert get(db, take(db, THERE).job_id).parent_id == parent.job_id


@pytest.mark.parametrize(("state", "left"), [(State.SUCCEEDED, "running"), (State.FAILED, "canceling")])
def test_shares_end_with_their_job(db: Database, parent: claim.Claim, state: State, left: str) -> None:
    say(db, parent, MUCH)
    share = take(db, THERE)
    say(db, parent, MUCH)
    end(db, parent, state)
    assert states(db, parent.job_id) == [left, "canceled"]
    end(db, share, State.SUCCEEDED)
    assert states(db, parent.job_id) == ["succeeded", "canceled"]


def test_a_share_is_nothing_to_the_export_and_to_whoever_asks_for_its_job(
    db: Database, parent: claim.Claim, export: str
) -> None:
    say(db, parent, MUCH)
    share = take(db, THERE)
    end(db, share, State.FAILED)
    with db.reading() as session:
        assert session.get_one(Export, export).state == "working"
        assert common.latest_job(session, "export", export).id == parent.job_id
        assert [job.id for job in common.page(session, Job, resource_id=export).items] == [parent.job_id]
        assert [job.id for job in common.page(session, Job, parent_id=parent.job_id).items] == [share.job_id]
    end(db, parent, State.FAILED)
    with db.session() as session:
        service.resume(session, session.get_one(Job, parent.job_id))


def test_a_lost_share_is_reaped_like_any_job(db: Database, parent: claim.Claim) -> None:
    say(db, parent, MUCH)
    share = take(db, THERE)
    expire(db, share.job_id)
    with db.session() as session:
        assert reaper.reap(session) == [share.job_id]
    with pytest.raises(lease.LeaseLost):
        end(db, share, State.SUCCEEDED)
    assert states(db, parent.job_id) == ["queued"]


def test_people_control_the_job_and_not_its_shares(db: Database, parent: claim.Claim) -> None:
    from server.access import COMMAND_LINE
    from server.services import jobs

    say(db, parent, MUCH)
    share = take(db, THERE)
    for control in (jobs.cancel, jobs.resume):
        with pytest.raises(IllegalTransition, match=parent.job_id), db.session() as session:
            control(session, COMMAND_LINE, session.get_one(Job, share.job_id))


# ---- pauses ------------------------------------------------------------------------------------------------------


def test_pauses_grow_up_to_an_hour() -> None:
    assert [lease.pause(30, attempt) for attempt in range(1, 6)] == [30, 120, 480, 1920, 3600]


def test_a_job_that_failed_waits_before_it_is_tried_again_and_wakes_a_worker_then(db: Database) -> None:
    job, rung = queue(db, max_attempts=2), []
    taken = take(db)
    outbox.publish(db, lambda _, id_: rung.append(id_))
    with db.session() as session:
        lease.give_back(session, lease.hold(session, job, taken.token, 60), "No space is left.", after=60)
    row = get(db, job)
    assert (row.state, row.message) == ("queued", "No space is left.")
    assert timedelta(seconds=50) < row.not_before - now() <= timedelta(seconds=60)
    assert take(db) is None
    other = queue(db)
    assert take(db).job_id == other, "a job in its pause held up another"
    rung.clear()
    outbox.publish(db, lambda _, id_: rung.append(id_))
    assert rung == [other]
    with db.session() as session:
        session.get_one(Job, job).not_before = now() - timedelta(seconds=1)
    outbox.publish(db, lambda _, id_: rung.append(id_))
    assert rung == [other, job]
    assert take(db).job_id == job
    with db.session() as session:
        lease.give_back(session, lease.hold(session, job, get(db, job).lease_token, 60), "No space is left.", after=240)
    assert (get(db, job).state, get(db, job).message) == ("failed", "No space is left. It was tried 2 times.")


def test_a_job_resumed_by_a_person_waits_for_nothing(db: Database) -> None:
    job = queue(db)
    taken = take(db)
    with db.session() as session:
        lease.give_back(session, lease.hold(session, job, taken.token, 60), "No space is left.", after=60)
    with db.session() as session:
        service.cancel(session, session.get_one(Job, job))
        service.resume(session, session.get_one(Job, job))
    assert take(db).job_id == job
