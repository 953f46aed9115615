"""One job from its claim to its end.

    python -m worker.supervise JOB_ID TOKEN

A process of its own for each job: it starts the stage, keeps the lease while the stage works, writes down what the
stage says, stops it when asked to, sees to it that nothing of it stays alive, and only then says how it ended. Every
write goes through `lease.hold`: when the token is no longer the job's, the stage is killed and nothing is written.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from pipelines.contract import Outcome
from server.jobs import claim, events, finish, lease, shares
from server.jobs.states import State
from server.settings import Settings
from server.store.db import Database
from server.store.models import GpuSlot, Job
from worker import launch, process
from worker.tail import Tail

AWAY = (OperationalError, InterfaceError)
"""The database cannot be reached, or not now."""
TICK = 0.1
FLUSH = 1.0
"""Seconds between two writes of a stage that has much to say."""
YIELDED = "Made room for another job."
STOPPED = "Stopped with its worker; it goes on from its last checkpoint."

log = logging.getLogger("supervise")


class Supervisor:
    """Times are seconds of the monotonic clock."""

    def __init__(self, settings: Settings, db: Database, job_id: str, token: str) -> None:
        self.settings, self.db = settings, db
        self.job_id, self.token = job_id, token
        self.parent = int(os.environ.get("INTRAMURAL_PARENT_PID", os.getppid()))
        self.terminated = False
        self.canceling = self.yielding = False
        self.renewed_at = self.tried_at = time.monotonic()
        self.ended: int | None = None

    def run(self) -> None:
        """Perform the job. Returns or raises with no descendant left."""
        process.kill_marked(self.settings.root, lambda m: m.job_id == self.job_id and m.token != self.token)
        try:
            job, gpus = self._begin()
            if not (self.folder / "result.json").exists():
                # Else an attempt before this one finished the work and died before it could say so.
                (self.folder / "outcome.json").unlink(missing_ok=True)
                self._watch(launch.start(job, gpus, self.settings), job.processes)
            process.kill_descendants(self._beat)
            self._settle()
        finally:
            process.kill_descendants(lambda: None)

    def terminate(self, *_: object) -> None:
        """SIGTERM: the worker stops, or has died."""
        self.terminated = True

    # ---- while the stage works -------------------------------------------------------------------------------

    def _begin(self) -> tuple[Job, list[str]]:
        asked_at = time.monotonic()
        with self.db.session() as session:
            job = lease.hold(session, self.job_id, self.token, self.settings.lease_seconds)
            job.pid = os.getpid()
            mine = select(GpuSlot.uuid).where(GpuSlot.job_id == job.id, GpuSlot.host == job.host)
            gpus = list(session.scalars(mine.order_by(GpuSlot.uuid)))
        self._renewed(asked_at)
        self.folder = self.settings.root / job.folder
        self.tail = Tail(self.folder / "events.jsonl", job.events_offset)
        return job, gpus

    def _watch(self, child: subprocess.Popen[bytes], processes: int) -> None:
        """Until the stage has ended, or was asked to and did not in time."""
        kill_at: float | None = None
        while child.poll() is None and (kill_at is None or time.monotonic() < kill_at):
            self._beat()
            if kill_at is None and (grace := self._grace()) is not None:
                kill_at = time.monotonic() + grace
                # torchrun would give its ranks 30 seconds; asked themselves they have all of the grace.
                ranks = process.children(child.pid) if processes > 1 else []
                for pid in ranks or [child.pid]:
                    process.send(pid, signal.SIGTERM)
            time.sleep(TICK)
        self.ended = child.returncode

    def _grace(self) -> float | None:
        """Seconds that the stage has to stop; None while it may go on."""
        if time.monotonic() - self.renewed_at > self.settings.self_stop_seconds:
            # It must be dead before the lease runs out and another worker begins.
            left = (self.settings.lease_seconds - self.settings.self_stop_seconds) / 2
            return min(self.settings.cancel_grace_seconds, left)
        if self.canceling or self.yielding or self.terminated or self._orphaned():
            return self.settings.cancel_grace_seconds
        return None

    def _orphaned(self) -> bool:
        return os.getppid() != self.parent

    def _beat(self) -> None:
        """Renew the lease and store what the stage said, when either is due. Raises LeaseLost."""
        due = FLUSH if self.tail.waiting() else self.settings.heartbeat_seconds
        asked_at = time.monotonic()
        if asked_at - self.tried_at < min(due, self.settings.heartbeat_seconds):
            return
        self.tried_at = asked_at
        try:
            with self.db.session() as session:
                job = lease.hold(session, self.job_id, self.token, self.settings.lease_seconds)
                said, offset = self.tail.read()
                events.append(session, job, said, offset)
                self.canceling = job.state == State.CANCELING
                self.yielding |= job.parent_id is not None and claim.wanted(session)
                shares.offer(session, job, self.settings.root, self.settings.share_from)
        except AWAY as error:
            log.warning("job %s: the database does not answer (%s)", self.job_id, type(error).__name__)
            return
        self.tail.offset = offset
        self._renewed(asked_at)

    def _renewed(self, asked_at: float) -> None:
        """The lease runs from `asked_at`, at the earliest. Just before it ends the kernel ends this process, and with
        it the stage: a dead man's switch, should it hang in a call or be suspended."""
        self.renewed_at = asked_at
        left = asked_at + 0.97 * self.settings.lease_seconds - time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, max(left, TICK))

    # ---- when it has ended -----------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Say how it ended; until the database answers, or the lease is over."""
        while True:
            try:
                with self.db.session() as session:
                    job = lease.hold(session, self.job_id, self.token, self.settings.lease_seconds)
                    self._drain(session, job)
                    lease.free_slots(session, job.id, job.host or "")
                    self._conclude(session, job)
                return
            except AWAY as error:
                log.warning("job %s: the database does not answer (%s)", self.job_id, type(error).__name__)
                time.sleep(FLUSH)

    def _drain(self, session: Session, job: Job) -> None:
        offset = -1
        while offset != self.tail.offset:
            offset = self.tail.offset
            said, self.tail.offset = self.tail.read()
            events.append(session, job, said, self.tail.offset)

    def _conclude(self, session: Session, job: Job) -> None:
        """By what the stage wrote, not by its exit code: torchrun answers 1 whatever its ranks said."""
        result = _read(self.folder / "result.json")
        outcome = _read(self.folder / "outcome.json") or {}
        kind, message = outcome.get("outcome"), str(outcome.get("message", ""))
        if result is not None:
            finish.apply(session, job, result, self.settings.root)
            lease.end(session, job, State.SUCCEEDED, "Finished.")
        elif kind == Outcome.BAD_INPUT:
            lease.end(session, job, State.FAILED, message)
        elif self.terminated and not self._orphaned() and kind in (Outcome.STOPPED, None):
            lease.give_back(session, job, STOPPED, refund=True)
        elif self.yielding and kind in (Outcome.STOPPED, None):
            lease.give_back(session, job, YIELDED, refund=True)
        elif kind == Outcome.STOPPED:
            lease.give_back(session, job, message)
        else:
            said = message if kind == Outcome.RETRY else f"The stage ended without an outcome ({_how(self.ended)})."
            lease.give_back(session, job, said, after=lease.pause(self.settings.retry_seconds, job.attempt))


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object that a stage wrote; NaN and infinity, which no database takes, become null."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _how(code: int | None) -> str:
    if code is None:
        return "it did not stop in time and was killed"
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def main(argv: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    settings = Settings()
    supervisor = Supervisor(settings, Database(settings.database), *argv)
    signal.signal(signal.SIGTERM, supervisor.terminate)
    process.terminate_with_parent()
    process.become_subreaper()
    try:
        supervisor.run()
    except lease.LeaseLost as error:
        log.warning("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
