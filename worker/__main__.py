"""A worker: slots that perform jobs, the bell that wakes them, and housekeeping.

    python -m worker [--slots N] [--queues cpu,gpu]

SIGTERM stops it in good order: stages save what they have and their jobs return to the queue.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time

from server.jobs.outbox import QUEUES
from server.settings import Settings
from server.store.db import Database
from worker import host
from worker.bell import Bell, listen, make_app, ringer
from worker.scheduler import TICK, Scheduler, sweep
from worker.slots import Slot
from worker.supervise import AWAY

log = logging.getLogger("worker")


class Worker:
    """The main thread keeps house; every slot is a thread."""

    def __init__(self, settings: Settings, queues: list[str]) -> None:
        self.settings = settings
        self.queues = queues
        self.db = Database(settings.database)
        self.me = host.claimant()
        self.bell = Bell()
        self.stopping = threading.Event()
        self.signaled = False

    def run(self) -> None:
        """Until `signaled`; then until every job was handed back."""
        slots = self._slots()
        self._sweep()
        app = make_app(self.settings)
        scheduler = Scheduler(self.settings, self.db, ringer(app))
        listen(app, self.queues, self.bell, self.stopping)
        for slot in slots:
            slot.start()
        log.info("worker %s: %d slots (%s)", self.me.worker, len(slots), ", ".join(s.queue for s in slots) or "none")
        swept_at = time.monotonic()
        while not self.signaled:
            scheduler.tick()
            if time.monotonic() - swept_at >= self.settings.poll_seconds:
                self._sweep()
                swept_at = time.monotonic()
            time.sleep(TICK)
        self.stopping.set()
        self.bell.ring()
        for slot in slots:
            slot.stop()
        for slot in slots:
            slot.join()

    def stop(self, *_: object) -> None:
        """Signal handler. It sets no Event: the signal may have come while this thread held that one's lock."""
        self.signaled = True

    def _slots(self) -> list[Slot]:
        """As many CPU slots as the settings say and one slot for each GPU."""
        found = host.gpus() if "gpu" in self.queues else {}
        while found:
            try:
                with self.db.session() as session:
                    host.register_gpus(session, self.me.host, found)
                break
            except AWAY:
                time.sleep(TICK)
        kinds = ["cpu"] * self.settings.slots * ("cpu" in self.queues) + ["gpu"] * len(found)
        return [Slot(kind, self.settings, self.db, self.me, self.bell, self.stopping) for kind in kinds]

    def _sweep(self) -> None:
        try:
            sweep(self.settings, self.db, self.me)
        except AWAY as error:
            log.warning("the database does not answer (%s)", type(error).__name__)


def main(argv: list[str] | None = None) -> int:
    """Entry of `python -m worker`."""
    parser = argparse.ArgumentParser(prog="python -m worker", description="Perform queued jobs.")
    parser.add_argument("--slots", type=int, help="CPU jobs at once (INTRAMURAL_SLOTS)")
    parser.add_argument("--queues", default=",".join(QUEUES), help="which jobs: cpu, gpu or both (cpu,gpu)")
    given = parser.parse_args(argv)
    queues = given.queues.split(",")
    if unknown := set(queues) - set(QUEUES):
        parser.error(f"there is no queue {', '.join(sorted(unknown))}; choose from {', '.join(QUEUES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    for chatty in ("celery", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    worker = Worker(Settings() if given.slots is None else Settings(slots=given.slots), queues)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
