"""Views, ages, body parts and report sections as they come from real devices and people."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes

from pipelines.build.select import read_age, read_view
from pipelines.build.texts import split_sections


def view(text: str | None, code: str | None = None) -> str:
    ds = Dataset()
    if text is not None:
        ds.ViewPosition = text
    if code:
        item = Dataset()
        item.CodeValue = code
        ds.ViewCodeSequence = Sequence([item])
    return read_view(ds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PA", "PA"),
        ("AP SUPINE", "AP"),
        ("AP_ERECT", "AP"),
        ("LL", "LATERAL"),
        ("LATERAL", "LATERAL"),
        ("L", "LATERAL"),
        ("LAO", "other"),
        ("RPO", "other"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_view_positions(text: str | None, expected: str) -> None:
    assert view(text) == expected


def test_view_codes_of_the_standard() -> None:
    """pydicom's transcription of CID 4010 is the oracle."""
    assert view(None, codes.CID4010.PosteroAnterior.value) == "PA"
    assert view(None, codes.CID4010.AnteroPosterior.value) == "AP"
    assert view(None, codes.CID4010.LeftLateral.value) == "LATERAL"
    assert view(None, codes.CID4010.RightAnteriorOblique.value) == "unknown"
    assert view("PA", codes.CID4010.AnteroPosterior.value) == "PA"


@pytest.mark.parametrize(
    ("text", "years"),
    [("045Y", 45), ("090Y", 90), ("097Y", 90), ("017M", 1), ("216M", 18), ("010D", 0), ("060W", 1), ("45", None)],
)
def test_ages(text: str, years: int | None) -> None:
    assert read_age(text) == years


@settings(deadline=None)
@given(st.text(max_size=6))
def test_an_age_is_years_or_nothing(text: str) -> None:
    age = read_age(text)
    assert age is None or 0 <= age <= 90


def test_sections_by_heading() -> None:
    text = (
        "PATIENT: [NAME]  MRN: [ID]\nHISTORY: Cough.\nFINDINGS: Heart normal. Note: rotated film.\n"
        "No effusion.\nIMPRESSION: No acute disease.\nElectronically signed by [NAME], MD on [DATE].\n"
    )
    sections = split_sections(text)
    assert sections[3:] == ("Heart normal. Note: rotated film.\nNo effusion.", "No acute disease.")
    assert sections.indication == "Cough."


def test_headings_on_one_line_and_in_small_letters() -> None:
    assert split_sections("Findings: Clear lungs. Impression: Normal.")[3:] == ("Clear lungs.", "Normal.")
    assert split_sections("Technique: AP.\nConclusion:\nOedema.") == ("", "", "AP.", "", "Oedema.")
    assert split_sections("Comparison: [DATE].\nFindings: Clear.").comparison == "[DATE]."


def test_an_indication_never_becomes_a_finding() -> None:
    assert split_sections("INDICATION: Pneumonia?\nFINDINGS: ")[:4:3] == ("Pneumonia?", "")
    assert (
        split_sections("Old film.\nIndication: Pneumonia?\n\nLungs are clear.").findings
        == "Old film.\nLungs are clear."
    )
    assert split_sections("HISTORY: Cough.\nLUNGS: Clear.\nHEART: Normal.").findings == "LUNGS: Clear.\nHEART: Normal."
    assert split_sections(" No heading at all. ").findings == "No heading at all."


@pytest.mark.parametrize(
    "text",
    [
        "Klinische Angaben: Husten.\nBefund: Frei.\nBeurteilung: Unauffällig.",
        "Indicación: Tos.\nHallazgos: Sin alteraciones.\nImpresión: Normal.",
        "Renseignements cliniques: Toux.\nRésultats: Rien.\nConclusion: Normal.",
        "Klinische gegevens: Hoest.\nBevindingen: Schoon.\nConclusie: Normaal.",
    ],
)
def test_headings_of_other_languages(text: str) -> None:
    sections = split_sections(text)
    assert sections.indication and sections.findings and sections.impression


def test_an_addendum_is_read_with_the_impression() -> None:
    text = "FINDINGS: Clear.\nIMPRESSION: Normal.\n\nADDENDUM: Small nodule after all."
    assert split_sections(text)[3:] == ("Clear.", "Normal. Small nodule after all.")


def test_a_report_without_headings_is_all_findings() -> None:
    assert split_sections(" Clear lungs. ")[3:] == ("Clear lungs.", "")


def test_a_closing_paragraph_is_no_finding() -> None:
    text = "FINDINGS: Clear.\nIMPRESSION: Normal.\nFindings were discussed with Dr. [NAME] by telephone."
    assert split_sections(text)[3:] == ("Clear.", "Normal.")


@settings(deadline=None)
@given(st.text())
def test_sections_hold_only_words_of_the_report(text: str) -> None:
    for part in split_sections(text):
        assert all(word in text for word in part.split())
