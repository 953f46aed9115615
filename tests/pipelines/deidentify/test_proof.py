"""The proof finds what a careless engine would leave, and takes nothing for a leak that is none."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.deidentify.encode import encode_file
from pipelines.deidentify.identities import Identities, Quarantine, from_dataset
from pipelines.deidentify.proof import Needles, dates_in, prove
from pipelines.scan.dicom import configure_pydicom
from tests.dicoms import DX, instance

WHO = Identities(
    names=frozenset({"Weatherby^Zofia^Ann", "Gutiérrez^Víctor", "Heart^Rose", "山田^太郎=Yamada^Taro"}),
    ids=frozenset({"MRN7700123", "40771239", "1082", "STORESCP"}),
    dates=frozenset({date(2019, 3, 4), date(1931, 5, 21)}),
    phones=frozenset({"415-555-0143"}),
    addresses=frozenset({"14 Marrowbone Parade"}),
    institutions=frozenset({"Clínica Santa Aurelia", "Radiology"}),
    uids=frozenset({"1.2.826.0.1.3680043.10.777.3"}),
)
NEEDLES = Needles(WHO)


@pytest.mark.parametrize(
    "text",
    [
        "MRN7700123", "id mrn7700123.", "40771239", "no. 40771239/2", "call 415-555-0143", "14 MARROWBONE PARADE",
        "clínica santa aurelia", "CLI\u0301NICA SANTA AURELIA", "Weatherby", "seen by ZOFIA", "Zofia Weatherby",
        "Rose Heart", "heart, rose", "Gutie\u0301rrez", "VÍCTOR", "太郎", "1082", "on 2019-03-04", "03/04/2019",
        "4.3.2019", "4 March 2019", "Mar 4, 2019", "04-MAR-2019", "20190304", "DOB 21.05.31",
        "1.2.826.0.1.3680043.10.777.3",
    ],
)  # fmt: skip
def test_own_values_are_found_in_text(text: str) -> None:
    assert NEEDLES.in_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "CHEST PA", "heart size normal", "a rose by itself", "1407712391", "0.40771239", "10823", "20190305",
        "12/12/2018", "DERIVED", "Acme Imaging", "Weather", "portable radiology", "415-555-0144", "MRN770012",
    ],
)  # fmt: skip
def test_other_values_are_no_leak(text: str) -> None:
    assert NEEDLES.in_text(text) is None


STRONG = ["MRN7700123", "Weatherby^Zofia", "zofia weatherby", "Clínica Santa Aurelia", "40771239"]


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("value", STRONG)
def test_strong_values_are_found_in_bytes_of_any_charset(value: str, charset: str) -> None:
    assert NEEDLES.in_bytes(b"\x08\x00\x01" + value.encode(charset) + b"\x00\x10")
    assert NEEDLES.in_bytes(b"\x01" + value.upper().encode(charset) + b"\x20\x00")


@given(st.binary(max_size=300))
def test_bytes_without_values_are_no_leak(data: bytes) -> None:
    assert not NEEDLES.in_bytes(data)


DAYS = st.dates(min_value=date(1901, 1, 1), max_value=date(2099, 12, 31))
SPELLINGS = ["%Y%m%d", "%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%d %B %Y", "%b %d, %Y", "%d-%b-%Y"]


@given(DAYS, st.sampled_from(SPELLINGS))
def test_every_spelling_of_a_date_is_read(day: date, spelling: str) -> None:
    assert day in set(dates_in(f"exam of {day.strftime(spelling)}, repeated"))


def test_values_kept_by_an_option_are_no_leak() -> None:
    assert Needles(WHO, frozenset({"MRN7700123"})).in_text("MRN7700123") is None


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Manufacturer", "for Kvothensdottir"), ("SoftwareVersions", "MRN7700123"), ("StudyDate", "20190304"),
        ("ImageComments", "taken on 4 March 2019"), ("ProtocolName", "1.2.826.0.1.3680043.10.777.20190304.1.1"),
    ],
)  # fmt: skip
def test_an_object_with_a_value_left_is_refused(keyword: str, value: str) -> None:
    configure_pydicom()
    source, output = instance(), instance()
    needles = Needles(from_dataset(source))
    for tag in [e.tag for e in output if e.keyword not in ("Rows", "Columns", "PixelData", "SOPClassUID", "Modality")]:
        del output[tag]
    output.SOPInstanceUID = "2.25.1"
    del output.PixelData

    def whole() -> bytes:
        return b"".join(encode_file(output, source.file_meta.TransferSyntaxUID, DX, "2.25.1"))

    prove(whole(), needles, source)
    setattr(output, keyword, value)
    with pytest.raises(Quarantine) as verdict:
        prove(whole(), needles, source)
    assert verdict.value.reason == "residue"
    assert "Kvothensdottir" not in verdict.value.detail
