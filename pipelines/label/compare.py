"""How far two sources of labels agree, label by label (tables.COMPARED)."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.label.values import PRESENT


def compare(labels: pa.Table, read: pa.Table) -> list[dict[str, Any]]:
    """Rows of tables.COMPARED for each pair of sources of `labels` (tables.LABELS), by label.

    `read` is tables.LABELLED: only studies that both sources read are compared.
    """
    sources = list(dict.fromkeys(read["source"].to_pylist()))
    accessions = {
        s: read.filter((pc.field("source") == s) & pc.field("reason").is_null())["accession"] for s in sources
    }
    rows = []
    for first, second in combinations(sources, 2):
        both = accessions[first].filter(pc.is_in(accessions[first], accessions[second].combine_chunks()))
        rows += _pair(labels, first, second, both)
    return rows


def kappa(counts: Counter[tuple[Any, Any]]) -> float | None:
    """Cohen's kappa of a table of (one's value, the other's value) -> count; None where it is undefined."""
    total = sum(counts.values())
    if not total:
        return None
    ones, others = Counter[Any](), Counter[Any]()
    for (one, other), n in counts.items():
        ones[one] += n
        others[other] += n
    observed = sum(n for (one, other), n in counts.items() if one == other) / total
    expected = sum(ones[value] * others[value] for value in ones) / total**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def _pair(labels: pa.Table, first: str, second: str, both: pa.ChunkedArray) -> list[dict[str, Any]]:
    one, other = (_of(labels, source, both) for source in (first, second))
    joined = one.join(other, ["accession", "label"], join_type="inner", right_suffix="_other")
    crossed = joined.group_by(["label", "value", "value_other"]).aggregate([([], "count_all")])
    tables: dict[str, Counter[tuple[Any, Any]]] = {}
    for row in crossed.to_pylist():
        tables.setdefault(row["label"], Counter())[row["value"], row["value_other"]] += row["count_all"]
    presents = [_presents(table) for table in (one, other)]
    names = sorted({*one["label"].to_pylist(), *other["label"].to_pylist()})
    return [
        _row(n, first, second, len(both), tables.get(n, Counter()), *(p.get(n, 0) for p in presents)) for n in names
    ]


def _of(labels: pa.Table, source: str, both: pa.ChunkedArray) -> pa.Table:
    mine = labels.filter(pc.field("source") == source).select(["accession", "label", "value"])
    return mine.filter(pc.is_in(mine["accession"], both.combine_chunks()))


def _presents(table: pa.Table) -> dict[str, int]:
    counted = table.filter(pc.field("value") == PRESENT)["label"].value_counts()
    return {entry["values"]: entry["counts"] for entry in counted.to_pylist()}


def _row(
    label: str, first: str, second: str, studies: int, crossed: Counter[tuple[Any, Any]], ones: int, others: int
) -> dict[str, Any]:
    spoken = sum(crossed.values())
    same = sum(n for (one, other), n in crossed.items() if one == other)
    both = crossed[PRESENT, PRESENT]
    present = {(1, 1): both, (1, 0): ones - both, (0, 1): others - both, (0, 0): studies - ones - others + both}
    return {
        "label": label,
        "first": first,
        "second": second,
        "studies": studies,
        "spoken": spoken,
        "agreement": same / spoken if spoken else None,
        "kappa": kappa(crossed),
        "first_present": ones,
        "second_present": others,
        "both_present": both,
        "kappa_present": kappa(Counter(present)),
    }
