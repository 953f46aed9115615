"""Whether every input file became what it should: written, counted once, or quarantined with a reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from pipelines import tables
from pipelines.keys import DerivationSecret
from pipelines.score.key import Instance, Key

COLUMNS = ["source_id", "state", "reason", "output", "instance", "accession"]


@dataclass
class Ledger:
    """The manifest by input file and by new SOPInstanceUID."""

    by_source: dict[str, dict[str, Any]]
    by_instance: dict[str, dict[str, Any]]
    """Written images only."""

    @staticmethod
    def read(folder: Path) -> Ledger:
        """The manifest of a de-identified folder."""
        rows = tables.read_table(folder / "manifest.parquet", tables.MANIFEST, columns=COLUMNS).to_pylist()
        written = {row["instance"]: row for row in rows if row["state"] == "written" and row["instance"]}
        return Ledger({row["source_id"]: row for row in rows}, written)


@dataclass
class Completeness:
    """Counts of `result.json`, and what is missing as (source_id, kind)."""

    outputs: dict[str, str] = field(default_factory=dict)
    """Original SOPInstanceUID -> output path of every planted instance that was written."""
    accessions: set[str] = field(default_factory=set)
    """Original accessions of intact studies."""
    losses: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def check_completeness(key: Key, export: Path, folder: Path, secret: DerivationSecret) -> Completeness:
    """Hold the manifest against the key and the export's own list of files."""
    ledger, result = Ledger.read(folder), Completeness()
    conflicting = {secret.source_id(path) for path in key.conflicts}
    in_conflict = {ledger.by_source.get(i, {}).get("instance") for i in conflicting} - {None}
    expected = [i for i in key.instances if _is_expected(i, ledger, conflicting, in_conflict, secret)]
    for item in expected:
        row = ledger.by_instance.get(secret.uid(item.uid))
        if row and row["output"] and (folder / row["output"]).is_file():
            result.outputs[item.uid] = row["output"]
            result.accessions.add(item.accession)
        else:
            result.losses.append((secret.source_id(item.path), "instance_missing"))
    result.counts["instances"] = {"passed": len(result.outputs), "total": len(expected)}
    _check_quarantine("broken", key.broken, None, ledger, secret, result)
    _check_quarantine("conflicts", key.conflicts, "conflict", ledger, secret, result)
    _check_duplicates(key, export, ledger, secret, result)
    _check_listed(export, ledger, secret, result)
    return result


def _is_expected(
    item: Instance, ledger: Ledger, conflicting: set[str], in_conflict: set[Any], secret: DerivationSecret
) -> bool:
    """Whether an instance must have been written: not in conflict and not of a patient who opted out."""
    source_id, row = secret.source_id(item.path), ledger.by_source.get(secret.source_id(item.path), {})
    known = source_id in conflicting or secret.uid(item.uid) in in_conflict
    conflict = bool(conflicting) and row.get("reason") == "conflict"
    return not known and not conflict and row.get("state") != "opted_out"


def _check_quarantine(
    name: str, paths: list[str], reason: str | None, ledger: Ledger, secret: DerivationSecret, result: Completeness
) -> None:
    """Each path must be in quarantine with a reason (or this one)."""
    passed = 0
    for path in paths:
        row = ledger.by_source.get(secret.source_id(path), {})
        good = row.get("state") == "quarantined" and row.get("reason") and reason in (None, row["reason"])
        passed += bool(good)
        if not good:
            result.losses.append((secret.source_id(path), f"{name}_not_quarantined"))
    result.counts[name] = {"passed": passed, "total": len(paths)}


def _check_duplicates(key: Key, export: Path, ledger: Ledger, secret: DerivationSecret, result: Completeness) -> None:
    """Of a file and its copies exactly one is written, whichever, and the others are duplicates."""
    paths = {item.uid: item.path for item in key.instances}
    groups: dict[str, list[str]] = {}
    for path in key.duplicates:
        groups.setdefault(_uid(export / path), []).append(path)
    passed = 0
    for uid, copies in groups.items():
        members = [*copies, *([paths[uid]] if uid in paths else [])]
        states = sorted(str(ledger.by_source.get(secret.source_id(path), {}).get("state")) for path in members)
        good = states == ["duplicate"] * (len(members) - 1) + ["written"]
        passed += len(copies) * good
        if not good:
            result.losses += [(secret.source_id(path), "duplicate_not_counted_once") for path in copies]
    result.counts["duplicates"] = {"passed": passed, "total": len(key.duplicates)}


def _check_listed(export: Path, ledger: Ledger, secret: DerivationSecret, result: Completeness) -> None:
    """Every file of the export has a row in the manifest: nothing is silently skipped."""
    files = [path for path in sorted(export.rglob("*")) if path.is_file() and not path.is_symlink()]
    ids = [secret.source_id(path.relative_to(export).as_posix()) for path in files]
    missing = [source_id for source_id in ids if source_id not in ledger.by_source]
    result.losses += [(source_id, "file_not_in_manifest") for source_id in missing]
    result.counts["files"] = {"passed": len(ids) - len(missing), "total": len(ids)}


def _uid(path: Path) -> str:
    try:
        return str(dcmread(path, stop_before_pixels=True, force=True).get("SOPInstanceUID") or path.name)
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return path.name
