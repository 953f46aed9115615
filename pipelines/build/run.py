"""Stage `build`: released de-identified folders in, a cohort out (DESIGN, "Data")."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydicom import dcmread

from pipelines import tables
from pipelines.build.chunk import PART, Chunk, inside, part_files, process_chunk
from pipelines.build.decode import unwindowed
from pipelines.build.inputs import Source, chunk_spans, list_candidates, open_sources
from pipelines.build.joins import join_masks, join_texts
from pipelines.build.labels import Labelled, count_sources, join_labels, open_labels
from pipelines.build.references import choose_references, write_references
from pipelines.build.spec import Spec
from pipelines.cohort.writer import Part, assemble_shards, seal_cohort
from pipelines.contract import BadInput, RunFolder, read_json, write_atomic
from pipelines.parallel import map_unordered


def run(spec: Spec, run: RunFolder) -> dict[str, Any]:
    """Build a cohort in the run folder; the result is what `pipelines.cohort.Cohort` opens.

    BadInput when a folder is unreleased, altered, practice beside real, of another epoch or given twice, and when
    no image passes the rules.
    """
    sources = open_sources(spec.deid, spec.release_key)
    labels = open_labels(spec.labels, sources, spec.label_sources)
    _begin_or_resume(run.root, sources, labels)
    parts = run.root / "parts"
    candidates, first_counts = list_candidates(sources)
    folders = tuple(s.folder for s in sources)
    spans = chunk_spans(candidates)
    tasks = (
        Chunk(i, candidates.slice(*span).to_pylist(), folders, parts, spec.side, spec.views, spec.minimum_age)
        for i, span in enumerate(spans)
    )
    done = 0
    for count in map_unordered(process_chunk, tasks, spec.workers, run):
        done += count
        run.progress(done, len(candidates), "reading and decoding")
    tallies = [read_json(part_files(parts, i)[2]) for i in range(len(spans))]
    flow = _flow(first_counts, tallies)
    write_atomic(run.root / "flow.json", json.dumps(flow, indent=1) + "\n")
    run.artifact("flow", run.root / "flow.json")
    if not flow or not flow[-1]["images"]:
        raise BadInput("No image passes the selection rules; flow.json says which rule excluded how many.")
    index, digests = assemble(run, parts, len(spans))
    _write_references(run, index, candidates, folders)
    result = _join_and_seal(spec, run, sources, labels, index, digests, flow, tallies)
    shutil.rmtree(parts)
    return result


def _begin_or_resume(root: Path, sources: list[Source], labels: Labelled) -> None:
    """Hold a resumed build to the folders it was begun with."""
    (root / "parts").mkdir(exist_ok=True)
    digests = {"sources": [s.digest for s in sources], "labels": labels.digests}
    begun = root / "sources.json"
    if begun.exists() and read_json(begun) != digests:
        raise BadInput(
            "The de-identified folders or labels changed since this build was begun; build into a new folder."
        )
    write_atomic(begun, json.dumps(digests))


def _flow(first_counts: list[dict[str, int]], tallies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The flow table: what remains after each rule. Chunks hold whole patients, so their counts add up."""
    names = ("Images de-identified", "Images that stand in two exports once")
    flow: list[dict[str, Any]] = [{"step": n, **c} for n, c in zip(names, first_counts, strict=True)]
    for steps in zip(*(tally["flow"] for tally in tallies), strict=True):
        sums = {key: sum(s[key] for s in steps) for key in ("images", "studies", "patients", "reports")}
        flow.append({"step": steps[0]["step"], **sums})
    return flow


def _write_references(run: RunFolder, index: pa.Table, candidates: pa.Table, folders: tuple[Path, ...]) -> None:
    """A few images as their files hold them, for `evaluate` to hold the store against."""
    rows = choose_references(index)
    chosen = pa.array([row["instance"] for row in rows], pa.string())
    files = {c["instance"]: c for c in candidates.filter(pc.is_in(candidates["instance"], chosen)).to_pylist()}

    def read(row: dict[str, Any]) -> np.ndarray:
        file = files[row["instance"]]
        return unwindowed(dcmread(inside(folders[file["source"]], file["output"])))

    write_references(run.root, rows, read)


def assemble(run: RunFolder, parts: Path, count: int) -> tuple[pa.Table, list[str]]:
    """The index (with `number`), its images placed in shards; and the digests of the shards."""
    indexes, files = [], []
    for i in range(count):
        pixels, index, _ = part_files(parts, i)
        indexes.append(pq.read_table(index, schema=PART))
        sizes = pc.multiply(pc.cast(indexes[-1]["rows"], pa.int64()), indexes[-1]["columns"])
        files.append(Part(pixels, tuple(sizes.to_pylist())))
    index = pa.concat_tables(indexes)
    places, done = [], 0
    for shard, offset, digest in assemble_shards(run.root, files):
        run.check_stop()
        places.append((shard, offset, digest))
        done += len(shard)
        run.progress(done, len(index), "writing shards")
    shards, offsets = (np.concatenate([place[i] for place in places]) for i in (0, 1))
    for name, values in (("image", np.arange(len(index))), ("shard", shards), ("offset", offsets)):
        place = PART.get_field_index(name)
        index = index.set_column(place, PART.field(place), pa.array(values, PART.field(place).type))
    return index, [place[2] for place in places]


def _join_and_seal(
    spec: Spec,
    run: RunFolder,
    sources: list[Source],
    labelled: Labelled,
    index: pa.Table,
    digests: list[str],
    flow: list[dict[str, Any]],
    tallies: list[dict[str, Any]],
) -> dict[str, Any]:
    accessions = pc.unique(index["accession"])
    texts = join_texts(sources, accessions)
    labels, disagreed = join_labels(sources, labelled, accessions)
    masks, masks_left_out = join_masks(sources, index, run.root)
    content = {"index": index.select(tables.INDEX.names), "texts": texts, "labels": labels, "masks": masks}
    last = {name: flow[-1][name] for name in ("images", "studies", "patients")}
    counts = last | {
        "reports": len(texts),
        "labelled": len(pc.unique(labels["accession"])),
        "masked": len(pc.unique(masks["accession"])),
        "masks": len(masks),
        "masks_left_out": masks_left_out,
        "labels_disagreed": disagreed,
        "labels_from": count_sources(labels),
        "age_unknown": sum(tally["age_unknown"] for tally in tallies),
        "windows": _sum(tally["windows"] for tally in tallies),
        "undecodable": _sum(tally["undecodable"] for tally in tallies),
        "splits": split_counts(index),
    }
    facts = {
        "practice": sources[0].practice,
        "side": spec.side,
        "policies": sorted({s.policy for s in sources}),
        "sites": sorted({s.site for s in sources}),
        "sources": [s.digest for s in sources],
        "label_sources": list(spec.label_sources),
        "counts": counts,
        "flow": flow,
    }
    return seal_cohort(run.root, content, digests, facts)


def split_counts(index: pa.Table) -> dict[str, dict[str, int]]:
    """Images and patients of each split."""
    counts = {}
    for split in ("train", "validation", "test"):
        rows = index.filter(pc.field("split") == split)
        counts[split] = {"images": len(rows), "patients": len(pc.unique(rows["patient"]))}
    return counts


def _sum(counts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
