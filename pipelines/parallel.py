"""A pool of processes for the CPU stages: units of work over processes, and none of them outlives the stage.

A unit may consist of items, files most often, that run foreign code on foreign bytes. A decoder that crashes its
process, a file that exhausts memory and one that never ends cost that one item: the pool knows which item a dead
process was at, tries it once more with nothing else running, and then condemns it: the unit's function is called again
and told to leave that item out.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from pipelines.contract import Retry, RunFolder
from pipelines.poolprocess import THREAD_LIMITS, serve, waits_for_disk
from pipelines.watch import CRASH, TIMEOUT, Progress, Watch

Unit = TypeVar("Unit")
Result = TypeVar("Result")

ISOLATE = True
"""False lets one worker work in the stage's own process, without protection, for debuggers and tests that patch."""
ITEM_SECONDS = 300.0
BYTES_A_SECOND = 1_000_000
"""An item may take ITEM_SECONDS and a second more for each so many bytes."""
# A process that was killed from outside (the kernel short of memory, a person) says less against its item.
STRIKES, STRIKES_IF_KILLED = 2, 3
MOST_LOSSES = 3
GRACE = 20.0
TICK = 0.25


def worker_count(workers: int) -> int:
    """`workers`, or the cores this process may use for 0."""
    return workers or len(os.sched_getaffinity(0))


def map_unordered(
    function: Callable[[Unit], Result], units: Iterable[Unit], workers: int, run: RunFolder
) -> Iterator[Result]:
    """Yield `function(unit)` of every unit as it finishes, in any order, over spawned processes.

    For units that run no foreign code; one worker works in this process. Raises Stopped after SIGTERM and Retry when
    processes die again and again.
    """
    with Pool(workers, run, isolate=False) as pool:
        yield from pool.map(partial(_without_items, function), units)


def _without_items(function: Callable[[Unit], Result], unit: Unit, _: Watch) -> Result:
    return function(unit)


@dataclass
class _Task:
    """A unit and what is known of its items."""

    unit: Any
    strikes: Counter[str] = field(default_factory=Counter)
    condemned: dict[str, str] = field(default_factory=dict)
    losses: int = 0

    @property
    def suspects(self) -> frozenset[str]:
        return frozenset(self.strikes.keys() - self.condemned.keys())


@dataclass
class _Worker:
    """A process as its pool sees it."""

    process: Any
    pipe: Connection
    task: _Task | None = None
    item: str | None = None
    deadline: float = 0.0
    overdue: bool = False
    items: int = 0
    alone: bool = False
    """Nothing else may run: it is at, or not past, an item that a process died of."""


class Pool:
    """`workers` processes (0: one per core), used as a context manager; they start when there is work for them.

    The functions given to `map` are called as `function(unit, watch)`; they and their units travel by pickle, through
    pipes only. The order of results is the order of completion: nothing may depend on it.
    """

    def __init__(
        self, workers: int, run: RunFolder, *, isolate: bool | None = None, item_seconds: float = ITEM_SECONDS
    ) -> None:
        self.workers = worker_count(workers)
        self.run = run
        self.item_seconds = item_seconds
        self._inside = self.workers == 1 and not (ISOLATE if isolate is None else isolate)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._dismiss()

    def map(
        self,
        function: Callable[[Unit, Watch], Result],
        units: Iterable[Unit | None],
        progress: Progress | None = None,
    ) -> Iterator[Result]:
        """Results as units finish. Units are drawn lazily; None means that there is none just now.

        Raises Stopped after SIGTERM, Retry when processes die outside any item, and what a unit's function raises.
        """
        drawn, again = iter(units), deque[_Task]()
        if self._inside:
            yield from self._map_inside(function, drawn, progress)
            return
        try:
            more = True
            while True:
                self.run.check_stop()
                more = self._assign(function, drawn, again, more)
                if not self._busy and not more and not again:
                    return
                yield from self._listen(again, progress)
        finally:
            if self._busy:
                self._dismiss()

    def _map_inside(
        self, function: Callable[[Unit, Watch], Result], units: Iterator[Unit | None], progress: Progress | None
    ) -> Iterator[Result]:
        watch = Watch(self.run, progress)
        for unit in units:
            self.run.check_stop()
            if unit is None:
                time.sleep(TICK)
            else:
                yield function(unit, watch)

    # ---- giving work out -----------------------------------------------------------------------------------------

    def _assign(self, function: Callable[..., Any], units: Iterator[Any], again: deque[_Task], more: bool) -> bool:
        """Give work to every free process; returns whether more units may come."""
        while len(self._busy) < self.workers and not any(worker.alone for worker in self._busy):
            if again:
                if again[0].suspects and self._busy:
                    return more
                task = again.popleft()
            elif more:
                unit = next(units, _END)
                if unit is _END:
                    return False
                if unit is None:
                    return True
                task = _Task(unit)
            else:
                return False
            self._give(function, task)
        return more

    def _give(self, function: Callable[..., Any], task: _Task) -> None:
        worker = self._idle.pop() if self._idle else self._start()
        worker.task, worker.item, worker.items = task, None, 0
        worker.deadline, worker.overdue, worker.alone = 0.0, False, bool(task.suspects)
        self._busy.append(worker)
        with contextlib.suppress(OSError):  # it died while idle: found at its end of the pipe
            worker.pipe.send((function, task.unit, task.suspects, task.condemned))

    def _start(self) -> _Worker:
        for name in THREAD_LIMITS:
            os.environ.setdefault(name, "1")
        # spawn, not fork: the stage may hold threads, and the kernel ties a child to the thread that made it.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    # ---- hearing of it -------------------------------------------------------------------------------------------

    def _listen(self, again: deque[_Task], progress: Progress | None) -> Iterator[Any]:
        """Handle what the busy processes say, or that they are dead, for at most TICK seconds."""
        pipes = {worker.pipe: worker for worker in self._busy}
        if not pipes:
            time.sleep(TICK)
        for pipe in wait(list(pipes), timeout=TICK):
            worker = pipes[pipe]  # type: ignore[index]
            while worker.task and worker.pipe.poll():
                try:
                    kind, value = worker.pipe.recv()
                except (EOFError, OSError):  # the end, perhaps in the middle of a message
                    self._bury(worker, again, progress)
                    break
                if kind == "done":
                    self._busy.remove(worker)
                    self._idle.append(worker)
                    worker.task = None
                    yield value
                elif kind == "error":
                    raise value
                else:
                    self._note(worker, kind, value, progress)
        self._end_overdue()

    def _note(self, worker: _Worker, kind: str, value: Any, progress: Progress | None) -> None:
        if kind == "begin":
            worker.item, size = value
            worker.deadline = time.monotonic() + self.item_seconds + size / BYTES_A_SECOND
            worker.alone = worker.task is not None and worker.item in worker.task.suspects
            return
        worker.item, worker.deadline = None, 0.0
        worker.items += 1
        if progress:
            progress.add()

    def _end_overdue(self) -> None:
        for worker in self._busy:
            if worker.deadline and time.monotonic() > worker.deadline and not waits_for_disk(worker.process.pid):
                worker.overdue = True
                worker.process.kill()

    def _bury(self, worker: _Worker, again: deque[_Task], progress: Progress | None) -> None:
        """A process is dead: count it against the item it was at, and have its unit done again."""
        self._busy.remove(worker)
        worker.process.join()
        worker.pipe.close()
        task = worker.task
        assert task is not None  # noqa: S101 - only busy processes are listened to
        if progress:
            progress.add(-worker.items)
        if worker.item is None:
            task.losses += 1
            if task.losses >= MOST_LOSSES:
                raise Retry("Worker processes die again and again, perhaps for want of memory; start with fewer.")
        else:
            task.strikes[worker.item] += 1
            killed = worker.process.exitcode == -signal.SIGKILL and not worker.overdue
            if task.strikes[worker.item] >= (STRIKES_IF_KILLED if killed else STRIKES):
                task.condemned[worker.item] = TIMEOUT if worker.overdue else CRASH
        again.append(task)

    def _dismiss(self) -> None:
        """End every process: those at work after the item they are at, if that takes no longer than GRACE."""
        workers, self._busy, self._idle = [*self._busy, *self._idle], [], []
        for worker in workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
        end = time.monotonic() + GRACE
        for worker in workers:
            while worker.process.is_alive() and time.monotonic() < end:
                with contextlib.suppress(EOFError, OSError):
                    while worker.pipe.poll(0.05):  # or it could not get rid of what it has to say
                        worker.pipe.recv()
                worker.process.join(0.05)
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()


_END = object()
