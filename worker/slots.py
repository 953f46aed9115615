"""A slot performs one job at a time: it claims, starts a supervisor and clears up should that be killed."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading

from server.jobs import claim, reaper
from server.jobs.claim import Claim, Claimant
from server.settings import Settings
from server.store.db import Database
from worker import process
from worker.bell import Bell

log = logging.getLogger("worker")


class Slot(threading.Thread):
    """One thread, one job. `stopping` is the whole worker's.

    Supervisors die with the thread that started them (PR_SET_PDEATHSIG goes by thread), so it outlives each of them.
    """

    def __init__(
        self, queue: str, settings: Settings, db: Database, me: Claimant, bell: Bell, stopping: threading.Event
    ) -> None:
        super().__init__(name=f"{queue} slot")
        self.queue, self.settings, self.db, self.me, self.bell = queue, settings, db, me, bell
        self.stopping = stopping
        self._supervisor: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Until the worker stops."""
        while not self.stopping.is_set():
            try:
                with self.db.session() as session:
                    taken = claim.claim(session, self.me, self.queue, self.settings.lease_seconds)
                if taken:
                    self._perform(taken)
                else:
                    self.bell.wait(self.queue, self.settings.poll_seconds)
            except Exception as error:  # noqa: BLE001 - a slot that dies of one bad moment would be missed for ever
                log.warning("%s: %s", self.name, type(error).__name__)
                self.bell.wait(self.queue, self.settings.poll_seconds)

    def stop(self) -> None:
        """Pass SIGTERM on. The worker has set `stopping` before."""
        if supervisor := self._supervisor:
            supervisor.terminate()

    def _perform(self, taken: Claim) -> None:
        root = self.settings.root
        own = {"INTRAMURAL_PARENT_PID": str(os.getpid()), "INTRAMURAL_SLOTS": str(self.settings.slots)}
        self._supervisor = subprocess.Popen(
            [sys.executable, "-m", "worker.supervise", taken.job_id, taken.token],
            env={**os.environ, **own, **process.marks(taken.job_id, taken.token, root)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        if self.stopping.is_set():
            self.stop()
        self._supervisor.wait()
        self._supervisor = None
        process.kill_marked(root, lambda m: (m.job_id, m.token) == (taken.job_id, taken.token))
        with self.db.session() as session:
            # A supervisor that ended by itself has let go of the job, and this does nothing.
            reaper.take_back(session, taken.job_id, taken.token, self.me.host, refund=self.stopping.is_set())
