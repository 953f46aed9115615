"""Identifiers leave a report, clinical words stay, and what is written is consistent."""

import json
import re
import socket
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.deidentify.identities import Identities, from_dataset
from pipelines.deidentify.reports.intake import SourceReport, read_reports
from pipelines.deidentify.reports.known import residue
from pipelines.deidentify.reports.scrub import ReportScrubber, Scrubbed, ScrubItem
from pipelines.deidentify.reports.words import word_list
from pipelines.keys import DerivationSecret

SECRET = DerivationSecret("site", 1, b"s" * 32)
WHO = Identities(
    names=frozenset({"Kowalczyk^Ingrid^M", "O'Sullivan^Niamh", "Müller-Lüdenscheid^Jürgen"}),
    ids=frozenset({"83920173", "ACC4455667", "0173", "CHEST", "CXR-ROOM-7"}),
    dates=frozenset({date(1947, 3, 11), date(2019, 11, 24)}),
    phones=frozenset({"404-555-0123"}),
    addresses=frozenset({"318 Millpond Road Apt 4"}),
    institutions=frozenset({"Lakemoor Medical Center"}),
    uids=frozenset({"1.2.826.0.1.3680043.10.1.20191124.5"}),
)
AMBIGUOUS = Identities(names=frozenset({"Heart^Will", "Stone^Grace", "Small^May", "Long^Mark"}))


@pytest.fixture(scope="module")
def scrubber() -> ReportScrubber:
    return ReportScrubber(SECRET)


def scrub(scrubber: ReportScrubber, text: str, who: Identities = WHO, days: int = -14) -> Scrubbed:
    (result,) = scrubber.scrub([ScrubItem(text, who, "P1", days)])
    return result


@pytest.mark.parametrize(
    "value",
    [
        "Ingrid Kowalczyk",
        "Kowalczyk, Ingrid",
        "KOWALCZYK, INGRID M.",
        "kowalczyk ingrid",
        "I. Kowalczyk",
        "Kowalczyk, I.",
        "Ingrid M Kowalczyk",
        "kowalczyk",
        "O'SULLIVAN",
        "OSullivan",
        "O’Sullivan",
        "Mueller-Luedenscheid",
        "Muller Ludenscheid",
        "Lüdenscheid",
        "Mu\u0308ller-Lu\u0308denscheid",
        "83920173",
        "8392-0173",
        "8392 0173",
        "0083920173",
        "acc4455667",
        "ACC-4455667",
        "CXR ROOM 7",
        "11.03.1947",
        "03/11/1947",
        "11 March 1947",
        "19470311",
        "Nov 24, 2019",
        "11/24/19",
        "(404) 555-0123",
        "4045550123",
        "404.555.0123",
        "318 Millpond Rd. Apt 4",
        "Millpond Road",
        "LAKEMOOR MEDICAL CENTER",
        "Lakemoor",
        "1.2.826.0.1.3680043.10.1.20191124.5",
    ],
)
def test_values_of_the_header_go_in_every_spelling(scrubber, value):
    text = f"No acute change for {value} since the last study."
    result = scrub(scrubber, text)
    assert not result.residue
    assert any(text[s.start : s.end] in value or value in text[s.start : s.end] for s in result.spans)
    assert value.lower() not in result.text.lower()
    own = (
        "kowalczyk",
        "ingrid",
        "sullivan",
        "denscheid",
        "3920173",
        "4455667",
        "0123",
        "millpond",
        "lakemoor",
        "10.1.2",
    )
    assert not any(piece in result.text.lower() for piece in own)
    assert result.text.startswith("No acute change for ") and result.text.endswith(" since the last study.")


@pytest.mark.parametrize(
    "text",
    [
        "Heart size is normal. The heart will be reassessed. A small stone in the left kidney; long line in place.",
        "Small effusion. Long segment stenosis. Stone disease. May represent atelectasis. Will follow. Mark resolved.",
        "HEART SIZE NORMAL. NO SMALL STONE. LONG STANDING CHANGE. MAY BE SCARRING.",
        "Grade 2/6 murmur; BP 120/80. Right upper lobe nodule 12 x 8 mm, T12/L1. EF 45-50%. CHEST: clear.",
        "Compared with the outside hospital film. Discussed with the Emergency Department. Hilar fullness at 10:42.",
        "PICC tip in the SVC. ET tube 4 cm above the carina. Swan-Ganz catheter. Port-A-Cath. Kerley B lines.",
        "78-year-old male, XXXX XXXX, with XXXX pain. Chest radiograph, 2 views. Hodgkin disease in 0173 cases.",
    ],
)
def test_clinical_text_stays_to_the_letter(scrubber, text):
    who = WHO | AMBIGUOUS
    result = scrub(scrubber, text, who)
    assert result.text == text and result.spans == [] and not result.residue


@pytest.mark.parametrize(
    "text",
    [
        "PATIENT: Heart, Will  MRN:",
        "PATIENT: HEART, WILL",
        "Mr. Heart presents",
        "Findings were discussed with Dr. Small by telephone",
        "Electronically signed by Grace Stone, MD on",
        "read by Long, Mark",
        "we saw Mark Long today",
    ],
)
def test_names_that_are_ordinary_words_go_where_the_context_names_a_person(scrubber, text):
    out = scrub(scrubber, text, AMBIGUOUS).text
    assert not set(re.findall(r"\w+", out.lower())) & {
        "heart",
        "will",
        "small",
        "may",
        "grace",
        "stone",
        "long",
        "mark",
    }


def test_what_stays_doubtful_is_counted_for_review(scrubber):
    result = scrub(scrubber, "Heart is enlarged. Small effusion. The heart failed.", AMBIGUOUS)
    assert result.review == 2 and not result.residue


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Dictated by: Dr. Anneliese Brandauer, MD", "Brandauer"),
        ("Findings called to Nurse Okonkwo at 10:42", "Okonkwo"),
        ("PATIENT: Angel Price  MRN: 55512345", "Price"),
        ("Seen by T. Vandersloot, RN", "Vandersloot"),
        ("MRN: A77-4412", "A77-4412"),
        ("Accession # 99120034", "99120034"),
        ("SSN 123-45-6789", "6789"),
        ("pager 55123", "55123"),
        ("call 212-555-0199 x123", "0199"),
        ("lives at 22 West Elmwood Drive, Springfield, IL 62704", "Elmwood"),
        ("from St. Brannock General Hospital", "Brannock"),
        ("from the Clínica Santa Aurelia", "Aurelia"),
        ("write to a.b-c@lakemoor.example.org", "lakemoor"),
        ("see https://pacs.example.org/q?id=1", "pacs"),
        ("a 94-year-old woman", "94"),
        ("aged 101, frail", "101"),
        ("94 y/o F", "94"),
        ("UID 1.2.840.113619.2.55.3.604688", "604688"),
    ],
)
def test_identifiers_that_no_header_names(scrubber, text, gone):
    result = scrub(scrubber, text, Identities())
    assert gone not in result.text and result.spans


@pytest.mark.parametrize("text", ["an 89-year-old", "aged 90 percent", "age 12 months", "94% saturation", "98 mm"])
def test_ages_up_to_89_and_other_numbers_stay(scrubber, text):
    assert scrub(scrubber, text, Identities()).text == text


def test_surrogates_are_consistent_across_reports_orders_and_cases(scrubber):
    first = scrub(scrubber, "Kowalczyk, Ingrid was seen.").text
    second = scrub(scrubber, "Seen: Ingrid Kowalczyk and KOWALCZYK.").text
    family, given_name = re.match(r"(\w+), (\w+) was", first).groups()
    assert second == f"Seen: {given_name} {family} and {family.upper()}."
    assert family in word_list("family_names") and given_name in word_list("given_names")
    other = ReportScrubber(DerivationSecret("site", 2, b"t" * 32))
    texts = [f"MRN {n}12345678" for n in range(8)]
    assert [scrub(scrubber, t).text for t in texts] != [scrub(other, t).text for t in texts]


def test_no_surrogate_is_a_name_of_the_report_itself(scrubber):
    who = Identities(names=frozenset(f"{n}^" for n in word_list("family_names")[:-1]))
    out = scrub(scrubber, f"Seen with {word_list('family_names')[0]} today", who).text
    assert out == f"Seen with {word_list('family_names')[-1]} today"


def test_dates_move_with_the_images_and_keep_their_spelling(scrubber):
    out = scrub(scrubber, "EXAM DATE: 24 November 2019, prior of 11/10/2019 (14 days).").text
    assert out == "EXAM DATE: 10 November 2019, prior of 10/27/2019 (14 days)."


def test_tags_name_the_kind_and_keep_nothing():
    result = scrub(ReportScrubber(SECRET, "tags"), "Ingrid Kowalczyk, MRN 83920173, on 11/24/2019, 94 years old.")
    assert result.text == "[NAME], MRN [ID], on [DATE], 90 years old."


def test_the_result_does_not_depend_on_the_batch(scrubber):
    items = [ScrubItem(f"Dr. Tanaka{i} saw Ingrid Kowalczyk on 11/{i:02d}/2019.", WHO, "P", -7) for i in range(1, 9)]
    together = scrubber.scrub(items)
    assert together == [scrubber.scrub([item])[0] for item in reversed(items)][::-1]
    assert scrubber.scrub([]) == []


@pytest.mark.parametrize(
    "left",
    ["kowalczyk ingrid", "8392 0173", "11/24/2019", "404 555 0123", "318 Millpond Road", "Lakemoor Medical Center"],
)
def test_residue_sees_a_strong_value_that_was_left(left):
    assert residue(f"this {left} stayed", WHO)
    assert not residue("Heart size normal in 2019, room 7, 0173, chest clear.", WHO)


def test_a_value_that_layers_miss_is_reported(scrubber, monkeypatch):
    from pipelines.deidentify.reports import scrub as module

    monkeypatch.setattr(module, "find_known", lambda *_: ([], []))
    assert scrub(scrubber, "clip of kowalczyk ingrid here").residue


@given(
    text=st.lists(
        st.one_of(
            st.text(max_size=12),
            st.sampled_from(["Dr. ", "PATIENT: ", "Heart", " Kowalczyk ", " 11/24/2019 ", "u\u0308", "İ", "\n"]),
        ),
        max_size=14,
    ).map("".join)
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_makes_scrubbing_raise_and_places_are_valid(scrubber, text):
    result = scrub(scrubber, text, WHO | AMBIGUOUS)
    at = 0
    for span in result.spans:
        assert at <= span.start < span.end <= len(text)
        at = span.end
    edges = [0, *(place for s in result.spans for place in (s.start, s.end)), len(text)]
    outside = "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))
    assert not re.search(r"(?i)(?<![^\W\d_])kowalczyk(?![^\W\d_])", outside.replace("\u0308", ""))


def test_nothing_is_fetched(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert "Kowalczyk" not in scrub(ReportScrubber(SECRET), "Ms. Kowalczyk, a.b@example.org").text


@pytest.mark.shared
def test_every_planted_identifier_of_a_real_export_goes_and_the_clinic_stays(real_export, scrubber):
    import pydicom

    key = json.loads(real_export.with_suffix(".key.json").read_text())
    headers = {v["accession"]: real_export / v["path"] for v in key["instances"].values()}
    files = [Path("reports.csv"), *sorted(p.relative_to(real_export) for p in (real_export / "hl7").iterdir())]
    reports = list(read_reports(real_export, [(str(f), f) for f in files]))
    assert all(isinstance(r, SourceReport) for r in reports) and len(reports) == len(key["reports"])
    items = []
    for report in reports:
        header = pydicom.dcmread(headers[report.accession], stop_before_pixels=True)
        items.append(ScrubItem(report.text, report.identities | from_dataset(header), "P", -70))
    changed = tokens = 0
    for report, item, result in zip(reports, items, scrubber.scrub(items), strict=True):
        assert not result.residue
        covered = {i for s in result.spans for i in range(s.start, s.end)}
        planted = set()
        for span in key["reports"][report.accession]["spans"]:
            letters = {i for i in range(span["start"], span["end"]) if item.text[i].isalnum()}
            assert letters <= covered, span["type"]
            planted |= letters
        dates = {i for s in result.spans if s.kind == "DATE" for i in range(s.start, s.end)}  # the notes' own dates
        for word in re.finditer(r"\S+", item.text):
            at = set(range(*word.span()))
            if not at & planted:
                tokens += 1
                changed += bool(at & covered - dates)
    assert changed <= 0.003 * tokens
