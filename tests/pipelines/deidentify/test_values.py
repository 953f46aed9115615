"""Values by VR: dates move and stay dates, ages are capped, the malformed is refused, whatever the input."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.deidentify.values import Malformed, cap_age, is_number, parse_date, shift

WEEKS = st.integers(-520, -1).map(lambda w: 7 * w)


@given(st.dates(min_value=datetime(1900, 1, 1).date()), WEEKS)
def test_a_date_moves_by_exactly_the_days_and_keeps_its_weekday(day, days: int) -> None:
    moved = datetime.strptime(shift("DA", day.strftime("%Y%m%d"), days), "%Y%m%d").date()
    assert (moved - day) == timedelta(days=days)
    assert moved.weekday() == day.weekday()


@given(st.dates(min_value=datetime(1900, 1, 1).date()), st.dates(min_value=datetime(1900, 1, 1).date()), WEEKS)
def test_intervals_between_the_dates_of_a_patient_stay(first, second, days: int) -> None:
    a, b = (parse_date(shift("DA", d.strftime("%Y%m%d"), days)) for d in (first, second))
    assert b - a == second - first


@given(st.datetimes(min_value=datetime(1900, 1, 1)), WEEKS, st.sampled_from(["", "+0100", "-0530"]))
def test_a_datetime_keeps_its_time_and_zone(moment: datetime, days: int, zone: str) -> None:
    value = moment.strftime("%Y%m%d%H%M%S.%f") + zone
    moved = shift("DT", value, days)
    assert moved[8:] == value[8:]
    assert moved[:8] == shift("DA", value[:8], days)


@given(st.sampled_from(["DA", "DT", "TM"]), st.text(max_size=30), WEEKS)
def test_any_text_is_moved_or_refused_never_passed_on(vr: str, value: str, days: int) -> None:
    try:
        moved = shift(vr, value, days)
    except Malformed:
        return
    assert moved == "" or moved[:2].isdigit()


NO_DATES = ["20190230", "2019", "201903", "Smith", "20190304 Smith", "99999999", "00010101", "2019-03-04"]


@pytest.mark.parametrize("value", NO_DATES)
def test_what_is_no_date_is_refused(value: str) -> None:
    with pytest.raises(Malformed):
        shift("DA", value, -7)


@pytest.mark.parametrize(
    ("vr", "value", "days", "moved"),
    [
        ("DA", "20190304", -7, "20190225"),
        ("DA", "2019.03.04", -7, "20190225"),
        ("DA", "20000301", -7, "20000223"),
        ("DT", "20190304104233.120+0100", -14, "20190218104233.120+0100"),
        ("TM", "104233.5", -7, "104233.5"),
        ("TM", "10:42:33", -7, "104233"),
        ("DA", "", -7, ""),
    ],
)
def test_known_dates(vr: str, value: str, days: int, moved: str) -> None:
    assert shift(vr, value, days) == moved


@pytest.mark.parametrize(
    ("age", "capped"),
    [
        ("089Y", "089Y"),
        ("090Y", "090Y"),
        ("091Y", "090Y"),
        ("103Y", "090Y"),
        ("011M", "011M"),
        ("003D", "003D"),
        ("", ""),
    ],
)
def test_ages(age: str, capped: str) -> None:
    assert cap_age(age) == capped


@pytest.mark.parametrize("age", ["91", "Y091", "91Y", "born 1930"])
def test_what_is_no_age_is_refused(age: str) -> None:
    with pytest.raises(Malformed):
        cap_age(age)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_numbers(value: float) -> None:
    assert is_number(repr(value))
    assert not is_number(f"{value!r} Smith")
