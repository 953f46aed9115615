"""A data root with real workers on it; every process they start can be found by the mark it carries."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.jobs import service
from server.settings import Settings
from server.store.db import Database
from server.store.models import Base, Job, Outbox
from tests.databases import postgresql, redis

HERE = Path(__file__).parent
DEADLINE = 900.0  # a busy machine takes 100 seconds to start two ranks, and as long to judge a study
QUICK = {"HEARTBEAT_SECONDS": 1, "POLL_SECONDS": 1, "RETRY_SECONDS": 0}
# Long enough for a supervisor to start on a machine that is busy with other tests.
SHORT_LEASE = {"LEASE_SECONDS": 8, "SELF_STOP_SECONDS": 5}


class Office:
    """Workers, jobs and what became of them."""

    def __init__(self, root: Path, **urls: str) -> None:
        self.settings = Settings(data=root, **urls)
        self.root = self.settings.root
        self.db = Database(self.settings.database)
        Base.metadata.create_all(self.db.engine)
        self.urls = {key.upper(): value for key, value in urls.items()}
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **settings: object) -> subprocess.Popen[bytes]:
        """A worker process, on the quick settings unless told otherwise."""
        values = {"DATA": self.root, **self.urls, **QUICK, **settings}
        # This checkout too: whatever of it sitecustomize imports would come from where the package is installed.
        env = {**os.environ, "PYTHONPATH": f"{HERE / 'stages'}:{HERE.parents[1]}"}
        env |= {f"INTRAMURAL_{key}": str(value) for key, value in values.items()}
        with (self.root / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "worker", *arguments]
            self.workers.append(subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=HERE.parents[1]))
        return self.workers[-1]

    def queue(self, *, bell: bool = True, gpus: int = 0, stage: str = "counting", **spec: object) -> str:
        """A job with a folder of its own, a counting one unless told otherwise; `bell=False` loses its message."""
        values = {"stage": stage, "resource_kind": "cohort", "resource_id": "none", "title": "A test"}
        with self.db.session() as session:
            job = service.enqueue(session, spec=spec, folder=f"counts/{uuid.uuid4().hex}", gpus=gpus, **values)
            session.flush()
            if not bell:
                session.query(Outbox).delete()
            return job.id

    def folder(self, job_id: str) -> Path:
        return self.root / self.job(job_id).folder

    def job(self, job_id: str) -> Job:
        with self.db.reading() as session:
            return session.get_one(Job, job_id)

    def cancel(self, job_id: str) -> None:
        with self.db.session() as session:
            service.cancel(session, session.get_one(Job, job_id))

    def until(self, what: Callable[[], object]) -> None:
        """Wait for `what`; it must come, this is no measurement."""
        end = time.monotonic() + DEADLINE
        while not what():
            assert time.monotonic() < end, (self.root / "worker.log").read_text()[-3000:]
            time.sleep(0.05)

    def until_counted(self, job_id: str, number: int) -> None:
        """Until the stage works and has counted to `number` or more."""
        checkpoint = self.folder(job_id) / "events.jsonl"
        self.until(lambda: checkpoint.exists() and f'"done": {number},' in checkpoint.read_text())

    def until_ended(self, job_id: str) -> Job:
        self.until(lambda: self.job(job_id).finished_at)
        return self.job(job_id)

    def starts(self, job_id: str) -> list[int]:
        """From which number each start of the stage went on."""
        return [int(line.split()[1]) for line in (self.folder(job_id) / "starts.txt").read_text().splitlines()]

    def processes(self, job_id: str) -> dict[int, str]:
        """pid -> command of what lives of a job, read from /proc afresh."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"INTRAMURAL_JOB={job_id}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def family(self, job_id: str) -> dict[int, str]:
        """The processes of a job with `family=True` once all live: supervisor, stage, its child and grandchild."""
        self.until(lambda: len(self.processes(job_id)) == 4)
        return self.processes(job_id)

    def pid(self, job_id: str, command: str) -> int:
        """The one process of a job whose command holds `command`."""
        (found,) = [pid for pid, line in self.processes(job_id).items() if command in line]
        return found

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        with self.db.reading() as session:
            jobs = [job.id for job in session.query(Job)]
        for job in jobs:
            while left := self.processes(job):
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        self.db.engine.dispose()


@contextlib.contextmanager
def opened(backend: str, folder: Path) -> Iterator[Office]:
    """An office on SQLite and the filesystem broker, or as `production` on PostgreSQL and Redis."""
    with contextlib.ExitStack() as stack:
        urls = {}
        if backend == "production":
            urls["database_url"] = stack.enter_context(postgresql())
            urls["broker_url"] = stack.enter_context(redis(folder))
        (folder / "data").mkdir()
        made = Office(folder / "data", **urls)
        stack.callback(made.close)
        yield made


@pytest.fixture
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    """An office without a worker yet."""
    with opened(getattr(request, "param", "embedded"), tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """An office with a worker that outlives the test. Leases last minutes, so that nothing is mended by waiting."""
    with opened(getattr(request, "param", "embedded"), tmp_path_factory.mktemp("standing")) as made:
        made.start("--slots", "2", CANCEL_GRACE_SECONDS=2)
        yield made
