"""The rule by which a model becomes champion: the interval decides, against the champion of now."""

import pytest

from pipelines.evaluate.promotion import rule


def result(low: float, high: float, **changes) -> dict:
    row = {"task": "findings", "model": "new", "baseline": "old", "metric": "auroc"}
    row |= {"value": (low + high) / 2, "low": low, "high": high}
    models = [{"name": n, "weights_sha256": n[0]} for n in ("new", "old", "third")]
    told = {"models": models, "tasks": {"findings": {"new": {}, "old": {}}}, "protocol": "full", "verdicts": [row]}
    return told | changes


@pytest.mark.parametrize(
    ("low", "high", "allowed"),
    [(0.01, 0.05, True), (-0.009, 0.02, True), (-0.01, 0.02, False), (-0.03, 0.2, False), (-0.05, -0.03, False)],
)
def test_the_whole_interval_lies_above_minus_the_margin(low, high, allowed):
    ruling = rule(result(low, high), "findings", "n", "o", 0.01)
    assert ruling.allowed is allowed
    assert ruling.difference == {"value": (low + high) / 2, "low": low, "high": high}
    assert ("Better" in ruling.reason) is (low > 0)


def test_a_margin_of_nothing_asks_for_a_difference_above_zero():
    assert rule(result(1e-6, 0.1), "findings", "n", "o", 0).allowed
    assert not rule(result(0.0, 0.1), "findings", "n", "o", 0).allowed


def test_the_first_champion_needs_an_evaluation_but_no_rival():
    assert rule(result(-1, 1), "findings", "n", None, 0.01).allowed


@pytest.mark.parametrize(
    ("task", "model", "champion", "changes", "reason"),
    [
        ("findings", "o", "o", {}, "already"),
        ("findings", "x", "o", {}, "other models"),
        ("findings", "t", "o", {}, "could not score"),
        ("lines", "n", "o", {}, "could not score"),
        ("findings", "n", "t", {}, "does not compare"),
        ("findings", "n", "x", {}, "does not compare"),
        ("findings", "o", "n", {}, "does not compare"),
        ("findings", "n", "o", {"protocol": "below"}, "below protocol"),
        ("findings", "n", None, {"protocol": "below"}, "below protocol"),
    ],
)
def test_what_an_evaluation_does_not_show_is_refused(task, model, champion, changes, reason):
    ruling = rule(result(0.1, 0.2, **changes), task, model, champion, 0.01)
    assert not ruling.allowed and reason in ruling.reason
