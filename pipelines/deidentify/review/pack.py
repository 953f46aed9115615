"""Making the review pack of a de-identified folder: chosen, compared, drawn, sealed; one instance at a time. Reports
follow the instances, in one row of numbers (reports.py).

review/pack.json       the plan and the items, in pseudonyms: number, why it was chosen, what can be seen
preview/NNNN-F.png     frame F after de-identification, with its boxes
vault/review/NNNN.vault   the same frames before it and the table of attributes, sealed like the crosswalk
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydicom import dcmread

from pipelines.contract import RunFolder, write_atomic
from pipelines.deidentify.images import Job, part_table
from pipelines.deidentify.review.compare import compare
from pipelines.deidentify.review.pictures import Pictures, Unseen, pictures
from pipelines.deidentify.review.reports import review_reports, units, written_reports
from pipelines.deidentify.review.sampling import Chosen, Plan, choose, plan
from pipelines.deidentify.vault import SOURCES, seal, sealed_item, unseal
from pipelines.parallel import Pool, Progress, Watch
from pipelines.scan.dicom import configure_pydicom, read_object
from pipelines.scan.inventory import part_name

DEFERRED = 1 << 20
"""Values of this length and more, pixel data above all, are left in the file until they are asked for."""
_COLUMNS = ["kind", "state", "source_id", "instance", "patient", "output", "sop_class", "boxes", "risk"]


@dataclass(frozen=True)
class Unit:
    """One chosen instance and the file it came from. PHI: travels through pipes only."""

    chosen: Chosen
    job: Job
    source: str


def write_pack(job: Job, parts: int, pool: Pool, run: RunFolder, random: int = 0) -> None:
    """Write the pack; `review/pack.json`, last, says that all of it is on disk. What is finished is kept."""
    path = job.root / "review" / "pack.json"
    if path.exists():
        return
    for folder in (path.parent, job.root / "preview"):
        folder.mkdir(exist_ok=True)
    images = sum(1 for _ in _written(job.root, parts))
    agreed = plan(images, random)
    chosen = choose(_written(job.root, parts), agreed)
    texts = plan(sum(1 for _ in written_reports(job.root, parts)), random)
    reports = choose(written_reports(job.root, parts), texts, "accession", first=len(chosen) + 1)
    progress = Progress(run, len(chosen) + len(reports), "review pack")
    items = list(pool.map(review_item, _units(job, chosen), progress))
    items += [entry for part in pool.map(review_reports, units(job, reports), progress) for entry in part]
    pack = {"images": agreed.of, **_told(agreed), "reports": {"of": texts.of, **_told(texts)}}
    pack |= {"policy": job.policy.digest, "items": sorted(items, key=lambda i: i["number"])}
    write_atomic(path, json.dumps(pack, indent=1) + "\n")
    run.artifact("review pack", path)


def _told(agreed: Plan) -> dict[str, Any]:
    return {"random": agreed.random, "risk": agreed.risk, "aim": agreed.aim}


def _written(root: Path, parts: int) -> Iterator[dict[str, Any]]:
    """Rows of written images, partition by partition."""
    for number in range(parts):
        for batch in pq.ParquetFile(part_table(root, number)).iter_batches(columns=_COLUMNS):
            for row in batch.to_pylist():
                if row["state"] == "written" and row["kind"] == "image":
                    yield row | {"part": number}


def _units(job: Job, chosen: list[Chosen]) -> Iterator[Unit]:
    """The chosen instances with their sources, each partition of the vault opened once."""
    for part in sorted({c.row["part"] for c in chosen}):
        paths = unseal(job.root / "vault" / SOURCES / f"{part_name(part)}.vault", job.vault_key)
        for one in chosen:
            if one.row["part"] == part:
                yield Unit(one, job, paths[one.row["source_id"]])


def review_item(unit: Unit, watch: Watch) -> dict[str, Any]:
    """Compare, draw and seal one instance; returns its entry of pack.json. Done before is done.

    An object that crashes a decoder is in the pack without pictures and without a table, which the officer is told.
    """
    configure_pydicom()
    entry: dict[str, Any] = {}
    for chosen, fate in watch.over([unit.chosen], lambda c: str(c.number)):
        sealed = sealed_item(unit.job.root, chosen.number)
        entry = unseal(sealed, unit.job.vault_key)["entry"] if sealed.exists() else _make(unit, sealed, bool(fate))
    return entry


def _make(unit: Unit, sealed: Path, blind: bool) -> dict[str, Any]:
    job, number = unit.job, unit.chosen.number
    before, after = job.export / unit.source, job.root / unit.chosen.row["output"]
    lines, seen = ([], None) if blind else (_compared(unit, before, after), _seen(before, after))
    for shown in seen.shown if seen else ():
        write_atomic(job.root / "preview" / f"{number:04d}-{shown.frame}.png", shown.after)
    entry = _entry(unit.chosen, lines, seen)
    frames = {str(s.frame): base64.b64encode(s.before).decode() for s in seen.shown} if seen else {}
    seal(sealed, {"entry": entry, "source": unit.source, "lines": lines, "frames": frames}, job.vault_key)
    return entry


def _compared(unit: Unit, before: Path, after: Path) -> list[dict[str, Any]]:
    """Rows of the attribute table; none when the source is no longer what it was."""
    try:
        old, new = (dcmread(p, force=True, defer_size=DEFERRED) for p in (before, after))
        if "TransferSyntaxUID" not in getattr(old, "file_meta", {}):
            old = read_object(before.read_bytes())
        if unit.job.secret.uid(str(old.SOPInstanceUID)) != unit.chosen.row["instance"]:
            return []
        return [asdict(line) for line in compare(old, new, unit.job.policy)]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a hostile source raises anything; the entry says that nothing can be shown
        return []


def _seen(before: Path, after: Path) -> Pictures | None:
    try:
        return pictures(before, after)
    except Unseen:
        return None


def _entry(chosen: Chosen, lines: list[dict[str, Any]], seen: Pictures | None) -> dict[str, Any]:
    """What pack.json says of an instance: pseudonyms, codes and counts only."""
    row = chosen.row
    return chosen.told("instance") | {
        "instance": row["instance"],
        "output": row["output"],
        "sop_class": row["sop_class"],
        "actions": dict(sorted(Counter(line["action"] for line in lines if line["action"]).items())),
        "frames": seen.frames if seen else 0,
        "compared": seen.compared if seen else 0,
        "boxes": seen.boxes if seen else [],
        "shown": [s.frame for s in seen.shown] if seen else [],
    }
