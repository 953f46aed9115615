"""What a label says, whoever says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
WORDS = {PRESENT: "present", ABSENT: "absent", UNCERTAIN: "uncertain"}
POSITIONS = ("normal", "borderline", "abnormal")
NO_FINDING, DEVICES = "No Finding", "Support Devices"
RANK = {ABSENT: 0, UNCERTAIN: 1, PRESENT: 2}


@dataclass(frozen=True)
class Label:
    """One label of one report: 1 present, 0 absent, -1 uncertain; a position for lines where one is said."""

    name: str
    value: int
    position: str | None = None


def strongest(values: Iterable[int]) -> int:
    """Of several statements present wins over uncertain and uncertain over absent (CheXpert, arXiv 1901.07031)."""
    return max(values, key=RANK.__getitem__)
