"""Merged patients: one pseudonym for all their IDs, every ID a needle and an objection, mistakes told by line."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contract import BadInput
from pipelines.deidentify.aliases import NO_ALIASES, Aliases, aliases_digest, load_aliases
from pipelines.deidentify.instance import InstanceCleaner
from pipelines.deidentify.policy import load_policy
from pipelines.keys import DerivationSecret
from pipelines.scan.dicom import configure_pydicom
from tests.dicoms import as_bytes, instance

SECRET = DerivationSecret("test", 1, b"0" * 32)


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_an_old_id_takes_the_pseudonym_of_the_current_one(tmp_path: Path) -> None:
    aliases = load_aliases(write(tmp_path / "a.csv", {"old": "OLD1", "current": "NEW1"}))
    configure_pydicom()
    patients = {}
    for patient in ("OLD1", "NEW1", "ELSE"):
        cleaner = InstanceCleaner(load_policy("basic"), SECRET, None, "site", frozenset({"NEW1"}), aliases)  # type: ignore[arg-type]
        _, source = cleaner.read(as_bytes(instance(patient=patient)))
        patients[patient] = source.who.patient
        assert source.opted_out is (patient != "ELSE")
        assert {"OLD1", "NEW1"}.issubset(source.identities.ids) is (patient != "ELSE")
    assert patients["OLD1"] == patients["NEW1"] == SECRET.patient("site", "NEW1") != patients["ELSE"]
    assert source.patient_id == "ELSE"


def test_an_objection_under_the_old_id_holds_for_files_of_the_current_one(tmp_path: Path) -> None:
    aliases = load_aliases(write(tmp_path / "a.csv", {"old": "OLD1", "current": "NEW1"}))
    cleaner = InstanceCleaner(load_policy("basic"), SECRET, None, "", frozenset({"OLD1"}), aliases)  # type: ignore[arg-type]
    assert cleaner.read(as_bytes(instance(patient="NEW1")))[1].opted_out


def test_merges_are_followed_to_their_end_and_issuers_are_told_apart(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        {"old": "1", "current": "2", "old_issuer": "north", "current_issuer": ""},
        {"old": "2", "current": "3", "old_issuer": "", "current_issuer": "South"},
    )
    aliases = load_aliases(path)
    assert aliases.current("North", "1") == ("South", "3")
    assert aliases.current("East", "1") == ("East", "1")
    assert aliases.current("East", "2") == ("South", "3")
    assert aliases.known_as("1") == aliases.known_as("3") == {"1", "2", "3"}
    assert aliases.known_as("9") == {"9"}


def test_without_a_list_nothing_changes(tmp_path: Path) -> None:
    assert load_aliases(None) is NO_ALIASES
    assert NO_ALIASES.current("x", "1") == ("x", "1")
    assert aliases_digest(None) == ""
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    assert aliases_digest(write(one, {"old": "1", "current": "2"})) != aliases_digest(
        write(two, {"old": "1", "current": "3"})
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("alt,neu\n1,2\n", "columns old and current"),
        ("old,current,name\n1,2,x\n", "columns old and current"),
        ("", "columns old and current"),
        ("old,current\nSECRETID,\n", "Line 2 .*lacks an ID"),
        ("old,current\nSECRETID,2\nSECRETID,3\n", "Line 3 .*into two others"),
        ("old,current\nSECRETID,2\n2,SECRETID\n", "circle"),
        ("old,current\nSECRETID,SECRETID\n", "circle"),
        ('old,current\n"SECRETID,2\n', "no UTF-8 CSV"),
    ],
)
def test_a_wrong_list_is_one_sentence_without_an_id(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(BadInput, match=told) as error:
        load_aliases(tmp_path / "a.csv")
    assert "SECRETID" not in str(error.value)
    with pytest.raises(BadInput, match="cannot be read"):
        load_aliases(tmp_path / "none.csv")


IDS = st.sampled_from("abcdefg")


@given(st.dictionaries(st.tuples(st.just(""), IDS), st.tuples(st.just(""), IDS), max_size=7))
def test_the_end_of_a_merge_is_the_same_for_the_whole_family(merged: dict[tuple[str, str], tuple[str, str]]) -> None:
    order = "abcdefg"
    forward = {k: v for k, v in merged.items() if order.index(k[1]) < order.index(v[1])}  # no circles
    aliases = Aliases(forward)
    for letter in order:
        end = aliases.current("", letter)
        assert end not in forward
        assert end[1] in aliases.known_as(letter)
        assert aliases.known_as(letter) == aliases.known_as(end[1])
