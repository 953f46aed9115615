"""Processes of a job: found by parenthood or by the marks in their environment, and ended for certain.

A stage may start processes in sessions and groups of their own (torchrun does), so killing a group is not enough.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
JOB = "INTRAMURAL_JOB"
LEASE = "INTRAMURAL_LEASE"
DATA = "INTRAMURAL_DATA"
PAUSE = 0.05


def become_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def terminate_with_parent() -> None:
    """Ask the kernel for SIGTERM when the thread that started this process ends (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# ---- by parenthood ---------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """The living children of `pid`."""
    return [child for child, (parent, state) in _processes() if parent == pid and state not in "ZX"]


def descendants(pid: int) -> list[int]:
    """Every living descendant of `pid`."""
    below: dict[int, list[int]] = {}
    for child, (parent, _) in (table := dict(_processes())).items():
        below.setdefault(parent, []).append(child)
    found = list(below.get(pid, []))
    for each in found:
        found += below.get(each, [])
    return [each for each in found if table[each][1] not in "ZX"]


def kill_descendants(meanwhile: Callable[[], None]) -> None:
    """SIGKILL all descendants of this process, a subreaper, and return when none is left.

    `meanwhile` is called in between, because a process inside a driver's call may take its time to die.
    """
    while True:
        for pid in descendants(os.getpid()):
            send(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        meanwhile()
        time.sleep(PAUSE)


def _processes() -> Iterator[tuple[int, tuple[int, str]]]:
    for pid in _pids():
        with contextlib.suppress(OSError):
            # The command's name is in brackets and may itself hold any character.
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            yield pid, (int(fields[1]), fields[0])


# ---- by mark ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Marked:
    """A living process of a job, with the token it was started under."""

    pid: int
    job_id: str
    token: str


def marks(job_id: str, token: str, root: Path) -> dict[str, str]:
    """Environment that a supervisor and everything below it carry."""
    return {JOB: job_id, LEASE: token, DATA: str(root)}


def marked(root: Path) -> list[Marked]:
    """The processes of this data root's jobs that this user may see, except the calling one."""
    found = []
    for pid in _pids():
        try:
            pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        environment = dict(pair.decode(errors="replace").partition("=")[::2] for pair in pairs)
        if pid != os.getpid() and JOB in environment and environment.get(DATA) == str(root):
            found.append(Marked(pid, environment[JOB], environment.get(LEASE, "")))
    return found


def kill_marked(root: Path, which: Callable[[Marked], bool]) -> None:
    """SIGKILL the marked processes that `which` names; returns when none of them lives."""
    while left := [each for each in marked(root) if which(each)]:
        for each in left:
            send(each.pid, signal.SIGKILL)
        time.sleep(PAUSE)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - a Path each is slow here
