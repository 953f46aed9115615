"""Who does what when several machines work on one run folder: claims on units, held by the processes that do them.

A claim is a lock on one byte of a file in the folder (fcntl(2), over NFS too), so it ends with its process, however
that ends, and no clock is asked. That a unit is done is written into its byte: who holds the lock reads what the holder
before wrote, even where a network file system still shows an old listing of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path

from pipelines.contract import Retry

FOLDER = "claims"
DONE = b"1"
PAUSE = 0.25
_AT_WORK, _LEAD = 0, 1  # bytes of the file `presence`
_HELD = {errno.EACCES, errno.EAGAIN}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Claim(Enum):
    """What a claim met with."""

    OURS = "ours"
    TAKEN = "taken"
    DONE = "done"


@contextlib.contextmanager
def claim(path: Path, number: int) -> Iterator[Claim]:
    """Claim unit `number` of those whose claims lie in `path`; ours counts as done when the block ends well.

    Storage without locks grants every claim; nobody can come to help there (`Presence.join`).
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _lock(handle, fcntl.LOCK_EX, number):
            yield Claim.TAKEN
        elif os.pread(handle, 1, number) == DONE:
            yield Claim.DONE
        else:
            yield Claim.OURS
            os.pwrite(handle, DONE, number)
    finally:
        os.close(handle)  # and with it the lock


def _lock(handle: int, kind: int, byte: int) -> bool:
    try:
        fcntl.lockf(handle, kind | fcntl.LOCK_NB, 1, byte)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


class Presence:
    """Who is at work in a run folder: all hold one lock together, and who must be alone holds it alone."""

    def __init__(self, root: Path) -> None:
        """`root` is the run folder. Raises FileNotFoundError where nobody has begun it."""
        self._handle = os.open(root / FOLDER / "presence", os.O_RDWR)

    @classmethod
    def begin(cls, root: Path) -> Presence:
        """Be the one whose run it is; Retry when another process is that already."""
        (root / FOLDER).mkdir(exist_ok=True)
        (root / FOLDER / "presence").touch(mode=0o600)
        presence = cls(root)
        if not _lock(presence._handle, fcntl.LOCK_EX, _LEAD):
            presence.close()
            raise Retry("Another process is at work in this run folder; wait for it, or end it first.")
        return presence

    @classmethod
    def join(cls, root: Path, check_stop: Callable[[], None]) -> Presence:
        """Be at work beside the one whose run it is; Retry when nobody is, or none whose locks are seen here."""
        with contextlib.suppress(FileNotFoundError):
            presence = cls(root)
            if not presence.alone():
                presence.enter(check_stop)
                if os.fstat(presence._handle).st_nlink:  # else the run ended meanwhile
                    return presence
            presence.close()
        raise Retry(
            "Nobody is seen at work in the run folder; if its job runs, the shared storage does not pass locks on "
            "between machines: mount it so that it does."
        )

    def alone(self) -> bool:
        """Whether nobody else is at work; then nobody can join before `enter`."""
        return _lock(self._handle, fcntl.LOCK_EX, _AT_WORK)

    def wait_alone(self, check_stop: Callable[[], None]) -> None:
        """Until everybody else has left."""
        while not self.alone():
            check_stop()
            time.sleep(PAUSE)

    def enter(self, check_stop: Callable[[], None]) -> None:
        """Let others be at work too; until who is alone allows it."""
        while not _lock(self._handle, fcntl.LOCK_SH, _AT_WORK):
            check_stop()
            time.sleep(PAUSE)

    def close(self) -> None:
        """Be at work no more."""
        os.close(self._handle)


def forget(root: Path) -> None:
    """Drop what earlier attempts wrote into their claims; the caller is alone. What stands in the folder counts."""
    for path in (root / FOLDER).iterdir():
        if path.name != "presence":
            path.unlink()
