"""Results from a score table: pairing, seeds, macro, Holm over labels, order of rows."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from pipelines import tables
from pipelines.evaluate import delong, results, stats


def score_table(scores, target, patient, task="findings"):
    """`scores`: model -> label -> seeds x images; `target`: label -> images, nan for unknown."""
    parts = []
    for model, labels in scores.items():
        for label, by_seed in labels.items():
            known = np.isfinite(target[label])
            for seed, score in enumerate(by_seed):
                rows = {
                    "model": [model] * known.sum(),
                    "task": [task] * known.sum(),
                    "method": ["linear"] * known.sum(),
                    "label": [label] * known.sum(),
                    "seed": [seed] * known.sum(),
                    "image": np.flatnonzero(known),
                    "patient": [f"P{p:03d}" for p in patient[known]],
                    "target": target[label][known].astype(np.int8),
                    "score": np.asarray(score, np.float32)[known],
                }
                parts.append(pa.table(rows, schema=tables.SCORES))
    return pa.concat_tables(parts)


def smaller(target, patient):
    """Patients of the rarer class."""
    return min(len(set(patient[target == value])) for value in (0, 1))


@pytest.fixture(scope="module")
def planted():
    """Two labels, three seeds: `good` beats `poor` by far on A and equals it on B."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(80), 2)
    target = {name: (rng.random(160) < 0.4).astype(float) for name in "AB"}
    target["B"][::9] = np.nan
    noise = {name: rng.normal(size=(3, 160)) for name in "AB"}
    same = np.nan_to_num(target["B"]) + noise["B"]
    scores = {
        "good": {"A": 3 * target["A"] + noise["A"], "B": same},
        "poor": {"A": 0.5 * target["A"] + noise["A"], "B": same},
    }
    return score_table(scores, target, patient), scores, target, patient


def row(rows, **wanted):
    found = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_values_are_means_over_seeds_and_labels(planted):
    table, scores, target, _ = planted
    rows = results.analyse(table, [("good", "poor")], 200)
    by_label = {}
    for label in "AB":
        known = np.isfinite(target[label])
        by_label[label] = np.mean([roc_auc_score(target[label][known], s[known]) for s in scores["good"][label]])
        value = row(rows, model="good", baseline=None, label=label, metric="auroc")
        assert value["value"] == pytest.approx(by_label[label], abs=1e-6)
        assert value["low"] < value["value"] < value["high"]
    macro = row(rows, model="good", baseline=None, label="macro", metric="auroc")
    assert macro["value"] == pytest.approx(np.mean(list(by_label.values())), abs=1e-6)


def test_counts_are_images_patients_and_positive_patients(planted):
    table, _, target, patient = planted
    found = row(results.analyse(table, [], 100), model="good", label="B", metric="auprc")
    known = np.isfinite(target["B"])
    assert found["images"] == known.sum()
    assert found["patients"] == len(set(patient[known]))
    assert found["positives"] == len(set(patient[target["B"] == 1]))


def test_a_planted_difference_is_shown_and_an_absent_one_is_exactly_zero(planted):
    rows = results.analyse(planted[0], [("good", "poor")], 1000)
    shown = row(rows, baseline="poor", label="A", metric="auroc")
    assert shown["low"] > 0 and shown["p"] < 0.05
    absent = row(rows, baseline="poor", label="B", metric="auroc")
    assert (absent["value"], absent["low"], absent["high"], absent["p"]) == (0, 0, 0, 1)


def test_label_p_values_are_holm_adjusted_and_the_macro_stands_apart(planted):
    rows = results.analyse(planted[0], [("good", "poor")], 1000)
    _, _, target, patient = planted
    least = {
        label: stats.two_sided_p(np.ones(1000), smaller(target[label], patient)) for label in "AB"
    }  # what 1,000 draws on one side of zero can show
    assert row(rows, baseline="poor", label="A", metric="auroc")["p"] == pytest.approx(2 * least["A"])
    assert row(rows, baseline="poor", label="macro", metric="auroc")["p"] < 2 * least["A"]


def test_draws_equal_a_double_loop_with_the_same_patients_and_seed_for_both_models(planted):
    table, scores, target, patient = planted
    draws = 60
    rows = results.analyse(table, [("good", "poor")], draws)
    slow = []
    for counts, taken in stats.draw_patients(80, 3, draws):
        for d, seed in enumerate(taken):
            chosen = [i for p in range(80) for _ in range(int(counts[p, d])) for i in np.flatnonzero(patient == p)]
            area = {m: roc_auc_score(target["A"][chosen], scores[m]["A"][seed][chosen]) for m in scores}
            slow.append(area["good"] - area["poor"])
    found = row(rows, baseline="poor", label="A", metric="auroc")
    expected = stats.interval(np.array(slow), patients=smaller(target["A"], patient))
    assert (found["low"], found["high"]) == pytest.approx(expected, abs=1e-6)


def test_the_order_of_rows_changes_nothing(planted):
    table = planted[0]
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    key = lambda r: tuple(str(r[k]) for k in ("model", "baseline", "label", "metric"))  # noqa: E731
    first = sorted(results.analyse(table, [("good", "poor")], 150), key=key)
    assert sorted(results.analyse(shuffled, [("good", "poor")], 150), key=key) == first


def test_seeds_that_disagree_widen_the_interval(planted):
    _, scores, target, patient = planted
    steady = {"m": {"A": np.stack([scores["good"]["A"][0]] * 3)}}
    torn = {"m": {"A": np.stack([scores["good"]["A"][0], scores["poor"]["A"][0], scores["good"]["A"][0]])}}
    width = {}
    for name, s in (("steady", steady), ("torn", torn)):
        found = row(results.analyse(score_table(s, target, patient), [], 500), label="A", metric="auroc")
        width[name] = found["high"] - found["low"]
    assert width["torn"] > 1.5 * width["steady"]


def test_delong_stands_beside_where_every_patient_has_one_image_and_is_holm_adjusted(planted):
    table, scores, target, patient = planted
    assert {r["p_delong"] for r in results.analyse(table, [("good", "poor")], 100)} == {None}
    single = score_table(scores, target, np.arange(len(patient)))
    rows = results.analyse(single, [("good", "poor")], 1000)
    found = row(rows, baseline="poor", label="A", metric="auroc")
    placed = {
        m: delong.mean([delong.placements(target["A"], np.asarray(s, np.float32)) for s in scores[m]["A"]])
        for m in scores
    }
    # Label B is equal in both models: its p is 1, so Holm doubles that of A.
    assert found["p_delong"] == pytest.approx(2 * delong.paired_p(placed["good"], placed["poor"]), rel=1e-6)
    assert row(rows, baseline="poor", label="B", metric="auroc")["p_delong"] == 1.0
    assert {r["p_delong"] for r in rows if r["metric"] != "auroc" or r["label"] == "macro"} == {None}


def test_a_perfect_label_has_an_interval_with_width(planted):
    _, _, target, patient = planted
    table = score_table({"m": {"A": [target["A"]]}}, {"A": target["A"]}, patient)
    found = row(results.analyse(table, [], 100), label="A", metric="auroc")
    assert found["value"] == found["high"] == 1.0 and found["low"] == pytest.approx(
        0.025 ** (1 / smaller(target["A"], patient))
    )
