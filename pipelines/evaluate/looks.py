"""How often anyone looked at a test split: every evaluation of a cohort is counted, because choosing by many looks at
the same patients is training on them.

A control plane counts by its database and gives the number. On the command line the count is kept in `looks.jsonl` of
the cohort's folder: one line a look, with what was looked at by digest.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from pipelines.cohort import Cohort
from pipelines.contract import RunFolder, read_json, write_atomic
from pipelines.evaluate.models import Model

LEDGER, OWN = "looks.jsonl", "look.json"


def count(cohort: Cohort, models: Iterable[Model], run: RunFolder, given: int | None) -> int | None:
    """Which look this run is, from 1: `given`, or by the cohort's ledger; None where that cannot be written.

    A run that is resumed is the look that it was. One that is killed between the two files counts twice.
    """
    if given is not None:
        return given
    own = run.root / OWN
    if own.exists():
        number: int = read_json(own)["look"]
        return number
    try:
        with (cohort.folder / LEDGER).open("a+", encoding="utf-8") as ledger:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            ledger.seek(0)
            number = sum(1 for _ in ledger) + 1
            seen = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "models": [m.digest for m in models]}
            ledger.write(json.dumps({"look": number, **seen}) + "\n")
    except OSError:
        run.log("This look at the test split was not counted: the cohort's folder cannot be written.", "warning")
        return None
    write_atomic(own, json.dumps({"look": number}) + "\n")
    return number


def in_words(number: int | None) -> str:
    """One sentence."""
    if number is None:
        return "Looks at this test split were not counted: the cohort's folder cannot be written."
    return f"Looks at this test split that were counted, this one among them: {number}."
