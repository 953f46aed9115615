"""Agreement of two sources, against scikit-learn's kappa and by hand."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score

from pipelines import tables
from pipelines.label.compare import compare, kappa


def test_kappa_is_cohens() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(-1, 2, 200), rng.integers(-1, 2, 200)
    other[:120] = one[:120]
    ours = kappa(Counter(zip(one.tolist(), other.tolist(), strict=True)))
    assert ours == pytest.approx(cohen_kappa_score(one, other), abs=1e-12)


def test_kappa_is_not_defined_without_two_values_or_any() -> None:
    assert kappa(Counter({(1, 1): 5})) is None
    assert kappa(Counter()) is None


def test_blank_and_unread_studies_count_where_they_should() -> None:
    def row(accession: str, source: str, value: int, label: str = "Edema") -> dict:
        return {"accession": accession, "patient": "P", "label": label, "value": value, "source": source}

    labels = [row("a", "site", 1), row("b", "site", 1), row("c", "site", 0), row("e", "site", 1)]
    labels += [row("a", "rules", 1), row("c", "rules", 1), row("d", "rules", 1), row("a", "rules", 0, "Fracture")]
    read = [{"accession": x, "source": "site", "reason": None} for x in "abce"]
    read += [{"accession": x, "source": "rules", "reason": "empty" if x == "e" else None} for x in "abcde"]
    rows = compare(
        pa.Table.from_pylist(labels, schema=tables.LABELS), pa.Table.from_pylist(read, schema=tables.LABELLED)
    )
    edema, fracture = rows
    assert (edema["studies"], edema["spoken"], edema["agreement"]) == (3, 2, 0.5)
    assert (edema["first_present"], edema["second_present"], edema["both_present"]) == (2, 2, 1)
    assert edema["kappa_present"] == pytest.approx(cohen_kappa_score([1, 1, 0], [1, 0, 1]))
    assert (fracture["label"], fracture["spoken"], fracture["agreement"], fracture["kappa"]) == (
        "Fracture",
        0,
        None,
        None,
    )
