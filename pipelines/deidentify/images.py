"""One partition of the inventory: its instances cleaned and stored, its manifest rows, its share of the vault."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydicom.dataset import Dataset

from pipelines.deidentify.aliases import load_aliases
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.instance import InstanceCleaner, Source, Written
from pipelines.deidentify.policy import Policy
from pipelines.deidentify.review.risk import factors
from pipelines.deidentify.studies import Studies, identities_from_json, identities_to_json
from pipelines.deidentify.vault import CROSSWALK, SOURCES, seal, unseal
from pipelines.deidentify.vocabulary import is_defined_term
from pipelines.keys import DerivationSecret
from pipelines.parallel import Watch
from pipelines.scan.dicom import configure_pydicom, per_file, text
from pipelines.scan.inventory import part_name, read_part, stamp
from pipelines.tables import MANIFEST, write_table

# What the merge needs beyond the manifest.
PART = pa.schema(
    [
        *MANIFEST,
        ("detail", pa.string()),
        ("claimed", pa.string()),  # accession pseudonym of an image, whatever became of it
        ("rows", pa.int32()),
        ("columns", pa.int32()),
        ("view", pa.string()),
        ("practice", pa.bool_()),
        ("unknown", pa.int32()),
        ("malformed", pa.int32()),
        ("risk", pa.list_(pa.string())),  # why a reviewer should look at it (review.sampling.FACTORS)
    ]
)


@dataclass(frozen=True)
class Job:
    """What every process of a de-identification must know."""

    export: Path
    root: Path
    secret: DerivationSecret
    vault_key: bytes
    policy: Policy
    issuer: str
    opt_out: frozenset[str]
    aliases: Path | None = None
    report_columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Part:
    """One partition to be de-identified."""

    number: int
    job: Job


@dataclass
class _Private:
    """The partition's share of the vault."""

    patients: dict[str, dict[str, Any]] = field(default_factory=dict)
    accessions: dict[str, str] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)
    studies: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Accession pseudonym -> identities of its instances, for the reports."""
    opted_out: list[str] = field(default_factory=list)
    """Accession pseudonyms of patients who objected."""


def part_table(root: Path, number: int) -> Path:
    return root / "parts" / f"{part_name(number)}.parquet"


def clean_part(part: Part, watch: Watch) -> None:
    """De-identify one partition; its table, written last, says that all of it is on disk."""
    configure_pydicom()
    job = part.job
    private, rows = _Private(), []
    stored: list[Path] = []
    paths = unseal(job.root / "vault" / SOURCES / f"{part_name(part.number)}.vault", job.vault_key)
    scratch = job.root / "tmp" / part_name(part.number)
    scratch.mkdir(parents=True, exist_ok=True)
    entries = read_part(job.root, part.number)
    for entry, fate in watch.over(entries, lambda e: e["source_id"], lambda e: e["size"]):
        row = _manifest_row(entry, job.policy)
        if fate:
            row |= {"state": "quarantined", "reason": fate}
        elif entry["kind"] in ("image", "object") and entry["state"] == "ok":
            _image(row, entry, job, job.export / paths[entry["source_id"]], private, scratch, stored)
        rows.append(row)
    for path in {*stored, *(p.parent for p in stored)}:
        _sync(path)
    private.opted_out.sort()
    seal(job.root / "vault" / CROSSWALK / f"{part_name(part.number)}.vault", vars(private), job.vault_key)
    shutil.rmtree(scratch)
    write_table(part_table(job.root, part.number), sorted(rows, key=lambda r: r["source_id"]), PART)


def studies_of_part(job: Job, number: int) -> Studies:
    """The studies of a finished part, with what identifies their patients."""
    private = unseal(job.root / "vault" / CROSSWALK / f"{part_name(number)}.vault", job.vault_key)
    rows = pq.read_table(part_table(job.root, number)).to_pylist()
    identities = {accession: identities_from_json(values) for accession, values in private["studies"].items()}
    return Studies(rows, identities, set(private["opted_out"]))


def _manifest_row(entry: dict[str, Any], policy: Policy) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(PART.names)
    row |= {name: entry[name] for name in ("source_id", "kind", "reason", "detail")}
    row |= {"state": entry["state"] if entry["state"] != "ok" else "read", "policy": policy.digest}
    row["claimed"] = entry["accession"]
    return row


def _image(
    row: dict[str, Any],
    entry: dict[str, Any],
    job: Job,
    path: Path,
    private: _Private,
    scratch: Path,
    stored: list[Path],
) -> None:
    cleaner = _cleaner(job.policy, job.secret, job.issuer, job.opt_out, job.aliases)
    try:
        with _opened(path, entry, job.secret) as file:
            ds, source = cleaner.read(file)
            if source.opted_out:
                private.opted_out.append(source.who.accession)
                row |= {"state": "opted_out", "reason": "opted_out", "claimed": None}
                return
            row["practice"] = source.who.practice
            with per_file():
                row |= _shape(ds) if entry["kind"] == "image" else {}
                _remember(private, source, text(ds, "PatientName"), job.secret)
            written = cleaner.clean(ds, source)
            with per_file():
                risk = factors(ds, written.cleaned, source.identities.names, written.boxes)
            target, sha256 = _store(written, entry, job.root, scratch)
    except Quarantine as verdict:
        row |= {"state": "quarantined", "reason": verdict.reason, "detail": verdict.detail or None}
        return
    private.uids.update(written.cleaned.uids)
    stored.append(target)
    row |= {name: entry[name] for name in ("patient", "accession", "study", "series", "instance", "sop_class")}
    row |= {
        "state": "written",
        "output": target.relative_to(job.root).as_posix(),
        "sha256": sha256,
        "transfer_syntax": written.transfer_syntax,
        "boxes": written.boxes,
        "unknown": written.cleaned.unknown,
        "malformed": written.cleaned.malformed,
        "risk": risk,
    }


def _shape(ds: Dataset) -> dict[str, Any]:
    """What the masks of a study are joined by. Not all that a source calls a view is one."""
    view = text(ds, "ViewPosition")[:16]
    return {"rows": int(ds.Rows), "columns": int(ds.Columns), "view": view if is_defined_term(view) else ""}


@contextlib.contextmanager
def _opened(path: Path, entry: dict[str, Any], secret: DerivationSecret) -> Iterator[BinaryIO]:
    """The source, open and checked to be what was scanned; raises Quarantine."""
    with per_file():
        file = path.open("rb")
    with file:
        same = stamp(file, secret) == entry["stamp"]
        if not same and hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
            raise Quarantine("unreadable", "changed since it was scanned")
        yield file


def _store(written: Written, entry: dict[str, Any], root: Path, scratch: Path) -> tuple[Path, str]:
    """Put the file in its place, whole, and return its SHA-256: it is written beside and renamed."""
    folder = root / "dicom" / entry["patient"] / entry["study"]
    folder.mkdir(parents=True, exist_ok=True)
    temporary: Path = scratch / "instance"
    target: Path = folder / f"{entry['instance']}.dcm"
    with temporary.open("wb") as file:
        sha256 = written.store(file)
    temporary.replace(target)
    return target, sha256


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remember(private: _Private, source: Source, name: str, secret: DerivationSecret) -> None:
    who = source.who
    patient = {
        "id": source.patient_id,
        "issuer": source.issuer,
        "names": [],
        "shift_days": secret.shift_days(who.patient),
    }
    known = private.patients.setdefault(who.patient, patient)
    known["names"] = sorted({*known["names"], name} - {""})
    private.accessions[who.accession] = source.accession
    values = identities_to_json(source.identities)
    study = private.studies.setdefault(who.accession, {})
    for kind, found in values.items():
        study[kind] = sorted({*study.get(kind, ()), *found})


@lru_cache(maxsize=2)
def _cleaner(
    policy: Policy, secret: DerivationSecret, issuer: str, opt_out: frozenset[str], aliases: Path | None
) -> InstanceCleaner:
    # Late and once for each process: the text detector is heavy.
    from pipelines.deidentify.pixels import PixelCleaner

    return InstanceCleaner(policy, secret, PixelCleaner(policy.pixels.mode), issuer, opt_out, load_aliases(aliases))
