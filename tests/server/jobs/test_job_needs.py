"""Jobs that wait for others, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from server.jobs import claim, lease, service
from server.jobs.states import State
from server.store.db import Database
from server.store.models import Job, Outbox
from tests.server.jobs.jobs import HERE, get, queue


def take(db: Database) -> claim.Claim | None:
    with db.session() as session:
        return claim.claim(session, HERE, "cpu", 60)


def end(db: Database, taken: claim.Claim, state: State) -> None:
    with db.session() as session:
        lease.end(session, lease.hold(session, taken.job_id, taken.token, 60), state, "Ended.")


def behind(db: Database, *ids: str) -> str:
    """A job that needs the jobs `ids`."""
    with db.session() as session:
        needs = list(session.scalars(select(Job).where(Job.id.in_(ids))))
        values = {"stage": "scale", "resource_kind": "evaluation", "resource_id": "behind", "title": "Behind"}
        return service.enqueue(session, **values, spec={}, folder="jobs/behind", needs=needs).id


@pytest.mark.parametrize("how", [State.SUCCEEDED, State.FAILED])
def test_a_job_is_taken_only_when_all_it_needs_have_ended_and_its_bell_rings_then(db: Database, how: State) -> None:
    first, second = queue(db), queue(db)
    waiting = behind(db, first, second)
    one, two = take(db), take(db)
    assert (one.job_id, two.job_id, take(db)) == (first, second, None)
    end(db, one, how)
    assert take(db) is None, "one of two had ended"
    with db.session() as session:
        session.query(Outbox).delete()
    end(db, two, how)
    with db.reading() as session:
        assert list(session.scalars(select(Outbox.job_id))) == [waiting]
        assert set(session.get_one(Job, waiting).need_ids) == {first, second}
    assert take(db).job_id == waiting


def test_a_canceled_need_counts_as_ended_and_a_resumed_one_does_not(db: Database) -> None:
    first = queue(db)
    waiting = behind(db, first)
    with db.session() as session:
        service.cancel(session, session.get_one(Job, first))
        service.resume(session, session.get_one(Job, first))
    assert take(db).job_id == first
    assert take(db) is None
    with db.session() as session:
        service.cancel(session, session.get_one(Job, first))
        lease.end(session, session.get_one(Job, first), State.CANCELED, "Canceled.")
    assert take(db).job_id == waiting


def test_a_job_behind_another_holds_nobody_up(db: Database) -> None:
    first = queue(db)
    behind(db, first)
    other = queue(db)
    with db.reading() as session:
        assert claim.wanted(session)
    assert (take(db).job_id, take(db).job_id, take(db)) == (first, other, None)
    with db.reading() as session:
        assert not claim.wanted(session)


def test_no_worker_of_many_takes_a_job_before_its_needs(db: Database) -> None:
    chain = [queue(db)]
    for _ in range(7):
        chain.append(behind(db, chain[-1]))
    order: list[str] = []

    def worker(_: int) -> None:
        while len(order) < len(chain):
            if (taken := take(db)) is not None:
                order.append(taken.job_id)
                end(db, taken, State.SUCCEEDED)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worker, range(4)))
    assert order == chain
    assert {get(db, job).state for job in chain} == {State.SUCCEEDED}
