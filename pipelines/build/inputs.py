"""The released folders a cohort is built from: checked, brought into one order, cut into chunks of whole patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tables
from pipelines.contract import BadInput, read_json
from pipelines.release import require_release

# Images a chunk holds at least; a chunk is what a killed build loses of one process's work.
CHUNK_IMAGES = 64


@dataclass(frozen=True)
class Source:
    """One released de-identified folder."""

    folder: Path
    digest: str
    site: str
    """Fingerprint of the derivation secret: names site and epoch."""
    site_name: str | None
    policy: str
    practice: bool


def open_sources(folders: tuple[Path, ...], release_key: Path) -> list[Source]:
    """The sources, ordered by digest so that the order of the arguments does not matter.

    BadInput when one is unfinished, unreleased, altered or sent back, when two are the same export, when practice
    data would join real data, or when two epochs of one site would mix (their pseudonyms share nothing, so one
    patient could stand in two splits).
    """
    sources = sorted((_open(folder, release_key) for folder in folders), key=lambda s: s.digest)
    if len({s.digest for s in sources}) < len(sources):
        raise BadInput("The same export was given twice; give each export once.")
    if len({s.practice for s in sources}) > 1:
        raise BadInput("Practice data joins no other cohort; build it alone.")
    named = {(s.site_name, s.site) for s in sources if s.site_name}
    if len({name for name, _ in named}) < len(named):
        raise BadInput(
            "The exports were de-identified in different epochs of one site's secret and cannot share a cohort; "
            "de-identify them again with the present secret."
        )
    return sources


def _open(folder: Path, release_key: Path) -> Source:
    if not folder.is_dir():
        raise BadInput(f"The de-identified folder {folder.name} does not exist; check the path.")
    if not (folder / "result.json").exists():
        raise BadInput("The de-identified folder is not finished; run deidentify on it to the end.")
    release = require_release(folder, release_key)
    result = read_json(folder / "result.json")
    try:
        return Source(
            folder, release["digest"], result["site"], result.get("site_name"), result["policy"], result["practice"]
        )
    except KeyError as error:
        raise BadInput(f"result.json of the de-identified folder has no {error}; de-identify it again.") from None


def list_candidates(sources: list[Source]) -> tuple[pa.Table, list[dict[str, int]]]:
    """Every image that de-identification wrote, sorted by order, patient, study, instance; and the first flow counts.

    An image that stands in two exports counts once, from the source with the lower digest.
    """
    parts = [_candidates_of(i, source) for i, source in enumerate(sources)]
    every = pa.concat_tables(parts)
    codes = every["instance"].combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.zeros(len(every), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    for i in range(len(sources)):
        mine = every["source"].to_numpy() == i
        if mine.any() and not first[mine].any():
            raise BadInput("Two of the folders hold the same images; give each export once.")
    once = every.filter(pa.array(first))
    keys = [(name, "ascending") for name in ("order", "patient", "study", "instance")]
    return once.sort_by(keys), [count(every), count(once)]


def count(candidates: pa.Table) -> dict[str, int]:
    """Images, studies, patients, and studies with a report among candidates."""
    reported = candidates.filter(pc.field("reported"))
    return {
        "images": len(candidates),
        "studies": len(pc.unique(candidates["study"])),
        "patients": len(pc.unique(candidates["patient"])),
        "reports": len(pc.unique(reported["study"])),
    }


def chunk_spans(candidates: pa.Table, images: int = CHUNK_IMAGES) -> list[tuple[int, int]]:
    """(start, length) of runs of candidates that hold whole patients, at least `images` each but the last."""
    codes = candidates["patient"].combine_chunks().dictionary_encode().indices.to_numpy()
    ends = np.flatnonzero(np.append(codes[1:] != codes[:-1], len(codes) > 0)) + 1
    spans, start = [], 0
    for end in ends.tolist():
        if end - start >= images or end == len(codes):
            spans.append((start, end - start))
            start = end
    return spans


def _candidates_of(number: int, source: Source) -> pa.Table:
    manifest = tables.read_table(source.folder / "manifest.parquet", tables.MANIFEST)
    images = manifest.filter((pc.field("kind") == "image") & (pc.field("state") == "written"))
    patients = tables.read_table(source.folder / "patients.parquet", tables.PATIENTS)
    reports = tables.read_table(source.folder / "reports.parquet", tables.REPORTS, columns=["accession"])
    place = pc.index_in(images["patient"], patients["patient"].combine_chunks())
    if place.null_count:
        raise BadInput("patients.parquet lacks patients of the manifest; de-identify the export again.")
    taken = ("output", "sha256", "accession", "patient", "study", "series", "instance", "sop_class")
    columns = {name: images[name] for name in taken}
    return pa.table(
        {
            "source": pa.array(np.full(len(images), number, np.int32)),
            "site": pa.array([source.site] * len(images), pa.string()),
            **columns,
            "split": patients["split"].take(place),
            "order": patients["order"].take(place),
            "reported": pc.is_in(images["accession"], reports["accession"].combine_chunks()),
        }
    )
