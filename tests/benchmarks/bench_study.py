"""The practice hospital's scaling study: 4 sizes x 2 seeds x 2 tiny encoders, on 2 cores in under 40 minutes.

    python -m tests.benchmarks.bench_study [FOLDER]

Afterwards one run of each encoder and the whole judgement are made again elsewhere: weights and numbers must be equal.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.record import record

LIMIT = 40.0
"""Minutes."""
STUDIES, SIDE = 240, 256
ENCODERS = ("rad-dino-tiny", "mi2-tiny")
STUDY = {
    "cohort": "cohort",
    "encoders": ENCODERS,
    "sizes": [20, 40, 80],
    "everything": True,
    "seeds": [0, 1],
    "probe_seeds": [0, 1],
    "minimum_positives": 3,
    "pretrain": {"budget": 320, "batch": 16, "insight_every": 10, "milestones": []},
}
TAKEN = ("doubling_cost",)
"""What a judgement says of time, which differs from run to run."""


def intramural(root: Path, *words: str) -> None:
    """The command, as a person types it, on two threads."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-m", "server.cli", *words], cwd=root, env=environment, check=True)


def hospital(root: Path) -> None:
    """From a synthetic PACS export to a cohort."""
    intramural(root, "practice", "export", "--studies", str(STUDIES), "--side", str(SIDE), "--seed", "3")
    intramural(root, "deidentify", "export", "deid")
    signed = ("--release", "--reviewer", "A. Officer", "--purpose", "Scaling", "--approval", "PRACTICE-1")
    intramural(root, "review", "deid", *signed)
    intramural(root, "build", "deid", "cohort", "--side", "64")


def numbers(folder: Path) -> dict[str, Any]:
    """What a judgement says, times aside."""
    result = json.loads((folder / "result.json").read_text())
    for group in result["groups"]:
        for name in TAKEN:
            group.pop(name, None)
    return result


def digest(run: Path) -> str:
    """SHA-256 of the weights that a run made."""
    return str(json.loads((run / "model" / "card.json").read_text())["weights_sha256"])


def repeat(root: Path, judged: Path) -> tuple[int, int]:
    """Runs made again with equal weights, and judgements made again with equal numbers."""
    equal = 0
    names = [path.name for path in sorted((root / "study" / "runs").iterdir()) if path.name.endswith("-s0")]
    for encoder in ENCODERS:
        name = next(n for n in names if n.startswith(encoder))
        spec = root / f"{name}.json"
        given = json.loads((root / "study" / "runs" / name / "spec.json").read_text())["spec"]
        spec.write_text(json.dumps(given | {"cohort": str(root / "cohort")}))
        intramural(root, "pretrain", str(spec), f"again/{name}")
        equal += digest(root / "again" / name) == digest(root / "study" / "runs" / name)
    spec = root / "judge.json"
    models = [str(path / "model") for path in sorted((root / "study" / "runs").iterdir())]
    given = {"cohort": str(root / "cohort"), "models": models, "seeds": STUDY["probe_seeds"], "device": "auto"}
    spec.write_text(json.dumps(given | {"minimum_positives": STUDY["minimum_positives"]}))
    subprocess.run([sys.executable, "-m", "pipelines", "scale", str(spec), "again/judged"], cwd=root, check=True)
    return equal, int(by_model(numbers(root / "again" / "judged")) == by_model(numbers(judged)))


def by_model(result: dict[str, Any]) -> Any:
    """Curves in an order that does not follow that of the models named."""
    return sorted(json.dumps(curve, sort_keys=True) for curve in result["curves"])


def processor_minutes() -> float:
    """Of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


def main(root: Path) -> None:
    """Measure, compare, record."""
    if not (root / "cohort").exists():
        hospital(root)
    (root / "study.json").write_text(json.dumps(STUDY))
    began, worked = time.monotonic(), processor_minutes()
    intramural(root, "scale", "study.json", "study")
    minutes, worked = (time.monotonic() - began) / 60, processor_minutes() - worked
    result = numbers(root / "study")
    runs = len(list((root / "study" / "runs").iterdir()))
    reached = sum(c["break_even"] is not None for c in result["curves"])
    told = f"{runs} runs, {len(result['curves'])} curves, break-even on {reached}, {result['protocol']} protocol"
    made, judged = repeat(root, root / "study")
    again = f"made again: {made} of {len(ENCODERS)} runs of equal weights, {judged} of 1 judgement of equal numbers"
    what = f"practice hospital's scaling study, 4 sizes x 2 seeds x 2 tiny encoders ({told}; {again})"
    record(what, f"{minutes:.1f} min, {worked:.1f} processor minutes", f"limit {LIMIT:.0f} min", LIMIT / minutes)


if __name__ == "__main__":
    if sys.argv[1:]:
        main(Path(sys.argv[1]).resolve())
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
