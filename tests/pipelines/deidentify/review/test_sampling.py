"""The sampling plan and its bound, held against binomial sums; the choice, held against sorting everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from pipelines.deidentify.review.sampling import CONFIDENCE, FACTORS, choose, plan, position, score, upper_bound

RISK = st.lists(st.sampled_from(sorted(FACTORS)), unique=True)
ROWS = st.lists(st.tuples(RISK, st.integers(0, 30)), max_size=80).map(
    lambda drawn: [{"instance": f"2.25.{n}", "risk": r, "boxes": b} for n, (r, b) in enumerate(drawn)]
)


@given(st.integers(1, 3000), st.data())
def test_at_the_bound_so_few_leaks_would_come_out_in_one_of_twenty_reviews(reviewed: int, data: st.DataObject) -> None:
    leaks = data.draw(st.integers(0, reviewed - 1))
    assert binom.cdf(leaks, reviewed, upper_bound(leaks, reviewed)) == pytest.approx(1 - CONFIDENCE, rel=1e-6)


def test_the_bound_at_its_ends() -> None:
    assert upper_bound(0, 0) == upper_bound(5, 5) == 1.0
    assert upper_bound(0, 59) < 0.05 < upper_bound(0, 58)
    assert upper_bound(1, 93) == pytest.approx(0.05, abs=5e-4)
    with pytest.raises(ValueError):
        upper_bound(3, 2)


@pytest.mark.parametrize(("images", "random", "aim"), [(9_999, 59, 0.05), (10_000, 299, 0.01), (3_500_000, 598, 0.005)])
def test_a_plan_rules_out_its_aim(images: int, random: int, aim: float) -> None:
    made = plan(images)
    assert (made.random, made.aim) == (random, upper_bound(0, random))
    assert made.aim <= aim < upper_bound(0, random - 1)


def test_a_small_export_is_reviewed_whole_and_a_wish_is_heard() -> None:
    assert (plan(40).random, plan(40).risk) == (40, 0)
    assert (plan(70).random, plan(70).risk) == (59, 11)
    assert (plan(70, 20).random, plan(70, 20).risk) == (20, 10)
    assert (plan(0).random, plan(0).aim) == (0, 1.0)


@given(ROWS, st.integers(1, 30), st.randoms())
def test_the_choice_is_the_sorted_one_in_any_order_of_rows(rows: list[dict], size: int, shuffler) -> None:
    made = plan(len(rows), size)
    by_place = sorted(rows, key=lambda r: position(r["instance"]))
    random, rest = by_place[: made.random], by_place[made.random :]
    risk = sorted(rest, key=lambda r: -score(r))[: made.risk]  # stable: equal risks stay in random order
    shuffler.shuffle(rows)
    chosen = choose(rows, made)
    assert [c.row for c in chosen] == random + risk
    assert [c.number for c in chosen] == list(range(1, len(chosen) + 1))
    assert [c.drawn for c in chosen] == ["random"] * len(random) + ["risk"] * len(risk)
