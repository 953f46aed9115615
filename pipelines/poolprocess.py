"""The life of one process of a pool: it is handed units of work and says through a pipe at which item it is."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipelines.contract import Stopped, die_with_parent
from pipelines.watch import Watch

# One thread each: the processes are the parallelism. Read by the libraries when a child imports them.
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_OUT_OF_MEMORY = 137
_CGROUP = Path("/sys/fs/cgroup/memory.max")


class _ChildWatch(Watch):
    """The watch inside a worker process; it speaks through the pipe."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self.pipe = pipe

    def _begin(self, name: str, size: int) -> None:
        self.pipe.send(("begin", (name, size)))

    def _end(self) -> None:
        self.pipe.send(("end", None))
        if self.pipe.poll():  # while a unit is at work the only word from above is to stop
            raise Stopped


def serve(pipe: Connection, parent: int) -> None:
    """Perform what comes through `pipe` until None or its end."""
    die_with_parent(parent)
    # The stage's own process decides when to stop; a signal to the whole group must not cut a file in two.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    _limit_memory()
    watch = _ChildWatch(pipe)
    with contextlib.suppress(EOFError, ConnectionError, Stopped):
        while task := pipe.recv():
            function, unit, watch.suspects, watch.condemned = task
            _answer(pipe, partial(function, unit, watch))


def _limit_memory() -> None:
    """Three quarters of the machine for one process: a file that wants all is refused before others are killed."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        memory = min(memory, int(_CGROUP.read_text()))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory * 3 // 4
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _answer(pipe: Connection, call: Callable[[], Any]) -> None:
    try:
        answer = ("done", call())
    except Stopped:
        raise
    except MemoryError:
        os._exit(_OUT_OF_MEMORY)  # as the kernel would have ended it a moment later: the item is to blame
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the stage's to hear
        answer = ("error", error)
    try:
        pipe.send(answer)
    except (TypeError, AttributeError, ValueError, ImportError) as error:  # what pickle raises
        pipe.send(("error", RuntimeError(f"{type(error).__name__} in an answer")))


def waits_for_disk(pid: int) -> bool:
    """Whether a process is in the kernel's uninterruptible sleep: the storage hangs, not the file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "D"
    except OSError:
        return False
