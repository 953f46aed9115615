"""Claiming, leases, GPUs, the outbox and events, on both databases."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from server.jobs import claim, events, lease, outbox, reaper, service
from server.jobs.states import IllegalTransition, State
from server.store.db import Database
from server.store.models import GpuSlot, Job, JobEvent, Outbox
from tests.server.jobs.jobs import HERE, THERE, expire, get, queue


def take(db: Database, me=HERE, kind: str = "cpu", seconds: float = 60) -> claim.Claim | None:
    with db.session() as session:
        return claim.claim(session, me, kind, seconds)


def add_gpus(db: Database, host: str, count: int) -> None:
    with db.session() as session:
        session.add_all(GpuSlot(uuid=f"GPU-{host}-{n}", host=host, name="a GPU") for n in range(count))


def test_each_job_is_claimed_once_by_many_at_once(db: Database) -> None:
    jobs = {queue(db) for _ in range(24)}

    def worker(_: int) -> list[str]:
        mine = []
        while taken := take(db):
            mine.append(taken.job_id)
        return mine

    with ThreadPoolExecutor(6) as pool:
        claimed = [job for mine in pool.map(worker, range(6)) for job in mine]
    assert sorted(claimed) == sorted(jobs)
    assert all(get(db, job).attempt == 1 for job in jobs)


def test_the_oldest_comes_first_and_queues_are_apart(db: Database) -> None:
    add_gpus(db, "here", 1)
    gpu, first, second = queue(db, gpus=1), queue(db), queue(db)
    assert [take(db).job_id, take(db).job_id, take(db)] == [first, second, None]
    assert take(db, kind="gpu").job_id == gpu


def test_gpus_are_leased_with_the_job_whole_or_not_at_all(db: Database) -> None:
    add_gpus(db, "here", 3)
    two, other = queue(db, gpus=2), queue(db, gpus=2)
    assert take(db, kind="gpu").job_id == two
    assert take(db, kind="gpu") is None
    with db.reading() as session:
        leased = session.scalars(select(GpuSlot.job_id)).all()
    assert sorted(map(str, leased)) == sorted([two, two, "None"])
    assert get(db, other).state == State.QUEUED


def test_a_job_too_big_for_this_host_does_not_block_it_but_a_waiting_one_keeps_its_place(db: Database) -> None:
    add_gpus(db, "here", 2)
    add_gpus(db, "there", 4)
    big, busy = queue(db, gpus=4), queue(db, gpus=1)
    assert take(db, kind="gpu").job_id == busy
    whole, small = queue(db, gpus=2), queue(db, gpus=1)
    assert take(db, kind="gpu") is None, "a smaller job overtook the one that waits for both GPUs"
    assert take(db, THERE, "gpu").job_id == big
    assert {get(db, whole).state, get(db, small).state} == {State.QUEUED}


def test_gpus_of_a_lost_job_stay_leased_until_its_host_has_looked(db: Database) -> None:
    add_gpus(db, "here", 1)
    job = queue(db, gpus=1)
    take(db, kind="gpu")
    expire(db, job)
    with db.session() as session:
        assert reaper.reap(session) == [job]
    assert take(db, kind="gpu") is None
    with db.session() as session:
        assert reaper.abandoned_slots(session, "here") == {job}
        assert reaper.abandoned_slots(session, "there") == set()
        lease.free_slots(session, job, "here")
    assert take(db, kind="gpu").job_id == job


def test_a_renewed_lease_is_not_reaped_and_a_lost_one_cannot_be_renewed(db: Database) -> None:
    job = queue(db)
    old = take(db)
    expire(db, job)
    with db.session() as session:
        lease.hold(session, job, old.token, 60)
    with db.session() as session:
        assert reaper.reap(session) == []
    expire(db, job)
    with db.session() as session:
        assert reaper.reap(session) == [job]
    new = take(db, THERE)
    with pytest.raises(lease.LeaseLost), db.session() as session:
        lease.hold(session, job, old.token, 60)
    with db.session() as session:
        assert lease.hold(session, job, new.token, 60).host == "there"


def test_attempts_are_counted_unless_the_worker_stopped_in_good_order(db: Database) -> None:
    job = queue(db, max_attempts=2)
    for refund, state in ((True, "queued"), (False, "queued"), (True, "queued"), (False, "failed")):
        taken = take(db)
        with db.session() as session:
            lease.give_back(session, lease.hold(session, job, taken.token, 60), "It broke.", refund=refund)
        assert get(db, job).state == state
        # A job that is queued again has to wake a worker as a new one does.
        rung: list[str] = []
        outbox.publish(db, lambda _, job_id, rung=rung: rung.append(job_id))
        assert set(rung) == ({job} if state == "queued" else set())
    assert get(db, job).message == "It broke. It was tried 2 times."
    with db.session() as session:
        service.resume(session, session.get_one(Job, job))
    assert (get(db, job).state, get(db, job).attempt, get(db, job).finished_at) == ("queued", 0, None)


def test_take_back_needs_the_token(db: Database) -> None:
    job = queue(db)
    taken = take(db)
    with db.session() as session:
        assert not reaper.take_back(session, job, "another", "here")
    assert get(db, job).state == State.RUNNING
    with db.session() as session:
        assert [j.id for j in reaper.live_on(session, "here", "boot")] == [job]
        assert reaper.live_on(session, "here", "an earlier boot") == []
        assert reaper.take_back(session, job, taken.token, "here")
    assert get(db, job).state == State.QUEUED


def test_cancel_while_running_ends_as_canceled_whatever_way_it_is_given_back(db: Database) -> None:
    job = queue(db)
    take(db)
    with db.session() as session:
        service.cancel(session, session.get_one(Job, job))
        service.cancel(session, session.get_one(Job, job))
    assert get(db, job).cancel_requested_at
    expire(db, job)
    with db.session() as session:
        reaper.reap(session)
    assert get(db, job).state == State.CANCELED


@pytest.mark.slow
@pytest.mark.parametrize("db", ["postgresql"], indirect=True)  # SQLite lets nobody write in between
def test_cancel_decides_by_the_row_and_not_by_what_the_caller_once_read(db: Database) -> None:
    job = queue(db)
    with db.session() as session:
        read = session.get_one(Job, job)
        take(db)
        service.cancel(session, read)
    assert get(db, job).state == State.CANCELING


def test_an_older_job_is_not_resumed_behind_a_newer_one_of_the_same_thing(db: Database) -> None:
    old = queue(db, resource_id="thing")
    with db.session() as session:
        service.cancel(session, session.get_one(Job, old))
    queue(db, resource_id="thing")
    with pytest.raises(IllegalTransition), db.session() as session:
        service.resume(session, session.get_one(Job, old))


def test_the_outbox_rings_after_the_commit_and_keeps_what_could_not_be_sent(db: Database) -> None:
    with pytest.raises(RuntimeError), db.session() as session:
        service.enqueue(
            session, stage="x", resource_kind="run", resource_id="r", title="t", spec={}, folder="f", gpus=1
        )
        raise RuntimeError
    job, gpu = queue(db), queue(db, gpus=2)
    rung: list[tuple[str, str]] = []

    def broken(queue_: str, job_id: str) -> None:
        raise OSError

    with pytest.raises(OSError):
        outbox.publish(db, broken)
    assert outbox.publish(db, lambda *bell: rung.append(bell)) == 2
    assert rung == [("cpu", job), ("gpu", gpu)]
    assert outbox.publish(db, broken) == 0
    with db.reading() as session:
        assert session.query(Outbox).count() == 0


def test_events_become_rows_and_progress(db: Database) -> None:
    job = queue(db)
    taken = take(db)
    lines = [
        {"time": 1_700_000_000.5, "kind": "log", "level": "info", "message": "Began."},
        {"time": 1_700_000_001, "kind": "progress", "done": 1, "total": 3, "what": "reading"},
        {"time": 1e300, "kind": "metric", "step": 1, "values": {"loss": float("nan")}},
        {"time": None, "kind": "progress", "done": 3, "total": 3, "what": "reading"},
        {"time": 1, "kind": "secret", "value": 1},
    ]
    raw = [json.dumps(line).encode() for line in lines] + [b'{"kind": "log", "mess', b"", b"[]", b"\xff\xfe", b"1"]
    said = [event for line in raw if (event := events.parse(line))]
    with db.session() as session:
        events.append(session, lease.hold(session, job, taken.token, 60), said, 99)
    row = get(db, job)
    assert (row.events_offset, row.progress) == (99, {"done": 3, "total": 3, "what": "reading"})
    with db.reading() as session:
        rows = events.since(session, job)
        assert [r.kind for r in rows] == ["log", "metric", "progress"]
        assert rows[0].data == {"level": "info", "message": "Began."}
        assert rows[0].time.isoformat() == "2023-11-14T22:13:20.500000"
        assert rows[1].data["values"] == {"loss": None}
        assert [r.id for r in events.since(session, job, rows[0].id, 1)] == [rows[1].id]
        assert session.query(JobEvent).count() == 3


def test_messages_are_stored_whatever_they_hold(db: Database) -> None:
    job = queue(db)
    taken = take(db)
    with db.session() as session:
        held = lease.hold(session, job, taken.token, 60)
        lease.end(session, held, State.FAILED, "No\0 such \ud800 thing. " + "x" * 5000)
    assert get(db, job).message.startswith("No such ? thing. xx")
