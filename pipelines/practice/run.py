"""Stage `practice`: write a synthetic PACS export and its answer key.

The export grows under a hidden name beside its place and is renamed at the end, so that a half-written one is never
taken for whole. A stage started again goes on after the last finished study.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput, RunFolder, read_json, sha256_file, write_atomic
from pipelines.parallel import map_unordered
from pipelines.practice.disorder import add_disorder
from pipelines.practice.exam import Task, perform, truth_path
from pipelines.practice.plan import Plan, make_plan
from pipelines.practice.spec import Spec
from pipelines.practice.tables import write_tables

WORKERS = 2
ALONE = 12  # studies that one process makes faster than a second one starts


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Write `spec.out` and `spec.out.key.json`; returns counts. BadInput when the folder exists already."""
    key_path = spec.out.with_name(spec.out.name + ".key.json")
    commit = run.root / "commit.json"
    if committed := _committed(commit, spec.out, key_path):
        return committed
    staging = _begin(spec)
    plan = make_plan(spec.studies, spec.seed)
    _perform_all(plan, spec, staging, run)
    run.check_stop()
    key, result = _assemble(plan, spec, staging)
    text = json.dumps(key, indent=1, ensure_ascii=False) + "\n"
    write_atomic(key_path, text)
    # From here on the export counts as ours: a kill between the two steps is mended by the next start.
    write_atomic(commit, json.dumps({"key": sha256_file(key_path), "result": result}))
    staging.replace(spec.out)
    return result


def _committed(commit: Path, out: Path, key_path: Path) -> dict[str, Any] | None:
    """The result when an earlier start of this run finished the export; BadInput when another made it."""
    ours = commit.exists() and key_path.exists() and read_json(commit).get("key") == sha256_file(key_path)
    if out.exists():
        if ours:
            return dict(read_json(commit)["result"])
        raise BadInput(f"{out.name} exists already; give the name of a new folder.")
    return None


def _begin(spec: Spec) -> Path:
    """The hidden folder in which the export grows; one begun with another spec is removed."""
    staging = spec.out.with_name(f".{spec.out.name}.part")
    note = staging / ".truth" / "spec.json"
    wanted = {"studies": spec.studies, "seed": spec.seed, "side": spec.side}
    if staging.exists() and not (note.exists() and read_json(note) == wanted):
        shutil.rmtree(staging)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError):
        raise BadInput(f"The folder for {spec.out.name} cannot be made there; choose another place.") from None
    write_atomic(note, json.dumps(wanted))
    return staging


def _perform_all(plan: Plan, spec: Spec, staging: Path, run: RunFolder) -> None:
    tasks = [
        Task(study, plan.studies[study.prior] if study.prior >= 0 else None, plan.patients[study.patient], staging,
             spec.seed, spec.side)
        for study in plan.studies
        if not truth_path(staging, study.number).exists()
    ]  # fmt: skip
    done = len(plan.studies) - len(tasks)
    run.progress(done, len(plan.studies), "studies")
    for _ in map_unordered(perform, tasks, WORKERS if len(tasks) > ALONE else 1, run):
        done += 1
        run.progress(done, len(plan.studies), "studies")


def _remove_unlisted(staging: Path, listed: set[str]) -> None:
    """Disorder that an interrupted start had added already: it is added anew, and the key lists it then."""
    for path in (staging / "DICOM").rglob("*"):
        if path.is_file() and path.relative_to(staging).as_posix() not in listed:
            path.unlink()


def _assemble(plan: Plan, spec: Spec, staging: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tables, disorder and the key from the truth of all studies; only the export itself remains in `staging`."""
    truths = [read_json(truth_path(staging, study.number)) for study in plan.studies]
    key: dict[str, Any] = {
        "instances": {},
        "reports": {},
        "broken": [],
        "duplicates": [],
        "conflicts": [],
        "studies": {},
    }
    for study, truth in zip(plan.studies, truths, strict=True):
        key["instances"] |= truth["instances"]
        key["reports"][study.accession] = truth["report"]
        key["studies"][study.accession] = truth["study"]
    _remove_unlisted(staging, {e["path"] for e in key["instances"].values()})
    write_tables(plan, truths, staging)
    key |= add_disorder(truths, staging, spec.seed)
    shutil.rmtree(staging / ".truth")
    result = {
        "studies": len(plan.studies),
        "patients": len(plan.patients),
        "instances": len(key["instances"]),
        "burned_in": sum(bool(value["burned_in"]) for value in key["instances"].values()),
        "broken": len(key["broken"]),
        "duplicates": len(key["duplicates"]),
        "conflicts": len(key["conflicts"]) // 2,
        "files": sum(path.is_file() for path in staging.rglob("*")),
    }
    return key, result
