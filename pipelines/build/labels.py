"""Labels joined to the studies of a cohort: from the sites' own tables and from label runs, by precedence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tables
from pipelines.build.inputs import Source
from pipelines.build.spec import Spec
from pipelines.contract import BadInput, read_json, sha256_file

SITE = "site"
DEFAULT_ORDER = Spec.model_fields["label_sources"].default


@dataclass(frozen=True)
class Labelled:
    """Where the labels of each source are read, and whom to hear first."""

    folders: dict[str, Path]
    """Digest of a de-identified folder -> its label run; a folder without one brings its site's table."""
    digests: list[str]
    """SHA-256 of the label runs' tables."""
    order: tuple[str, ...]


def open_labels(folders: tuple[Path, ...], sources: list[Source], order: tuple[str, ...]) -> Labelled:
    """The label runs of a build. BadInput when one is unfinished, damaged, of another export or of one given twice,
    and when a source is asked for that none of them has."""
    if len(set(order)) < len(order):
        raise BadInput("A label source is named twice; name each once, the one to be heard first in front.")
    found: dict[str, Path] = {}
    digests, has = [], set() if len(folders) == len(sources) else {SITE}
    for folder in folders:
        if not (folder / "result.json").exists():
            raise BadInput(f"The label run {folder.name} is not finished; run it to the end.")
        result = read_json(folder / "result.json")
        digest, sha = result.get("digest"), result.get("labels_sha256")
        if digest not in {s.digest for s in sources}:
            raise BadInput(
                f"The label run {folder.name} belongs to none of the exports, or to an older release; label anew."
            )
        if digest in found:
            raise BadInput("Two label runs of one export were given; give one.")
        path = folder / "labels.parquet"
        if not path.exists() or sha256_file(path) != sha:
            raise BadInput(f"labels.parquet of the label run {folder.name} is damaged or was changed; label anew.")
        found[digest], has = folder, has | set(result["sources"])
        digests.append(str(sha))
    # The default asks for rules where there may be none; only a build that would hear nobody is a mistake.
    missing = [s for s in order if s not in has]
    if missing and (len(missing) == len(order) or order != DEFAULT_ORDER):
        raise BadInput(f"No label run given has labels from '{missing[0]}'; label the exports with it first.")
    return Labelled(found, sorted(digests), order)


def join_labels(sources: list[Source], labelled: Labelled, accessions: pa.Array) -> tuple[pa.Table, int]:
    """tables.COHORT_LABELS sorted by accession and label, and how many values two exports disagreed on.

    Of the sources of labels that speak of one label of a study the first in order is heard; where it says two
    things, in two exports, the label is uncertain.
    """
    rows = pa.concat_tables([_rows(source, labelled, accessions) for source in sources])
    rank = pc.index_in(rows["source"], pa.array(labelled.order))
    rows = rows.append_column("rank", rank).filter(rank.is_valid())
    keys = ["accession", "patient", "label"]
    first = rows.group_by(keys).aggregate([("rank", "min")])
    rows = rows.join(first, keys).filter(pc.field("rank") == pc.field("rank_min"))
    kept = [(name, "min") for name in ("value", "position", "source", "version")]
    grouped = rows.group_by(keys).aggregate([*kept, ("value", "max")])
    same = pc.equal(grouped["value_min"], grouped["value_max"])
    columns = {name: grouped[name] for name in keys}
    columns |= {"value": pc.if_else(same, grouped["value_min"], pa.scalar(-1, pa.int8()))}
    columns |= {name: grouped[f"{name}_min"] for name in ("position", "source", "version")}
    table = pa.table(columns).cast(tables.COHORT_LABELS)
    return table.sort_by([("accession", "ascending"), ("label", "ascending")]), len(same) - (pc.sum(same).as_py() or 0)


def count_sources(labels: pa.Table) -> dict[str, int]:
    """How many labels each source gave."""
    return {entry["values"]: entry["counts"] for entry in labels["source"].value_counts().to_pylist()}


def _rows(source: Source, labelled: Labelled, accessions: pa.Array) -> pa.Table:
    """tables.LABELS of one export's studies in the cohort."""
    run = labelled.folders.get(source.digest)
    table = tables.read_table((run or source.folder) / "labels.parquet", tables.LABELS)
    table = table.filter(pc.is_in(table["accession"], accessions))
    if run is None:
        place = tables.LABELS.get_field_index("source")
        table = table.set_column(place, tables.LABELS.field(place), pa.array([SITE] * len(table), pa.string()))
    return table
