"""Names of known persons in a text read as words."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.deidentify.reports.names import find_names, near


def test_near_is_one_letter_or_a_swap_and_the_first_letter_stands():
    assert all(near(w, "lindqvist") for w in ("lindqist", "lindqvisst", "lindqwist", "lindqvits", "lidnqvist"))
    assert not any(near(w, "lindqvist") for w in ("bindqvist", "lindqvi", "lindquits", "lindqvisten"))
    assert near("borwn", "brown") and not near("brawn", "brown") and not near("xi", "xu")


@given(st.text("abcdefgh", min_size=6, max_size=9), st.integers(1, 8), st.sampled_from("xyz"))
def test_any_single_slip_in_a_long_name_is_near(name, at, letter):
    at = min(at, len(name) - 1)
    assert near(name[:at] + letter + name[at:], name)
    assert near(name[:at] + letter + name[at + 1 :], name)
    assert len(name) < 7 or near(name[:at] + name[at + 1 :], name)
    swapped = name[:1] + name[1:at] + name[at : at + 2][::-1] + name[at + 2 :]
    assert swapped == name or near(swapped, name)


def spans(text, *names):
    found, doubtful = find_names(text, names)
    return {text[s.start : s.end]: s.recogniser for s in found}, [text[s.start : s.end] for s in doubtful]


def test_a_misspelt_name_goes_and_a_word_of_the_language_that_is_near_stays():
    found, doubtful = spans(
        "Seen by Lindqist. Linear opacity, KOWALCZKY noted; the Fissures clear. Kowalczik-like.",
        "Lindqvist^A",
        "Kowalczyk^B",
        "Fissurer^C",
    )
    assert found == {"Lindqist": "misspelt", "KOWALCZKY": "misspelt"}
    assert doubtful == ["Kowalczik"]  # a sentence begins with it, so that its capital says nothing


def test_full_names_with_initials_particles_and_middle_names_are_one_span():
    pn = "van der Berg^Anneliese^Maria"
    for text in ("Anneliese van der Berg", "A. van der Berg", "Berg, Anneliese", "Anneliese Maria van der Berg",
                 "A. M. Berg", "Berg, A.", "BERG ANNELIESE M."):  # fmt: skip
        found, _ = spans(f"Seen: {text} today", pn)
        assert text in found, text


def test_a_lone_ordinary_word_is_left_and_said_to_be_doubtful():
    found, doubtful = spans("Heart size normal. The heart is seen. Dr. Heart agrees.", "Heart^Will")
    assert list(found) == ["Heart"] and doubtful == ["Heart"]
