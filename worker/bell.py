"""The bell: Celery carries job ids to waiting slots. What a message says decides nothing; a lost one is only late."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.exceptions import ChannelError, OperationalError

from server.jobs.outbox import QUEUES
from server.settings import Settings

TASK = "intramural.run_job"
BROKEN = (OperationalError, ChannelError, OSError)
"""What sending raises when the broker cannot be reached."""
AGAIN = 5.0

log = logging.getLogger("worker")


class Bell:
    """One bell for each queue; slots wait for theirs."""

    def __init__(self) -> None:
        self._rung = {queue: threading.Event() for queue in QUEUES}

    def ring(self) -> None:
        """Wake every slot that waits."""
        for event in self._rung.values():
            event.set()

    def wait(self, queue: str, seconds: float) -> None:
        """Until rung, at most so long. Look for a job after it, not before: what is rung meanwhile stays rung."""
        self._rung[queue].wait(seconds)
        self._rung[queue].clear()


def make_app(settings: Settings) -> Celery:
    """Messages are JSON, acknowledged at once, without results: the database knows what was done."""
    app = Celery("intramural", broker=settings.broker, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=False,
        task_default_queue=QUEUES[0],
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=settings.broker.startswith("redis"),
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=4,
        broker_transport_options=_transport(settings),
    )
    return app


def _transport(settings: Settings) -> dict[str, Any]:
    if not settings.broker.startswith("filesystem"):
        return {"socket_timeout": 10, "socket_connect_timeout": 4}
    folder = settings.root / "broker"
    messages = folder / "messages"
    messages.mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(folder / "control"),
        # Without it kombu looks once a second.
        "polling_interval": 0.1,
    }


def ringer(app: Celery) -> Callable[[str, str], None]:
    """A function (queue, job id) that sends one message; raises one of BROKEN when it cannot."""

    def ring(queue: str, job_id: str) -> None:
        app.send_task(TASK, (job_id,), queue=queue, retry=False)

    return ring


def listen(app: Celery, queues: list[str], bell: Bell, stopping: threading.Event) -> threading.Thread:
    """Ring `bell` for every message, in a thread that lasts as long as the process.

    A thread, because signals and the end of this process must not wait for a broker that hangs.
    """

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        bell.ring()

    def consume() -> None:
        while not stopping.is_set():
            options = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True}
            worker = app.WorkController(pool="solo", concurrency=1, queues=queues, loglevel="WARNING", **options)
            worker.start()
            # It only returns after an error that Celery calls unrecoverable, an unreadable message for one.
            stopping.wait(AGAIN)

    thread = threading.Thread(target=consume, name="bell", daemon=True)
    thread.start()
    return thread
