"""What counts as finding a value: spellings, borders, ordinary words, dates."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.score.judge import judge_report
from pipelines.score.key import Planted, Report
from pipelines.score.pixels import tokens
from pipelines.score.search import Matcher
from pipelines.score.values import CHARSETS, own_dates, read_date, strong_values, without_months


def matcher(*values: tuple[str, str]) -> Matcher:
    return Matcher((kind, text, i) for i, (kind, text) in enumerate(values))


@settings(deadline=None)
@given(
    st.sampled_from(["50211877", "ACC7001102", "Lakemoor Medical Center", "312-555-0147", "Müller-Ødegård"]),
    st.sampled_from(["utf-8", "latin-1", "utf-16-le", "utf-16-be"]),
    st.sampled_from([str, str.upper, str.lower]),
    st.binary(max_size=40),
    st.binary(max_size=40),
)
def test_a_value_is_found_in_any_charset_and_case(value, charset, case, before, after) -> None:
    data = before + b"\0\n" + case(value).encode(charset) + b"\n\0" + after
    assert matcher(("ID", value)).find(data)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    """Against plain substring search as the oracle."""
    values = ["abc", "abcdef", "ab12", "defdef12"]
    found = {owner for _, owner, _ in matcher(*(("OTHER", v) for v in values)).find(data)}
    text = data.lower()
    assert found == {i for i, v in enumerate(values) if any(v.encode(c) in text for c in CHARSETS)}


@settings(deadline=None)
@given(st.text("abcdef12", max_size=60))
def test_overlapping_patterns_are_all_found(text: str) -> None:
    values = ["abc", "bcd", "abcdef", "cdefab", "1a2b1a2b"]
    found = {owner for _, owner, _ in matcher(*(("OTHER", v) for v in values)).find(text.encode())}
    digits = {i for i, v in enumerate(values) if re.search(rf"(?<!\d){v}" if v[0].isdigit() else v, text)}
    assert found == digits


@pytest.mark.parametrize("text", ["2.25.850211877123", "id 502118771", "9950211877"])
def test_a_number_within_a_longer_number_is_chance(text: str) -> None:
    assert not matcher(("ID", "50211877")).find(text.encode())
    assert matcher(("ID", "50211877")).find(b"X50211877X")


def test_full_names_in_any_order_but_not_within_words() -> None:
    person = [Planted("PatientName", "NAME", "Art"), Planted("PatientName", "NAME", "Hill")]
    find = matcher(*strong_values(person)).find
    for text in ("Art Hill", "HILL, ART", "Hill^Art", "hill_art", "art.hill"):
        assert find(text.encode()), text
    assert not find(b"the start hill")
    assert not find(b"Art")


def test_names_of_two_people_are_not_joined() -> None:
    people = [Planted("PatientName", "NAME", "Art"), Planted("OperatorsName", "NAME", "Hill")]
    assert strong_values(people) == set()


def scrub(text: str, *spans: tuple[str, str]) -> Report:
    found = [(kind, text.index(value), text.index(value) + len(value)) for kind, value in spans]
    return Report(text, tuple(found))


def test_an_ordinary_word_that_was_always_there_is_no_leak() -> None:
    source = scrub("Mr. Heart. The heart is large. No line.", ("NAME", "Heart"))
    planted = source.values()
    assert judge_report("Mr. [NAME]. The heart is large.", source, planted, None) == ([], planted)
    assert judge_report("Mr. Heart. The heart is large.", source, planted, None) == (planted, [])
    assert judge_report("Mr. [NAME]. The organ is large.", source, planted, None) == ([], [])
    # Deleting the clinical word must not buy the right to keep the name.
    assert judge_report("Mr. Heart. The organ is large.", source, planted, None) == (planted, [])


def test_a_date_that_another_date_moved_onto_is_chance() -> None:
    planted = [Planted("a", "DATE", "20200108"), Planted("b", "DATE", "01/01/2020")]
    assert own_dates(planted, -7) == ({date(2020, 1, 8)}, {date(2020, 1, 1)})
    assert own_dates(planted, None) == ({date(2020, 1, 8), date(2020, 1, 1)}, set())


@pytest.mark.parametrize(
    "text", ["20200609", "20200609202732.120", "06/09/2020", "2020-06-09", "9.6.2020", "9 June 2020", "Jun 09, 2020"]
)
def test_dates_in_their_forms(text: str) -> None:
    assert read_date(text) == date(2020, 6, 9)


def test_tokens_ignore_accents_case_and_short_runs() -> None:
    assert tokens("Šimůnek, Jürgen  ID 12") == {"SIMUNEK", "JURGEN"}


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("signed on 16 May 2016.", False),
        ("May 16, 2016", False),
        ("16-May-2016", False),
        ("Dr. May 2016", True),
        ("BROWN, MAY  MRN: 15188722", True),
        ("May was seen on 16.05.2016", True),
        ("16 May", True),
    ],
)
def test_the_month_of_a_whole_date_is_no_name_and_a_name_is_no_month(text, stays):
    assert ("may" in without_months(text).lower()) is stays
