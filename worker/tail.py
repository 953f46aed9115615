"""Reading a stage's events.jsonl as it grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.jobs.events import parse

BLOCK = 1 << 20


class Tail:
    """Whole lines of a file, from a byte offset on. The offset moves only when the caller has stored the events."""

    def __init__(self, path: Path, offset: int) -> None:
        self.path = path
        self.offset = offset

    def waiting(self) -> bool:
        """Whether the file holds more than was read."""
        try:
            return self.path.stat().st_size != self.offset
        except OSError:
            return False

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """Events behind the offset, at most one block of them, and the offset behind those."""
        try:
            with self.path.open("rb") as f:
                # A folder that was emptied by hand begins anew.
                start = self.offset if self.offset <= f.seek(0, 2) else 0
                f.seek(start)
                block = f.read(BLOCK)
        except OSError:
            return [], self.offset
        whole = block.rfind(b"\n") + 1
        if not whole and len(block) == BLOCK:
            # No event is that long; what is it, goes by unread.
            whole = BLOCK
        parsed = [parse(line) for line in block[:whole].split(b"\n")]
        return [event for event in parsed if event], start + whole
