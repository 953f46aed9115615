"""Spec of `counting`: sums the numbers up to a limit, and misbehaves when told to."""

from pipelines.contract import Spec as Base


class Spec(Base):
    to: int = 20
    pause: float = 0.1
    """Seconds between two numbers."""
    deaf: bool = False
    """Ignore SIGTERM."""
    family: bool = False
    """Start a child and a grandchild in sessions of their own that outlive this process unless somebody ends them."""
    crash_at: int | None = None
    """Kill itself at this number, once."""
    always: str | None = None
    """End like this each time: `retry`, `bad_input` or `nan`."""
