"""The answer in words follows from the intervals and from nothing else."""

import pytest

from pipelines.evaluate.answer import number, sentences, verdict, with_interval, without_baseline


def row(task="findings", value=0.1, low=0.05, high=0.15, baseline="start", label="macro", model="ours"):
    names = {"model": model, "baseline": baseline, "task": task, "label": label, "metric": "auroc"}
    return {**names, "value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("value", "width", "signed", "text"),
    [
        (0.87123, 0.05, False, "0.871"),
        (0.87123, 0.2, False, "0.87"),
        (-0.1249, 0.2, True, "−0.12"),
        (0.1249, 0.2, True, "+0.12"),
        (-0.0004, 0.2, True, "0.00"),
        (float("nan"), 0.2, False, "–"),
    ],
)
def test_numbers_have_the_digits_their_interval_supports(value, width, signed, text):
    assert number(value, width, signed) == text


def test_differences_carry_their_sign_and_values_none():
    assert with_interval(row()) == "+0.10 [+0.05, +0.15]"
    assert with_interval(row(baseline=None)) == "0.10 [0.05, 0.15]"


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (-0.1, 0.1, "not shown"), (0.0, 0.1, "not shown")],
)
def test_only_a_whole_interval_on_one_side_of_zero_is_a_verdict(low, high, word):
    assert verdict(row(low=low, high=high)) == word


PAIR = {("ours", "start"): "its untrained start"}


def test_one_sentence_names_every_task_asked_for_and_the_control_last():
    rows = [row("view"), row("findings", 0.0, -0.1, 0.1), row("view", label="AP", low=-1), row("view", baseline=None)]
    said = sentences(rows, ("findings", "lines", "view"), PAIR)
    assert said[("ours", "start")] == (
        "ours is not shown to differ from its untrained start on findings (0.00 [−0.10, +0.10]); lines and tubes could "
        "not be scored; on the control task, view, it is better (+0.10 [+0.05, +0.15])."
    )


def test_verdicts_are_gathered():
    rows = [row("findings"), row("lines"), row("view", -0.2, -0.3, -0.1)]
    said = sentences(rows, ("findings", "lines", "view"), PAIR)
    assert said[("ours", "start")] == (
        "ours is better than its untrained start on findings (+0.10 [+0.05, +0.15]) and lines and tubes (+0.10 [+0.05, "
        "+0.15]); on the control task, view, it is worse (−0.20 [−0.30, −0.10])."
    )


def test_view_alone_is_the_answer_when_nothing_else_was_asked():
    said = sentences([row("view")], ("view",), PAIR)
    assert said[("ours", "start")] == "ours is better than its untrained start on view (+0.10 [+0.05, +0.15])."


def test_a_worse_model_is_called_worse():
    said = sentences([row(low=-0.2, high=-0.1, value=-0.15)], ("findings",), {("ours", "start"): "RAD-DINO"})
    assert said[("ours", "start")] == "ours is worse than RAD-DINO on findings (−0.15 [−0.20, −0.10])."


def test_without_a_baseline_nothing_is_claimed():
    text = without_baseline([row(baseline=None), row("view", baseline=None)])
    assert text.startswith("Nothing was compared") and "better" not in text and "0.10 [0.05, 0.15] on findings" in text
