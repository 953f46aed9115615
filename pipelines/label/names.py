"""One name for one thing: the spellings of labels that sites use, brought to those of the labellers."""

from __future__ import annotations

import tomllib
from functools import cache

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import tables
from pipelines.label.phrases import DATA, OTHER, load_phrases
from pipelines.label.values import NO_FINDING


def one_name(label: str) -> str:
    """The labellers' own spelling of a label; what they do not know stays as it is."""
    return _spellings().get(" ".join(label.replace("_", " ").lower().split()), label)


@cache
def _spellings() -> dict[str, str]:
    found = {name.lower(): name for name in (NO_FINDING, *load_phrases().findings, *tables.LINES) if name != OTHER}
    for name, others in tomllib.loads((DATA / "names.toml").read_text(encoding="utf-8")).items():
        found |= dict.fromkeys(others, name)
    return found


def site_labels(table: pa.Table) -> pa.Table:
    """The site's own labels (tables.LABELS) under one name each; two spellings that disagree leave it uncertain."""
    names = {label: one_name(label) for label in pc.unique(table["label"]).to_pylist()}
    renamed = pa.array([names[label] for label in table["label"].to_pylist()], pa.string())
    columns = {name: table[name] for name in tables.LABELS.names} | {"label": renamed}
    keys = ["accession", "patient", "label"]
    kept = [(name, "min") for name in ("value", "position", "version")]
    grouped = pa.table(columns).group_by(keys).aggregate([*kept, ("value", "max")])
    same = pc.equal(grouped["value_min"], grouped["value_max"])
    return pa.table(
        {name: grouped[name] for name in keys}
        | {"value": pc.if_else(same, grouped["value_min"], pa.scalar(-1, pa.int8()))}
        | {"source": pa.array(["site"] * len(grouped), pa.string())}
        | {name: grouped[f"{name}_min"] for name in ("position", "version")}
    ).cast(tables.LABELS)
