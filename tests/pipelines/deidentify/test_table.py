"""Table E.1-1 against the header engine: every row of the standard's table does what its code says."""

import csv
from pathlib import Path

import pytest
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

import pipelines.deidentify as package
from pipelines.deidentify.header import HeaderCleaner
from pipelines.deidentify.identities import from_dataset
from pipelines.deidentify.needles import Needles
from pipelines.deidentify.policy import load_policy
from pipelines.deidentify.table import Action, actions
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import configure_pydicom, subject
from tests.dicoms import instance

SECRET = DerivationSecret("test", 1, b"0" * 32)
CANARY = {
    "DA": "20170203", "DT": "20170203101112", "TM": "101112", "PN": "Zyxwhite^Quorl", "UI": "1.2.826.0.1.555.20170203",
    "AS": "033Y", "IS": "4711", "DS": "47.11", "US": 4711, "SS": 4711, "UL": 4711, "SL": 4711, "FL": 47.0, "FD": 47.0,
    "OB": b"Zyxwhite", "OW": b"Zyxwhite", "UN": b"Zyxwhite", "OF": b"Zyxwhite", "OD": b"Zyxwhite", "OL": b"Zyxwhite",
    "OV": b"Zyxwhite", "AT": 0x00100010, "CS": "ZYXWHITE", "UV": 4711, "SV": 4711,
}  # fmt: skip
# Written anew for every object, whatever the table says of the source's value.
OURS = {"00100010", "00100020", "00080050", "00120063", "00120064", "00080016", "00080018"}


def table() -> list[dict[str, str]]:
    path = Path(package.__file__).parent / "data" / "ps3_15_e1_1.csv"
    with path.open(encoding="utf-8", newline="") as f:
        return [row for row in csv.DictReader(f) if len(row["tag"]) == 11 and "X" not in row["tag"]]


def tag_of(row: dict[str, str]) -> str:
    return row["tag"].strip("()").replace(",", "")


def in_dataset(row: dict[str, str]) -> bool:
    """Whether pydicom knows the attribute, and it is one of datasets; the file meta is made anew as a whole."""
    tag = int(tag_of(row), 16)
    return tag >> 16 > 4 and dictionary_has_tag(tag)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    configure_pydicom()


def test_table_is_whole() -> None:
    rows = table()
    assert len(rows) == 617
    resolved = actions(load_policy("basic").options, False)
    assert set(resolved) == {int(tag_of(row), 16) for row in rows}


@pytest.mark.shared
def test_table_is_the_published_one(shared: Path) -> None:
    ours = Path(package.__file__).parent / "data" / "ps3_15_e1_1.csv"
    assert ours.read_bytes() == (shared / "standards" / "ps3.15_table_e1-1.csv").read_bytes()


def clean_one(row: dict[str, str], policy: str) -> tuple[DataElement | None, str]:
    """The output's element of an object that holds a canary in the attribute of `row`."""
    tag = int(tag_of(row), 16)
    vr = dictionary_VR(tag).split(" or ")[0]
    ds = instance()
    if vr == "SQ":
        item = Dataset()
        item.PatientName, item.TextValue = CANARY["PN"], "Zyxwhite"
        item.ReferencedSOPInstanceUID = CANARY["UI"]
        ds.add_new(tag, vr, [item])
    else:
        ds.add_new(tag, vr, CANARY.get(vr, "Zyxwhite"))
    cleaner = HeaderCleaner(load_policy(policy), SECRET)
    new = cleaner.clean(ds, subject(ds, SECRET, ""), Needles(from_dataset(ds)), careful=True).ds
    return new.get(tag), vr


@pytest.mark.parametrize("policy", ["basic", "longitudinal-research"])
def test_no_canary_survives_in_any_row(policy: str) -> None:
    survivors = []
    for row in table():
        # The option says of these that they are kept as they are.
        kept = policy == "longitudinal-research" and row["rtnPatCharsOpt"] == "K"
        if tag_of(row) in OURS or kept or not in_dataset(row):
            continue
        element, vr = clean_one(row, policy)
        told = str(element).lower()
        if vr in CANARY and vr not in ("AS", "IS", "DS", "US", "FL", "FD", "UL", "SL", "SS", "TM"):
            leaks = [w for w in ("zyxwhite", "quorl", "20170203") if w in told]
        else:
            leaks = [w for w in ("zyxwhite", "quorl", "1.2.826.0.1.555") if w in told]
        if leaks:
            survivors.append((row["tag"], row["name"], vr, leaks))
    assert survivors == []


def test_codes_do_what_they_say_under_the_basic_profile() -> None:
    wrong = []
    for row in table():
        if tag_of(row) in OURS or not in_dataset(row):
            continue
        element, vr = clean_one(row, "basic")
        code = row["basicProfile"]
        right = {
            "X": element is None,
            "Z": element is None or element.is_empty,
            "D": element is None or (not element.is_empty and element.value != CANARY.get(vr, "Zyxwhite")),
            "U": (element is not None and str(element.value).startswith("2.25.")) or vr == "SQ",
            "X/Z": element is None or element.is_empty,
            "X/D": element is None,
            "X/Z/D": element is None or element.is_empty,
            "Z/D": element is None or element.is_empty,
            "X/Z/U*": vr == "SQ" and element is not None,
        }[code]
        if not right:
            wrong.append((row["tag"], row["name"], code, str(element)))
    assert wrong == []


def test_an_options_keep_wins_and_shift_stands_for_modified_dates() -> None:
    options = load_policy("longitudinal-research").options
    resolved = actions(options, False)
    assert resolved[0x00101010] is Action.KEEP  # Patient's Age
    assert resolved[0x00080020] is Action.CLEAN  # Study Date
    assert resolved[0x00100030] is Action.ZERO  # Patient's Birth Date: no option keeps it
    assert resolved[0x00181000] is Action.ZERO  # Device Serial Number
    kept = actions(options.model_copy(update={"device": True}), False)
    assert kept[0x00181000] is Action.KEEP
    assert actions(options, True)[0x00181000] is Action.DUMMY  # type 1 in the enhanced IODs
