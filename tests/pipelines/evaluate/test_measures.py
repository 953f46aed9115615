"""Metrics that are ratios of sums: values, pairing, draws against a double loop, what says nothing."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines import tables
from pipelines.evaluate import measures, stats


@pytest.fixture(scope="module")
def table():
    """Two models, two labels, two seeds, forty patients of one to three images; every fifth image says nothing of B."""
    rng = np.random.default_rng(3)
    patient = np.repeat(np.arange(40), rng.integers(1, 4, 40))
    rows = []
    for image, p in enumerate(patient):
        for label in "AB":
            tp, errors = rng.integers(0, 6), rng.integers(0, 6)
            for seed in (0, 1):
                for model, gain in (("good", 3), ("poor", 0)):
                    top, bottom = 2.0 * (tp + gain + seed), 2.0 * (tp + gain + seed) + errors
                    silent = label == "B" and image % 5 == 0
                    values = (0.0, 0.0) if silent else (top, bottom)
                    names = {"model": model, "task": "reports", "label": label, "seed": seed, "metric": "label_f1"}
                    at = {"image": image, "patient": f"P{p:02d}"}
                    rows.append({**names, **at, "numerator": values[0], "denominator": values[1]})
    order = rng.permutation(len(rows))
    return pa.Table.from_pylist([rows[i] for i in order], schema=tables.MEASURES), rows


def row(rows, **wanted):
    found = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


def ratio(rows, **wanted):
    of = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return sum(r["numerator"] for r in of) / sum(r["denominator"] for r in of)


def test_a_value_is_the_ratio_of_sums_and_the_mean_over_seeds_then_labels(table):
    found = measures.analyse(table[0], [], 100)
    by_label = {label: np.mean([ratio(table[1], model="good", label=label, seed=s) for s in (0, 1)]) for label in "AB"}
    for label, expected in by_label.items():
        assert row(found, model="good", label=label)["value"] == pytest.approx(expected)
    assert row(found, model="good", label="macro")["value"] == pytest.approx(np.mean(list(by_label.values())))


def test_draws_of_a_difference_equal_a_double_loop(table):
    found = row(measures.analyse(table[0], [("good", "poor")], 150), model="good", baseline="poor", label="B")
    names = sorted({r["patient"] for r in table[1]})
    drawn = []
    for counts, taken in stats.draw_patients(len(names), 2, 150):
        for d, seed in enumerate(taken):
            weight = dict(zip(names, counts[:, d], strict=True))
            values = []
            for model in ("good", "poor"):
                of = [r for r in table[1] if (r["model"], r["label"], r["seed"]) == (model, "B", seed)]
                top = sum(weight[r["patient"]] * r["numerator"] for r in of)
                values.append(top / sum(weight[r["patient"]] * r["denominator"] for r in of))
            drawn.append(values[0] - values[1])
    assert (found["low"], found["high"]) == pytest.approx(stats.interval(np.array(drawn), patients=found["positives"]))
    assert found["low"] > 0 and found["p"] < 0.05


def test_the_order_of_rows_does_not_matter(table):
    shuffled = table[0].take(pa.array(np.random.default_rng(0).permutation(len(table[0]))))
    key = lambda r: (r["model"], str(r["baseline"]), r["label"])  # noqa: E731
    first, second = (sorted(measures.analyse(t, [("good", "poor")], 100), key=key) for t in (table[0], shuffled))
    assert first == second


def test_patients_of_whom_the_metric_says_nothing_are_no_positives(table):
    found = row(measures.analyse(table[0], [], 100), model="good", label="B")
    silent = {r["patient"] for r in table[1] if r["label"] == "B"} - {
        r["patient"] for r in table[1] if r["label"] == "B" and r["denominator"]
    }
    assert found["patients"] - found["positives"] == len(silent)


def test_a_label_that_says_nothing_at_all_is_nan_and_leaves_the_macro():
    base = {"model": "m", "task": "reports", "seed": 0, "metric": "label_f1"}
    rows = [
        base | {"label": label, "image": i, "patient": f"P{i}", "numerator": top, "denominator": bottom}
        for i in range(4)
        for label, top, bottom in (("A", 1.0, 2.0), ("none", 0.0, 0.0))
    ]
    found = measures.analyse(pa.Table.from_pylist(rows, schema=tables.MEASURES), [], 100)
    assert np.isnan(row(found, label="none")["value"])
    assert row(found, label="macro")["value"] == 0.5
