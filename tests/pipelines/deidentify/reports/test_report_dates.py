"""Dates keep their spelling and their intervals when they move."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.deidentify.reports.dates import find_dates, parse_any, spellings

DAYS = st.dates(date(1925, 1, 1), date(2035, 12, 31))
SHIFTS = st.integers(1, 520).map(lambda weeks: -7 * weeks)
# Spellings that say day, month and year without doubt.
FORMATS = [
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d %B %Y",
    "%d-%b-%Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%B %d %Y",
    "%A, %B %d, %Y",
]


@given(day=DAYS, shift=SHIFTS, form=st.sampled_from(FORMATS))
def test_a_moved_date_is_the_moved_day_in_the_same_spelling(day, shift, form):
    text = f"Compared with {day.strftime(form)}, no change."
    (found,) = find_dates(text)
    assert found.day == day
    assert text[found.start : found.end] == found.text
    # %B and %b of May are one word, so the spelling of a moved May is compared by what it says.
    moved = found.shifted(shift)
    assert parse_any(moved) == day + timedelta(days=shift)
    if "%A" not in form and day.month != 5 and (day + timedelta(days=shift)).month != 5:
        assert moved == (day + timedelta(days=shift)).strftime(form)


@given(first=DAYS, second=DAYS, shift=SHIFTS)
def test_intervals_between_dates_stay(first, second, shift):
    a, b = find_dates(f"Film of {first:%m/%d/%Y} and film of {second:%Y-%m-%d}.", known=(first, second))
    assert (a.day, b.day) == (first, second)
    moved = [parse_any(a.shifted(shift)), parse_any(b.shifted(shift))]
    (again,) = find_dates(a.shifted(shift), known=(first + timedelta(days=shift),))
    assert again.day - moved[1] == first - second


@given(text=st.text(max_size=200))
def test_any_text_is_read_without_error_and_places_are_valid(text):
    spans = find_dates(text)
    at = 0
    for span in spans:
        assert at <= span.start < span.end <= len(text)
        assert isinstance(span.shifted(-70), str)
        at = span.end


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("on 3/7/19 at", "on 2/28/19 at"),
        ("EXAM 03/07/2019", "EXAM 02/28/2019"),
        ("seen 7-MAR-2019.", "seen 28-FEB-2019."),
        ("3rd of March 2019", "24th of February 2019"),
        ("the March 17 film", "the March 10 film"),
        ("on 3/17 and", "on 3/10 and"),
        ("since March 2019", "since March 2019"),
        ("vom 17. März 2019", "vom 10. März 2019"),
        ("le 7 mars 2019", "le 28 février 2019"),
        ("el 7 de marzo de 2019", "el 28 de febrero de 2019"),
        ("2019 MAR 17", "2019 MAR 10"),
        ("in 2019-3-7", "in 2019-2-28"),
    ],
)
def test_spellings_in_use(text, moved):
    out = text
    for span in reversed(find_dates(text, reference=date(2019, 6, 1))):
        out = out[: span.start] + span.shifted(-7) + out[span.end :]
    assert out == moved


@pytest.mark.parametrize(
    "text",
    [
        "blood pressure 120/80 and 5/5 strength",
        "a 2/6 systolic murmur",
        "T12/L1 disc, L4-5",
        "nodule of 1.2.3 series, 3-4-5 ribs",
        "may 2 views be obtained",
        "heart size 12.5 x 3.4 cm, 10/20 mm",
        "ratio 1/2 to 3/4",
        "version 2.10.12",
        "a total of 03 of 10",
    ],
)
def test_numbers_that_are_no_dates(text):
    assert find_dates(text, reference=date(2019, 6, 1)) == []


def test_the_header_settles_whether_the_day_comes_first():
    text = "Exam 04/03/2019, prior 05/03/2019."
    assert [s.day for s in find_dates(text)] == [date(2019, 4, 3), date(2019, 5, 3)]
    assert [s.day for s in find_dates(text, known=[date(2019, 3, 4)])] == [date(2019, 3, 4), date(2019, 3, 5)]


def test_eight_digits_are_a_date_only_where_the_header_has_it():
    assert find_dates("number 20190307 here") == []
    (span,) = find_dates("number 20190307 here", known=[date(2019, 3, 7)])
    assert span.shifted(-7) == "20190228"


def test_a_date_that_does_not_exist_is_not_left_standing():
    (span,) = find_dates("on 13/45/2019 again")
    assert span.shifted(-7) == "[DATE]"


@given(day=DAYS)
def test_every_spelling_looked_for_afterwards_is_one_that_is_found_first(day):
    for spelling in spellings(day):
        spans = find_dates(f"of {spelling} .", known=(day,))
        assert len(spans) == 1 and spans[0].text == spelling, spelling
