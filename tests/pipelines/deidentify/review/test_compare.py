"""The attribute table tells what the two objects hold, at every level, whatever the engine says it did."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipelines.deidentify.header import HeaderCleaner
from pipelines.deidentify.identities import from_dataset
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.policy import load_policy
from pipelines.deidentify.review.compare import ITEMS, Line, compare
from pipelines.deidentify.review.risk import factors
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import subject
from tests.dicoms import CANARIES, canary, instance, un_sequence

POLICY = load_policy("longitudinal-research")
SECRET = DerivationSecret("site", 1, b"s" * 32)


def cleaned(ds):
    return HeaderCleaner(POLICY, SECRET).clean(ds, subject(ds, SECRET, ""), Needles(from_dataset(ds)), careful=True)


@pytest.fixture(scope="module")
def lines() -> dict[str, Line]:
    before, item = canary(), Dataset()
    item.PatientName = CANARIES["un_sequence"]
    before[0x00081032] = un_sequence(0x00081032, item)
    after = cleaned(before).ds
    after.PatientIdentityRemoved = "YES"
    return {line.path or line.name: line for line in compare(before, after, POLICY)}


def test_each_attribute_has_its_fate_and_its_rule(lines: dict[str, Line]) -> None:
    def told(path: str) -> tuple[str, str]:
        return lines[path].action, lines[path].rule

    assert told("(0010,0010)") == ("changed", "Table E.1-1: Basic Profile Z; keyed pseudonym of the patient")
    assert told("(0010,1040)") == ("removed", "Table E.1-1: Basic Profile X")
    assert told("(0008,0020)") == ("changed", "Table E.1-1: Retain Longitudinal, Modified Dates C")
    assert told("(0010,1010)") == ("kept", "Table E.1-1: Retain Patient Characteristics K")
    assert told("(0012,0062)")[0] == "added" and "marker" in told("(0012,0062)")[1]
    assert told("(0002,0016)")[0] == "removed" and "file meta" in told("(0002,0016)")[1]
    assert told("Preamble")[1].startswith("PS3.15 E.1.1")
    assert lines["(0010,0020)"].before == CANARIES["PatientID"]
    assert lines["(0010,0020)"].after == SECRET.patient("", CANARIES["PatientID"])


def test_every_planted_value_stands_before_and_none_after(lines: dict[str, Line]) -> None:
    before = "\n".join(str(line.before) for line in lines.values())
    after = "\n".join(str(line.after) for line in lines.values())
    for where, value in CANARIES.items():
        assert value in before, where
        assert value not in after, where


def test_nested_attributes_stand_under_their_path(lines: dict[str, Line]) -> None:
    nested = [line for path, line in lines.items() if "[1] " in path and CANARIES["nested"] in str(line.before)]
    assert nested and all(line.action in ("removed", "emptied", "changed") for line in nested)


def test_a_value_that_the_engine_left_is_shown_as_kept() -> None:
    """The table is about the objects: an output that was not cleaned at all says so."""
    ds = instance()
    told = {line.path: line for line in compare(ds, ds, POLICY)}
    assert told["(0010,0010)"].action == "kept"
    assert told["(0010,0010)"].after == CANARIES["PatientName"]


def test_long_values_that_differ_beyond_what_is_shown_are_changed() -> None:
    a, b = Dataset(), Dataset()
    a.ImageComments, b.ImageComments = "x" * 900 + "a", "x" * 900 + "b"
    (line,) = compare(a, b, POLICY)
    assert line.action == "changed" and len(line.before) < 500


def test_many_items_end_in_a_line_that_says_so() -> None:
    a = Dataset()
    a.ReferencedImageSequence = Sequence([Dataset() for _ in range(ITEMS + 7)])
    assert compare(a, a, POLICY)[-1].before == "7"


def test_risk_factors_follow_what_was_there_and_what_was_done() -> None:
    ds = instance()
    ds.BurnedInAnnotation, ds.Modality, ds.NumberOfFrames = "NO", "US", 12
    found = factors(ds, cleaned(ds), ["Chest^Young"], boxes=2)  # StudyDescription: CHEST PA
    assert {"disagreement", "text_blanked", "risk_modality", "name_words", "frames"} <= set(found)
    ds.BurnedInAnnotation, ds.Modality = "YES", "DX"
    del ds.NumberOfFrames
    assert factors(ds, cleaned(ds), ["Heart^Zimraana"], boxes=0) == ["disagreement"]
    del ds.BurnedInAnnotation
    ds.add_new(0x00091001, "LO", "x")
    ds.PatientAge = "many"
    assert factors(ds, cleaned(ds), [], boxes=0) == ["malformed"]
