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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeVar

from pipelines.contract import Retry, RunFolder, Stopped, die_with_parent

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Item = TypeVar("Item")

CRASH, TIMEOUT = "crash", "timeout"
"""Why an item was condemned."""
# One thread each: the processes are the parallelism. Read by the libraries when a child imports them.
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
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
_OUT_OF_MEMORY = 137


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
class Progress:
    """How far a step is, in items, whoever did them."""

    run: RunFolder
    total: int | None
    what: str
    done: int = 0

    def add(self, items: int = 1) -> None:
        """Count items; negative when a dead process's items will be done again."""
        self.done += items
        self.run.progress(self.done, self.total, self.what)


class Watch:
    """What the function of a unit tells the pool while it works. This one works in the stage's own process."""

    def __init__(self, run: RunFolder | None = None, progress: Progress | None = None) -> None:
        self.run, self.progress = run, progress
        self.suspects: frozenset[str] = frozenset()
        self.condemned: dict[str, str] = {}

    def over(
        self, items: Sequence[Item], name: Callable[[Item], str], size: Callable[[Item], int | None] | None = None
    ) -> Iterator[tuple[Item, str | None]]:
        """Each item with CRASH or TIMEOUT when it must be left out, else None.

        Suspects come first, so nothing may depend on the order. `name` is unique in the unit, `size` is in bytes.
        Raises Stopped between items when the stage was asked to stop.
        """
        for item in sorted(items, key=lambda i: name(i) not in self.suspects):
            fate = self.condemned.get(name(item))
            if fate is None:
                self._begin(name(item), size(item) or 0 if size else 0)
            yield item, fate
            self._end()

    def _begin(self, name: str, size: int) -> None:
        pass

    def _end(self) -> None:
        if self.progress:
            self.progress.add()
        if self.run:
            self.run.check_stop()


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
        process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
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
            if worker.deadline and time.monotonic() > worker.deadline and not _waits_for_disk(worker.process.pid):
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


def _waits_for_disk(pid: int) -> bool:
    """Whether a process is in the kernel's uninterruptible sleep: the storage hangs, not the file."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "D"
    except OSError:
        return False


def _serve(pipe: Connection, parent: int) -> None:
    """The life of a worker process."""
    die_with_parent(parent)
    # The stage's own process decides when to stop; a signal to the whole group must not cut a file in two.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    watch = _ChildWatch(pipe)
    with contextlib.suppress(EOFError, ConnectionError, Stopped):
        while task := pipe.recv():
            function, unit, watch.suspects, watch.condemned = task
            _answer(pipe, partial(function, unit, watch))


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
