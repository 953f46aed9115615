"""Units of work over processes: progress from inside a unit, stop between files, no worker outlives the stage."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from pipelines.contract import Retry, RunFolder, Stopped, die_with_parent

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Tick = Callable[[], None]
"""Called by a unit after each file: counts it, and raises Stopped when the stage was asked to stop."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_done: Any = None
_stop: Any = None


class Pool:
    """`workers` processes (0: one per core; 1: this process itself), used as a context manager.

    The functions given to `map` are called as `function(unit, tick)`; they and their units travel by pickle, through
    pipes only. The order of results is the order of completion: nothing may depend on it.
    """

    def __init__(self, workers: int, run: RunFolder) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self.run = run
        self._executor: ProcessPoolExecutor | None = None
        if self.workers > 1:
            # spawn, not fork: the stage may hold threads, and the kernel ties a child to the thread that made it.
            context = multiprocessing.get_context("spawn")
            self._done, self._stop = context.Value("q", 0), context.Event()
            arguments = (os.getpid(), self._done, self._stop)
            self._executor = ProcessPoolExecutor(self.workers, context, _start_worker, arguments)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor:
            self._stop.set()
            self._executor.shutdown(wait=True, cancel_futures=True)

    def map(
        self, function: Callable[[Unit, Tick], Result], units: Sequence[Unit], *, total: int, what: str, done: int = 0
    ) -> Iterator[Result]:
        """Results as units finish; `done` of `total` files were finished before. Raises Stopped and Retry."""
        if self._executor is None:
            yield from self._inline(function, units, done, total, what)
            return
        with self._done.get_lock():
            self._done.value = done
        pending: set[Future[Result]] = {self._executor.submit(_call, function, unit) for unit in units}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.25, return_when=FIRST_COMPLETED)
                self.run.progress(self._done.value, total, what)
                self.run.check_stop()
                for future in finished:
                    yield future.result()
        except BrokenProcessPool:
            raise Retry("A worker process died (out of memory?); start again to go on from what is finished.") from None
        except Stopped:
            self._stop.set()
            raise

    def _inline(
        self, function: Callable[[Unit, Tick], Result], units: Sequence[Unit], done: int, total: int, what: str
    ) -> Iterator[Result]:
        count = done

        def tick() -> None:
            nonlocal count
            count += 1
            self.run.progress(count, total, what)
            self.run.check_stop()

        for unit in units:
            self.run.check_stop()
            yield function(unit, tick)


def _start_worker(parent: int, done: Any, stop: Any) -> None:
    global _done, _stop
    die_with_parent(parent)
    # The stage's own process decides when to stop; a signal to the whole group must not cut a file in two.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    _done, _stop = done, stop


def _call(function: Callable[[Unit, Tick], Result], unit: Unit) -> Result:
    return function(unit, _tick)


def _tick() -> None:
    with _done.get_lock():
        _done.value += 1
    if _stop.is_set():
        raise Stopped
