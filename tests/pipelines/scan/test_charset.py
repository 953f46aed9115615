"""Character sets: what is declared, wrongly declared or left out, names are read as they were written."""

import io

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings, encode_string
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from pipelines.scan.charset import charset_of, settle_charset
from pipelines.scan.dicom import configure_pydicom
from tests.dicoms import as_bytes, instance

LATIN, GREEK, RUSSIAN = "Gutiérrez^Víctor", "Διονυσιος", "Люкceмбypг"
JAPANESE, KOREAN, CHINESE = (
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Hong^Gildong=洪^吉洞=홍^길동",
    "Wang^XiaoDong=王^小东",
)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    configure_pydicom()


def named(name: bytes, declared: str | None, *, nested: bool = False) -> FileDataset:
    """An object as read from a file whose PatientName holds these bytes under this declaration."""
    name += b" " * (len(name) % 2)
    ds, holder = instance(name="Q" * len(name)), Dataset()
    del ds.SpecificCharacterSet
    if nested:
        holder.PatientName = "Q" * len(name)
        ds.AnatomicRegionSequence = Sequence([holder])
    if declared is not None:
        value = declared.encode() + b" " * (len(declared) % 2)
        ds[0x00080005] = RawDataElement(Tag(0x00080005), "CS", len(value), value, 0, False, True)
    return pydicom.dcmread(io.BytesIO(as_bytes(ds).replace(b"Q" * len(name), name)))


def read(name: str, encoding: str, declared: str | None) -> str:
    ds = named(encode_string(name, convert_encodings(encoding.split("\\"))), declared)
    settle_charset(ds)
    return str(ds.PatientName)


@pytest.mark.parametrize(
    ("name", "encoding", "declared"),
    [
        (LATIN, "ISO_IR 100", "ISO_IR 100"),
        (LATIN, "ISO_IR 192", "ISO_IR 192"),
        (LATIN, "ISO_IR 192", "ISO_IR 100"),  # declared wrongly
        (LATIN, "ISO_IR 100", "ISO_IR 192"),
        (LATIN, "ISO_IR 192", None),  # not declared
        (LATIN, "ISO_IR 100", None),
        (LATIN, "ISO_IR 100", "ISO-8859-1"),  # misspelt
        (LATIN, "ISO_IR 192", "utf-8"),
        (LATIN, "ISO_IR 100", "iso_ir_100"),
        (LATIN, "ISO_IR 100", "ISO_IR 999"),  # unknown
        (GREEK, "ISO_IR 126", "ISO_IR 126"),
        (GREEK, "ISO_IR 126", "ISO IR126"),
        (RUSSIAN, "ISO_IR 144", "ISO_IR 144"),
        (JAPANESE, "\\ISO 2022 IR 87", "\\ISO 2022 IR 87"),
        (JAPANESE, "\\ISO 2022 IR 87", None),  # known by its escape sequences
        (JAPANESE, "\\ISO 2022 IR 87", "ISO_IR 100"),
        (JAPANESE, "ISO_IR 192", "ISO 2022 IR 6\\ISO 2022 IR 87"),
        (KOREAN, "\\ISO 2022 IR 149", "\\ISO 2022 IR 149"),
        (KOREAN, "\\ISO 2022 IR 149", "ISO 2022 IR 6"),
        (CHINESE, "GB18030", "GB18030"),
        (CHINESE, "GB18030", "gb18030"),
    ],
)
def test_names_are_read_as_they_were_written(name: str, encoding: str, declared: str | None) -> None:
    assert read(name, encoding, declared) == name


def test_chinese_by_escape_sequences_loses_them() -> None:
    ds = named(b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab", "\\ISO 2022 IR 58")
    settle_charset(ds)
    assert str(ds.PatientName) == CHINESE


def test_nested_names_follow() -> None:
    ds = named("Víctor".encode(), "ISO_IR 100", nested=True)
    settle_charset(ds)
    assert str(ds.AnatomicRegionSequence[0].PatientName) == "Víctor" == str(ds.PatientName)


def test_ascii_is_left_alone() -> None:
    ds = named(b"Smith", "ISO_IR 100")
    settle_charset(ds)
    assert ds.SpecificCharacterSet == "ISO_IR 100"
    ds = named(b"Smith", None)
    settle_charset(ds)
    assert "SpecificCharacterSet" not in ds


@given(st.lists(st.text(max_size=12), max_size=3), st.lists(st.binary(max_size=12), max_size=3))
def test_any_declaration_and_any_bytes_end_in_known_character_sets(declared: list[str], texts: list[bytes]) -> None:
    found = charset_of(declared, [t for t in texts if not t.isascii()])
    assert found and all(isinstance(e, str) for e in convert_encodings(found))
    for text in texts:
        pydicom.charset.decode_bytes(text, convert_encodings(found), set(b"\\^="))


@given(st.text(st.characters(min_codepoint=0xA1, max_codepoint=0x2FFF), min_size=1, max_size=20))
def test_utf8_is_recognised_under_any_single_byte_declaration(name: str) -> None:
    for declared in ([], ["ISO_IR 100"], ["ISO_IR 144"], ["nonsense"]):
        assert charset_of(declared, [name.encode()]) == ["ISO_IR 192"]
