"""Readings that are marks of the radiographer's, and readings that are not, however alike."""

import pytest

from pipelines.deidentify.pixels_words import MARKERS, is_marks, may_become_marks, words_of

MARKS = ["L", "R", "AP ERECT", 'PORT AP 40"', "L LAT", "LLAT", "APPORTABLE", "PAERECT", "10 cm", "0 5 10 cm", "180 cm",
         "SEMI-ERECT", "AP SEMI ERECT 72 IN", "R DECUB", "Ｌ ERECT", "PORTABLE 72IN"]  # fmt: skip
MISREAD = ["ILAT", "PA ERECE", "PORTABLE AF", "0510CM", "RDECUB", "AP SUPlNE"]
OTHERS = ["SUPINO", "ILATE", "ERECE", "AP SUPINO MARIA", "0510", "051051CM9", "PORTABLE XUAN", "12051020",
          "WEATHERBY", "MEI XU", "L WEATHERBY", "AP 4471203", "PORTER", "LATON", "ERECTSON MAY", "40", "183", "PAL",
          "RON", "BEDE", "12 03 1951", "ROSE", "LINE", "APRIL", "PATEL", "LEFTWICH", "MARK", "R HALL"]  # fmt: skip


@pytest.mark.parametrize("reading", MARKS)
def test_marks_are_told_in_full_and_by_their_heads(reading):
    assert is_marks(words_of(reading), MARKERS)
    # A head may end anywhere, and its last letter may be cut through.
    heads = [reading[:n] + cut for n in range(1, len(reading)) if reading[n - 1] != " " for cut in ("", "I")]
    assert [head for head in heads if not may_become_marks(words_of(head), MARKERS)] == []


@pytest.mark.parametrize("reading", MISREAD)
def test_marks_read_with_one_slip_are_marks(reading):
    assert is_marks(words_of(reading), MARKERS)


@pytest.mark.parametrize("reading", OTHERS)
def test_names_and_numbers_are_no_marks(reading):
    assert not is_marks(words_of(reading), MARKERS)


@pytest.mark.parametrize("head", ["WEATH", "SMIT", "MRN 83", "DOB 12", "44712", "HARRO", "DR HAD", "L HALL"])
def test_the_head_of_other_print_is_enough(head):
    assert not may_become_marks(words_of(head), MARKERS)
