"""Reports are read from tables and messages; what cannot be read is listed, and nothing raises."""

import csv
import io
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.deidentify.identities import REASONS
from pipelines.deidentify.reports.intake import Rejected, SourceReport, hl7, person, read_reports

MESSAGE = (
    "MSH|^~\\&|RIS|HOSP|X|SITE|20190307104500||ORU^R01|1|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||123456^^^HOSP^MR~9988^^^OTHER^PI||Šimůnek^Zofia^M||19470311|F|||9 Rue des Tanneurs^^Lyon||404-555-0101\r"
    "PV1|1|O|||||77^Haddad^Olu^^^Dr\r"
    "OBR|1|P55|ACC1234567|71045^XR CHEST^CPT|||20190306104233|||||||||88^Mbeki^Liam|||||||||F|||||||99&Pereira&Mei\r"
    "OBX|1|TX|71045^REPORT||FINDINGS: a\\T\\b \\F\\ c\\.br\\second line~third\\X0D0A\\line||||||F\r"
    "OBX|2|TX|71045^REPORT||IMPRESSION: clear\\E\\||||||F\r"
)


def read(tmp_path: Path, name: str, data: bytes) -> list[SourceReport | Rejected]:
    (tmp_path / name).write_bytes(data)
    return list(read_reports(tmp_path, [("s1", Path(name))]))


def table(rows: list[dict[str, str]], **options) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys(), **options)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def test_a_message_gives_text_keys_and_everyone_it_names(tmp_path):
    (report,) = read(tmp_path, "m.hl7", MESSAGE.encode())
    assert report.text == "FINDINGS: a&b | c\nsecond line\nthird\r\nline\nIMPRESSION: clear\\"
    assert (report.accession, report.patient_id, report.issuer) == ("ACC1234567", "123456", "HOSP")
    assert report.date == date(2019, 3, 6)
    who = report.identities
    assert {"Šimůnek^Zofia^M", "Haddad^Olu^", "Mbeki^Liam", "Pereira^Mei"} <= who.names
    assert {"123456", "9988", "ACC1234567", "P55"} <= who.ids
    assert date(1947, 3, 11) in who.dates and "404-555-0101" in who.phones
    assert who.addresses == {"9 Rue des Tanneurs, Lyon"}


def test_several_messages_in_a_batch_with_other_separators_and_line_ends(tmp_path):
    other = MESSAGE.replace("ACC1234567", "ACC2").replace("|", "!").replace("\r", "\r\n")
    data = ("FHS|^~\\&\rBHS|^~\\&\r" + MESSAGE + other + "BTS|2\rFTS|1\r").encode()
    first, second = read(tmp_path, "m.hl7", b"\x0b" + data + b"\x1c\r")
    assert (first.accession, second.accession) == ("ACC1234567", "ACC2")
    assert first.text.count("\n") == second.text.count("\n")


def test_a_message_in_an_eight_bit_character_set(tmp_path):
    data = MESSAGE.replace("Šimůnek", "Jürgensén").replace("UNICODE UTF-8", "8859/1").encode("latin-1")
    (report,) = read(tmp_path, "m.hl7", data)
    assert "Jürgensén^Zofia^M" in report.identities.names


@pytest.mark.parametrize("cut", [MESSAGE.index("OBX|2") + 20, MESSAGE.index("OBX|1") + 60, MESSAGE.index("OBR") + 10])
def test_a_message_cut_off_anywhere_is_rejected(tmp_path, cut):
    (rejected,) = read(tmp_path, "m.hl7", MESSAGE[:cut].encode())
    assert isinstance(rejected, Rejected) and rejected.reason == "malformed"


def test_a_last_segment_without_its_terminator_is_whole_when_it_has_its_status(tmp_path):
    (report,) = read(tmp_path, "m.hl7", MESSAGE.rstrip("\r").encode())
    assert isinstance(report, SourceReport)


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\r\n"])
def test_an_empty_file(tmp_path, data):
    assert [r.reason for r in read(tmp_path, "m.hl7", data)] == ["empty"]
    assert [r.reason for r in read(tmp_path, "m.csv", data)] == ["empty"]


ROW = {"Accession Number": "A1", "MRN": "77", "Patient_Name": "Xu, Mei", "Study Date": "2019-03-07", "Report": "Clear."}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_in_usual_encodings_and_delimiters(tmp_path, encoding, delimiter):
    row = ROW | {"Patient_Name": "Gutiérrez, Víctor", "Report": 'Clear; "no" change,\n\nthen é.'}
    data = table([row, row | {"Accession Number": "A2"}], delimiter=delimiter).decode().encode(encoding)
    first, second = read(tmp_path, "r.csv", data)
    assert (first.accession, first.patient_id, first.date) == ("A1", "77", date(2019, 3, 7))
    assert first.text == row["Report"] and second.accession == "A2"
    assert first.identities.names == {"Gutiérrez^Víctor"}


def test_rows_that_cannot_be_used_are_rejected_and_the_others_read(tmp_path):
    data = (
        b"accession,patient_id,text\n"
        b"A1,1,fine\n"
        b"A2,2\n"
        b',3,"no accession"\n'
        b"A4,4,   \n"
        b'A5,5,"broken "quoting" here"\n'
        b"A6,6," + b"x" * 300_000 + b"\n"
        b"A7,7,fine too\n"
        b'A8,8,"never closed\n'
    )
    results = read(tmp_path, "r.csv", data)
    assert [r.accession for r in results if isinstance(r, SourceReport)] == ["A1", "A7"]
    rejected = [r for r in results if isinstance(r, Rejected)]
    assert len(rejected) == 6 and all(r.reason in REASONS for r in rejected)
    assert not any("A2" in r.detail or "quoting here" in r.detail for r in rejected)


def test_a_table_without_the_needed_columns_is_rejected_once(tmp_path):
    (rejected,) = read(tmp_path, "r.csv", b"a,b\n1,2\n3,4\n")
    assert rejected.reason == "malformed" and "needs a column" in rejected.detail


def test_two_differing_reports_of_one_accession_are_both_given(tmp_path):
    first, second = read(tmp_path, "r.csv", table([ROW, ROW | {"Report": "Other."}]))
    assert first.accession == second.accession and first.text != second.text


@pytest.mark.parametrize(
    ("written", "pn"),
    [
        ("Heart, Will", "Heart^Will"),
        ("Will Heart", "Heart^Will"),
        ("Heart^Will^M", "Heart^Will^M"),
        ("Madonna", "Madonna"),
    ],
)
def test_names_as_tables_have_them(written, pn):
    assert person(written) == pn


@given(data=st.binary(max_size=400), name=st.sampled_from(["a.csv", "a.hl7"]))
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_intake_raise(tmp_path_factory, data, name):
    folder = tmp_path_factory.mktemp("intake")
    assert all(r.source_id == "s1" for r in read(folder, name, data))


@given(cuts=st.lists(st.tuples(st.integers(0, len(MESSAGE)), st.sampled_from(["", "\r", "|", "\\", "^", "MSH|", "é"]))))
@settings(max_examples=150, deadline=None)
def test_no_mutant_of_a_message_makes_the_parser_raise(cuts):
    text = MESSAGE
    for at, new in cuts:
        text = text[:at] + new + text[at + 1 :]
    for message in hl7.parse(text.encode()):
        hl7.report_text(message.all("OBX"))
        assert all(isinstance(s.repetitions(5), list) for s in message.segments)


def test_a_file_that_is_gone_is_rejected(tmp_path):
    (rejected,) = read_reports(tmp_path, [("s9", Path("absent.hl7"))])
    assert rejected == Rejected("s9", "malformed", "the file cannot be read")
