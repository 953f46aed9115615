"""A pool of processes for the CPU stages: one task a unit of work, nothing outlives the stage, results as they come."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from pipelines.contract import Retry, RunFolder, die_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")

# One thread each: the processes are the parallelism. Read by the libraries when a child imports them.
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def worker_count(workers: int) -> int:
    """`workers`, or the cores this process may use for 0."""
    return workers or len(os.sched_getaffinity(0))


def map_unordered(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int, run: RunFolder
) -> Iterator[Result]:
    """Yield `function(task)` of every task as it finishes, in any order, over spawned processes.

    Tasks are drawn lazily, two for each process, so millions of them cost no memory. With one worker everything
    happens in this process. Raises Stopped after SIGTERM, Retry when a process was killed.
    """
    count = worker_count(workers)
    if count == 1:
        for task in tasks:
            run.check_stop()
            yield function(task)
        return
    for name in THREAD_LIMITS:
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_begin_worker, initargs=(os.getpid(),))
    try:
        yield from _drain(pool, function, iter(tasks), 2 * count, run)
    except BrokenProcessPool:
        run.check_stop()
        raise Retry("A process of the pool was killed, perhaps for want of memory; start again with fewer.") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _drain(
    pool: ProcessPoolExecutor, function: Callable[[Task], Result], tasks: Iterator[Task], limit: int, run: RunFolder
) -> Iterator[Result]:
    waiting: set[Future[Result]] = set()
    while True:
        run.check_stop()
        waiting.update(pool.submit(function, task) for task in islice(tasks, limit - len(waiting)))
        if not waiting:
            return
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def _begin_worker(parent: int) -> None:
    die_with_parent(parent)
    # The stage decides when to stop: a SIGTERM to the whole group must not break the pool under it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
