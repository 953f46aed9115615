"""It learns: both tiny encoders on real radiographs and reports, three seeds each, against their untrained starts.

    python -m tests.benchmarks.long_learns [--work FOLDER] [--studies 900]

An export of real studies (../shared) goes through the product's own commands: de-identified, released, built into a
cohort at 128 px, pretrained and evaluated by linear probes on patients of the test split. The three runs of an encoder
are taken together as three seeds; the bootstrap draws patients and a seed at once, the same for the trained model and
its start. Every label that has the patients for it is recorded, whichever way it went. An hour on one core; a FOLDER
that was begun is gone on with.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.encoders.folder import read_card
from pipelines.evaluate.results import analyse
from pipelines.tables import SCORES, read_table
from tests.benchmarks.record import record
from tests.conftest import ROOT
from tests.docs.pages import environment

BUDGETS = {"rad-dino-tiny": 22_400, "mi2-tiny": 6_400}  # 700 and 200 steps
BATCHES = {"rad-dino-tiny": 32, "mi2-tiny": 32}
SEEDS = (0, 1, 2)
PROBE_SEEDS = (0, 1, 2)
SIDE, EXPORT_SEED, RESAMPLES = 128, 7, 2000
MINIMUM_POSITIVES = 2  # ETT has 19 positive patients in all; its row is plumbing and claims nothing
TRAINED, START = "trained", "start"


def intramural(work: Path, *arguments: object) -> None:
    """One command of the product, as a person would type it."""
    command = [sys.executable, "-m", "server.cli", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT, env=environment(work))


def make_cohort(work: Path, shared: Path, studies: int) -> Path:
    """The cohort of an export of real studies; splits are the same every time."""
    secret = work / "config" / "intramural" / "derivation.key"
    if not secret.exists():
        secret.parent.mkdir(parents=True)
        secret.touch(mode=0o600)
        secret.write_text(json.dumps({"site": "learns", "epoch": 1, "secret": base64.b64encode(bytes(32)).decode()}))
    export, deid, cohort = work / "export", work / "deid", work / "cohort"
    if not export.with_name("export.key.json").exists():
        script = shared / "make_pacs_export.py"
        command = [sys.executable, script, export, "--studies", str(studies), "--seed", str(EXPORT_SEED)]
        subprocess.run(command, check=True)
    intramural(work, "deidentify", export, deid, "--workers", 1)
    if not (deid / "release.json").exists():
        who = ("--reviewer", "long_learns", "--purpose", "Benchmark", "--approval", "BENCH-1")
        intramural(work, "review", deid, "--release", *who)
    intramural(work, "build", deid, cohort, "--side", SIDE, "--workers", 1)
    return cohort


def pretrain(work: Path, cohort: Path, encoder: str, seed: int) -> Path:
    """The model folder of one run."""
    folder, spec = work / f"{encoder}-{seed}", work / f"{encoder}-{seed}.json"
    values = {"cohort": str(cohort), "encoder": encoder, "budget": BUDGETS[encoder], "batch": BATCHES[encoder]}
    quiet = {"checkpoint_every": 500, "milestones": [], "insight_every": 1_000_000}  # time is for steps
    spec.write_text(json.dumps({**values, **quiet, "seed": seed, "device": "cpu"}))
    intramural(work, "pretrain", spec, folder)
    return folder / "model"


def evaluate(work: Path, cohort: Path, encoder: str, models: list[Path]) -> pa.Table:
    """Probe scores of an encoder's models and, as the stage adds them by itself, of their untrained starts."""
    spec, folder = work / f"evaluate-{encoder}.json", work / f"evaluation-{encoder}"
    values = {"cohort": str(cohort), "models": [str(m) for m in models], "seeds": PROBE_SEEDS, "device": "cpu"}
    spec.write_text(
        json.dumps({**values, "resamples": RESAMPLES, "minimum_positives": MINIMUM_POSITIVES, "methods": ["linear"]})
    )
    intramural(work, "evaluate", spec, folder)
    return read_table(folder / "scores.parquet", SCORES)


def pooled(scores: pa.Table, runs: dict[str, tuple[str, int]]) -> pa.Table:
    """The scores with all runs of one encoder under one name, each run's seed one of the seeds.

    `runs` says of each model's name which it is (`trained` or `start`) and of which seed.
    """
    parts = []
    for name, (kind, seed) in runs.items():
        part = scores.filter(pc.field("model") == name)
        seeds = pc.add(part["seed"], pa.scalar(seed * len(PROBE_SEEDS), pa.int32()))
        part = part.set_column(part.schema.get_field_index("seed"), "seed", seeds)
        parts.append(part.set_column(part.schema.get_field_index("model"), "model", pa.repeat(kind, len(part))))
    return pa.concat_tables(parts)


def report(encoder: str, rows: list[dict[str, Any]]) -> None:
    """One row of the page for each task, with every label of it."""
    auroc = [r for r in rows if r["metric"] == "auroc"]
    values = {(r["task"], r["label"], r["model"]): r for r in auroc if not r["baseline"]}
    for task in dict.fromkeys(r["task"] for r in auroc):
        gains = [r for r in auroc if r["task"] == task and r["baseline"]]
        macro = next(r for r in gains if r["label"] == "macro")
        ours, start = (values[(task, "macro", kind)] for kind in (TRAINED, START))
        single = "; ".join(
            f"{r['label']} {values[(task, r['label'], START)]['value']:.3f} -> "
            f"{values[(task, r['label'], TRAINED)]['value']:.3f}, {interval(r)}, {r['positives']} of {r['patients']}"
            for r in gains
            if r["label"] != "macro"
        )
        record(
            f"it learns: {task}, {encoder}, {len(SEEDS)} seeds of {BUDGETS[encoder]} image forwards, AUROC on "
            f"{macro['patients']} held-out patients (label start -> trained, difference [95 %], positive patients of "
            f"all: {single})",
            f"{ours['value']:.3f}, difference {interval(macro)}",
            f"its untrained start {start['value']:.3f}",
            ours["value"] / start["value"],
        )


def interval(row: dict[str, Any]) -> str:
    return f"{row['value']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path)
    parser.add_argument("--studies", type=int, default=900)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    arguments = parser.parse_args()
    if not (arguments.shared / "make_pacs_export.py").exists():
        print("the real radiographs and reports (../shared) are not beside this checkout: nothing was measured")
        return
    with tempfile.TemporaryDirectory() as folder:
        work = (arguments.work or Path(folder)).resolve()
        cohort = make_cohort(work, arguments.shared, arguments.studies)
        for encoder in BUDGETS:
            models = [pretrain(work, cohort, encoder, seed) for seed in SEEDS]
            scores = evaluate(work, cohort, encoder, models)
            runs = {}
            for seed, model in zip(SEEDS, models, strict=True):
                runs[read_card(model).name] = (TRAINED, seed)
                runs[read_card(model.parent / START).name] = (START, seed)
            report(encoder, analyse(pooled(scores, runs), [(TRAINED, START)], RESAMPLES))


if __name__ == "__main__":
    main()
