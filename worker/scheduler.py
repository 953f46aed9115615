"""Housekeeping: the reaper, the outbox's publisher, and on a worker's host what killed workers left behind.

    python -m worker.scheduler

Every worker does it too; on PostgreSQL an advisory lock lets one at a time, on SQLite there is little to disagree on.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine, func, select

from server.jobs import lease, outbox, reaper
from server.jobs.claim import Claimant
from server.settings import Settings
from server.store.db import Database
from worker import host, process
from worker.bell import BROKEN, make_app, ringer
from worker.supervise import AWAY

LOCK = 0x1317A
TICK = 0.5

log = logging.getLogger("worker")


class Leader:
    """An advisory lock held on a connection of its own; the server frees it when the connection is gone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def leads(self) -> bool:
        """Whether this process is the one; tries to become it."""
        if self._engine.dialect.name != "postgresql":
            return True
        try:
            if self._connection is None:
                self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            return bool(self._connection.scalar(select(func.pg_try_advisory_lock(LOCK))))
        except AWAY:
            if self._connection is not None:
                self._connection.invalidate()
                self._connection.close()
                self._connection = None
            raise


class Scheduler:
    """`tick` does what is due; nothing it meets in database or broker ends it."""

    def __init__(self, settings: Settings, db: Database, ring: Callable[[str, str], None]) -> None:
        self._settings, self._db, self._ring = settings, db, ring
        self._leader = Leader(db.engine)
        self._reaped_at = float("-inf")

    def tick(self) -> None:
        """Publish, and reap once in a heartbeat."""
        try:
            if not self._leader.leads():
                return
            if time.monotonic() - self._reaped_at >= self._settings.heartbeat_seconds:
                with self._db.session() as session:
                    reaper.reap(session)
                self._reaped_at = time.monotonic()
            outbox.publish(self._db, self._ring)
        except AWAY as error:
            log.warning("the database does not answer (%s)", type(error).__name__)
        except BROKEN as error:
            log.warning("the broker does not answer (%s); workers poll meanwhile", type(error).__name__)


def sweep(settings: Settings, db: Database, me: Claimant) -> None:
    """Clear this host of what has no keeper: jobs of dead supervisors, processes of lost leases, GPUs of neither."""
    with db.reading() as session:
        held = reaper.live_on(session, me.host, me.boot_id)
    for job in held:
        if host.alive(job.pid) or job.lease_token is None:
            continue
        gone = (job.id, job.lease_token)
        process.kill_marked(settings.root, lambda m, gone=gone: (m.job_id, m.token) == gone)  # type: ignore[misc]
        with db.session() as session:
            reaper.take_back(session, *gone, me.host)
    _end_strays(settings, db, None)
    with db.reading() as session:
        abandoned = reaper.abandoned_slots(session, me.host)
    for job_id in abandoned:
        _end_strays(settings, db, job_id)
        with db.session() as session:
            lease.free_slots(session, job_id, me.host)


def _end_strays(settings: Settings, db: Database, job_id: str | None) -> None:
    """Kill processes that were started under a token that no longer holds their job."""
    # The processes first: a token read before could be older than a process that was started in between.
    found = process.marked(settings.root)
    with db.reading() as session:
        held = reaper.tokens(session, {m.job_id for m in found})
    stray = {m.pid for m in found if m.job_id in held and held[m.job_id] != m.token}
    process.kill_marked(settings.root, lambda m: m.pid in stray and job_id in (None, m.job_id))


def main() -> int:
    """Reap and publish until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    settings = Settings()
    scheduler = Scheduler(settings, Database(settings.database), ringer(make_app(settings)))
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopped.append(number))
    while not stopped:
        scheduler.tick()
        time.sleep(TICK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
