"""Stage `score`: leaks and losses of a de-identified folder against an answer key.

An oracle that shares code with what it judges proves nothing: nothing here imports the de-identification.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import tables
from pipelines.contract import BadInput, RunFolder, read_json, sha256_file, write_atomic
from pipelines.keys import DerivationSecret
from pipelines.parallel import map_unordered
from pipelines.score.completeness import Completeness, check_completeness
from pipelines.score.key import Key, load_key
from pipelines.score.retained import Retained
from pipelines.score.spec import Spec
from pipelines.score.tasks import Place, Task, perform

FINDINGS = pa.schema([(n, pa.string()) for n in ("source_id", "verdict", "kind", "where", "output")])
BATCH = 16


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Judge; writes `findings.parquet` (no value of any person in it) and returns counts and the checks."""
    _require(spec)
    key, secret = load_key(spec.key), DerivationSecret.load(spec.secret)
    complete = check_completeness(key, spec.export, spec.deid, secret)
    place = Place(spec.deid, spec.export, spec.key, spec.secret, run.root / "parts")
    _begin_or_resume(place)
    files = sorted(path.relative_to(spec.deid).as_posix() for path in spec.deid.rglob("*") if path.is_file())
    first = [*_tasks("instances", place, complete.outputs.items()), *_tasks("files", place, files)]
    _perform(first, spec.workers, run, "judging instances and files")
    judged = list(_results(first, "instances"))
    shifts = _shifts(judged)
    wanted = [
        (item.accession, _settled(shifts.get(secret.surrogate("score patient", item.patient))))
        for item in {i.accession: i for i in key.instances}.values()
        if item.accession in complete.accessions and item.accession in key.reports
    ]
    second = list(_tasks("reports", place, wanted))
    _perform(second, spec.workers, run, "judging reports")
    reports = list(_results(second, "reports"))
    findings = [f for result in [*judged, *reports] for f in result["findings"]]
    findings += list(_results(first, "files"))
    findings += _losses(complete, reports)
    told = _write(findings, run.root / "findings.parquet")
    result = _summary(key, complete, judged, reports, shifts, told, Retained.of(spec.deid))
    run.artifact("findings", run.root / "findings.parquet")
    shutil.rmtree(place.parts)
    return result


def _require(spec: Spec) -> None:
    if not (spec.deid / "result.json").exists() or not (spec.deid / "manifest.parquet").exists():
        raise BadInput("The de-identified folder is not finished; run deidentify on it to the end.")
    if not spec.export.is_dir():
        raise BadInput("The export does not exist; give the folder that was de-identified.")


def _begin_or_resume(place: Place) -> None:
    """Keep the parts of a killed run only if they judge this very output by this very key."""
    judged = {name: sha256_file(path) for name, path in (("deid", place.deid / "result.json"), ("key", place.key))}
    begun = place.parts / "begun.json"
    if begun.exists() and read_json(begun) != judged:
        shutil.rmtree(place.parts)
    place.parts.mkdir(exist_ok=True)
    write_atomic(begun, json.dumps(judged))


def _tasks(kind: str, place: Place, items: Iterable[Any]) -> Iterator[Task]:
    items, number = iter(items), 0
    while batch := tuple(islice(items, BATCH)):
        yield Task(kind, number, place, batch)
        number += 1


def _perform(tasks: list[Task], workers: int, run: RunFolder, what: str) -> None:
    done, total = 0, sum(len(task.items) for task in tasks)
    for count in map_unordered(perform, tasks, workers, run):
        done += count
        run.progress(done, total, what)


def _results(tasks: list[Task], kind: str) -> Iterator[dict[str, Any]]:
    for task in tasks:
        if task.kind == kind:
            yield from read_json(task.part)["results"]


def _shifts(judged: list[dict[str, Any]]) -> dict[int, Counter[int]]:
    """Days that dates moved, by true person."""
    shifts: dict[int, Counter[int]] = defaultdict(Counter)
    for one in judged:
        shifts[one["patient"]].update(days for days in one["shifts"] if days is not None)
    return shifts


def _settled(days: Counter[int] | None) -> int | None:
    return days.most_common(1)[0][0] if days else None


def _losses(complete: Completeness, reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lost = [*complete.losses, *((r["source_id"], "report_missing") for r in reports if not r["found"])]
    return [
        {"source_id": source_id, "verdict": "loss", "kind": kind, "where": "folder", "output": None, "token": 0}
        for source_id, kind in lost
    ]


def _write(findings: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Write findings without their tokens, a value once a place; returns them."""
    names = [*FINDINGS.names, "token"]
    unique = {tuple(f[n] for n in names): f for f in findings}
    ordered = sorted(unique.values(), key=lambda f: tuple(str(f[n]) for n in names))
    tables.write_table(path, [{n: f[n] for n in FINDINGS.names} for f in ordered], FINDINGS)
    return ordered


def _summary(
    key: Key,
    complete: Completeness,
    judged: list[dict[str, Any]],
    reports: list[dict[str, Any]],
    shifts: dict[int, Counter[int]],
    findings: list[dict[str, Any]],
    retained: Retained,
) -> dict[str, Any]:
    """What `result.json` says."""
    by_verdict = {v: Counter(f["kind"] for f in findings if f["verdict"] == v) for v in ("leak", "review", "loss")}
    changed = [one["changed"] for one in judged if one["changed"]]
    found = sum(r["found"] for r in reports)
    return {
        "leaks": sum(by_verdict["leak"].values()),
        "leaks_by_kind": dict(sorted(by_verdict["leak"].items())),
        "review": dict(sorted(by_verdict["review"].items())),
        "losses": dict(sorted(by_verdict["loss"].items())),
        "boxes": sum(one["boxes"] for one in judged),
        "readable_boxes": sum(one["readable"] for one in judged),
        "readable_boxes_before": sum(one["readable_before"] for one in judged),
        "instances": len(judged),
        "patients": len({item.patient for item in key.instances}),
        "reports": {"passed": found, "total": len(reports)},
        **{name: counts for name, counts in complete.counts.items() if name != "instances"},
        "intact": complete.counts["instances"],
        "pixels": {
            "instances_changed": len(changed),
            "changed_share_mean": sum(changed) / max(1, len(changed)),
            "changed_share_worst": max(changed, default=0.0),
        },
        "checks": _checks(judged, reports, shifts, retained),
    }


def _checks(
    judged: list[dict[str, Any]], reports: list[dict[str, Any]], shifts: dict[int, Counter[int]], retained: Retained
) -> dict[str, dict[str, int]]:
    """The ten actions of MIDI-B (arXiv 2508.01889) as passed of total; what a policy retains must be as it was."""

    def counted(passed: int, total: int) -> dict[str, int]:
        return {"passed": passed, "total": total}

    def summed(name: str) -> dict[str, int]:
        return counted(sum(one[name][0] for one in judged), sum(one[name][1] for one in judged))

    dates = [(one["patient"], days) for one in judged for days in one["shifts"]]
    good = [d is None or (d == 0 if retained.dates else _is_shift(d, shifts[patient])) for patient, d in dates]
    uids = [pair for one in judged for pair in one["uids"]]
    planted = sum(one["planted"] for one in judged) + sum(r["planted"] for r in reports if r["found"])
    removed = sum(one["removed"] for one in judged) + sum(r["removed"] for r in reports)
    comparable = [one for one in judged if one["strayed"] is not None]
    boxes = sum(one["boxes"] for one in judged)
    return {
        "tag_retained": summed("kept"),
        "text_notnull": summed("present"),
        "text_retained": summed("equal"),
        "text_removed": counted(removed, planted),
        "date_shifted": counted(sum(good), len(good)),
        "uid_changed": counted(sum(changed or retained.uids for *_, changed in uids), len(uids)),
        "uid_consistent": counted(*_consistent((old, new) for old, new, _ in uids)),
        "patid_consistent": counted(*_consistent((one["patient"], one["new_patient"]) for one in judged)),
        "pixels_hidden": counted(boxes - sum(one["readable"] for one in judged), boxes),
        "pixels_retained": counted(sum(one["strayed"] == 0 for one in comparable), len(judged)),
    }


def _is_shift(days: int, of_patient: Counter[int]) -> bool:
    return days != 0 and days % 7 == 0 and days == _settled(of_patient)


def _consistent(pairs: Iterable[tuple[Any, Any]]) -> tuple[int, int]:
    """(old values with exactly one new value that no other old value has, old values that have any)."""
    forward: dict[Any, set[Any]] = defaultdict(set)
    backward: dict[Any, set[Any]] = defaultdict(set)
    for old, new in pairs:
        if new:
            forward[old].add(new)
            backward[new].add(old)
    good = sum(len(news) == 1 and all(len(backward[new]) == 1 for new in news) for news in forward.values())
    return good, len(forward)
