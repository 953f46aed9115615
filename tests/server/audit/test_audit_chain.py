"""The chain: what breaks it is found, and appending from many sides never forks it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from server.access import COMMAND_LINE, Caller
from server.audit import Action, head, record, recorded
from server.audit.log import GENESIS, digest, verify
from server.security import signing
from server.settings import Settings
from server.store.db import Database
from server.store.migrate import upgrade
from server.store.models import Audit, SignInAttempt, now


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    upgrade(database_url)
    made = Database(database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(data=tmp_path / "data")
    signing.ensure_key_pair(made)
    return made


def write(db: Database, count: int = 1) -> None:
    for n in range(count):
        with db.session() as session:
            record(session, COMMAND_LINE, Action.SITE_CREATE, f"site:{n}", name="größe", n=n)


def check(db: Database, settings: Settings):
    with db.reading() as session:
        return verify(session, head.read(settings))


def test_a_whole_chain_is_whole(db, settings):
    assert check(db, settings).ok, "an empty log is whole"
    write(db, 5)
    head.advance(db, settings)
    verdict = check(db, settings)
    assert (verdict.ok, verdict.rows) == (True, 5)
    with db.reading() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
    assert [r.previous for r in rows] == [GENESIS, *(r.hash for r in rows[:-1])]


@pytest.mark.parametrize(
    "values",
    [
        {"actor": "eve"},
        {"action": "export:release"},
        {"subject": "site:9"},
        {"detail": {"n": 9}},
        {"time": now()},
    ],
    ids=lambda v: next(iter(v)),
)
def test_a_changed_row_is_found(db, settings, values):
    write(db, 4)
    head.advance(db, settings)
    with db.session() as session:
        second = session.scalars(select(Audit.id).order_by(Audit.id)).all()[1]
        session.execute(update(Audit).where(Audit.id == second).values(**values))
    verdict = check(db, settings)
    assert (verdict.ok, verdict.broken) == (False, second)


def test_a_removed_row_is_found(db, settings):
    write(db, 4)
    head.advance(db, settings)
    with db.session() as session:
        ids = session.scalars(select(Audit.id).order_by(Audit.id)).all()
        session.execute(delete(Audit).where(Audit.id == ids[1]))
    verdict = check(db, settings)
    assert (verdict.ok, verdict.broken) == (False, ids[2])


def test_rows_cut_off_the_end_are_found(db, settings):
    write(db, 4)
    head.advance(db, settings)
    with db.session() as session:
        session.execute(delete(Audit).where(Audit.id == session.scalars(select(Audit.id).order_by(Audit.id)).all()[-1]))
    assert "cut off" in check(db, settings).reason
    write(db, 2)  # and cannot be hidden by writing on
    assert "cut off" in check(db, settings).reason


def test_a_chain_written_anew_is_found(db, settings):
    """Who can write the database can rehash all of it, but cannot sign the head."""
    write(db, 3)
    head.advance(db, settings)
    with db.session() as session:
        rows = session.scalars(select(Audit).order_by(Audit.id)).all()
        session.execute(delete(Audit))
        session.expunge_all()
        previous = GENESIS
        for row in rows:
            values = {c: getattr(row, c) for c in ("id", "time", "action", "subject", "detail")}
            new = Audit(**values, actor="eve", previous=previous, hash="")
            new.hash = previous = digest(new)
            session.add(new)
            session.flush()
    assert not check(db, settings).ok


def test_a_missing_head_is_found(db, settings):
    write(db, 2)
    assert "head is missing" in check(db, settings).reason


def test_a_head_that_covers_the_last_row_is_not_written_again(db, settings):
    """A burst of requests must not queue for one sync each."""
    write(db)
    head.advance(db, settings)
    before = settings.audit_head.stat().st_ino
    head.advance(db, settings)
    assert settings.audit_head.stat().st_ino == before
    write(db)
    head.advance(db, settings)
    assert settings.audit_head.stat().st_ino != before
    assert check(db, settings).ok


def test_what_is_rolled_back_leaves_no_row(db):
    with pytest.raises(ZeroDivisionError), db.session() as session:
        record(session, COMMAND_LINE, Action.SITE_CREATE, "site:1")
        raise ZeroDivisionError
    write(db)
    with db.reading() as session:
        assert [r.subject for r in session.scalars(select(Audit))] == ["site:0"]


def test_one_transaction_may_note_several_things(db, settings):
    with db.session() as session:
        assert not recorded(session)
        record(session, COMMAND_LINE, Action.SITE_CREATE, "site:1")
        record(session, Caller("ada", token_id="t1"), Action.SITE_CREATE, "site:2")
        assert recorded(session)
    head.advance(db, settings)
    assert check(db, settings).rows == 2
    with db.reading() as session:
        assert session.scalars(select(Audit.detail).order_by(Audit.id)).all() == [{}, {"token": "t1"}]


def test_the_database_refuses_a_fork(db):
    write(db)
    with pytest.raises(IntegrityError), db.session() as session:
        session.add(Audit(time=now(), actor="a", action="b", subject="c", detail={}, previous=GENESIS, hash="1" * 64))


def test_many_writers_make_one_chain(db, settings):
    """Each transaction also writes elsewhere, before and after it notes, so that locks are taken in every order."""
    errors: list[BaseException] = []

    def work(who: int) -> None:
        try:
            for n in range(10):
                with db.session() as session:
                    session.add(SignInAttempt(key=f"{who}"))
                    session.flush()
                    record(session, COMMAND_LINE, Action.SITE_CREATE, f"site:{who}-{n}")
                    session.add(SignInAttempt(key=f"{who}"))
                head.advance(db, settings)
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    verdict = check(db, settings)
    assert (verdict.ok, verdict.rows) == (True, 80)
    with db.reading() as session:
        last = session.scalar(select(Audit.hash).order_by(Audit.id.desc()).limit(1))
    assert (head.read(settings) or {})["hash"] == last, "the slowest writer did not put an older head"
