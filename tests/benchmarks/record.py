"""Where a measured figure goes: printed, and appended to docs/benchmarks.md with the machine and its load."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{cpu or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def record(what: str, ours: str, peer: str, ratio: float) -> None:
    """One row: what was measured, ours, the peer or limit measured in the same run, and ours over it."""
    row = f"| {datetime.now(UTC):%Y-%m-%d} | {what} | {ours} | {peer} | {ratio:.2f} | {machine()} |\n"
    print(row, end="")
    with PAGE.open("a", encoding="utf-8") as page:
        page.write(row)
