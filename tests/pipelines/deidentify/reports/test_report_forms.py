"""Reports as JSON lines, Parquet, text files, FHIR and CDA; statuses of messages; and hostile input of each form."""

import base64
import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.deidentify.reports.intake import Rejected, SourceReport, read_reports
from pipelines.deidentify.reports.intake.report import Status

ROW = {"accession": "A1", "mrn": "77", "patient_name": "Xu, Mei", "study_date": "2019-03-07", "report": "Clear."}


def read(
    tmp_path: Path, files: dict[str, bytes], columns: dict[str, str] | None = None
) -> list[SourceReport | Rejected]:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return list(read_reports(tmp_path, [(f"s-{name}", Path(name)) for name in files], columns))


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_json_lines_with_nulls_and_broken_lines(tmp_path):
    whole = {"accession": 4711.0, "report": None, "findings": "Lungs clear.", "impression": "None."}
    rows = [ROW, ROW | {"accession": None, "mrn": None}, None, [1], {"a": 1}, ROW | whole]
    lines = ["{broken" if row is None else json.dumps(row) for row in rows]
    first, *rejected, last = read(tmp_path, {"reports.jsonl": "\n".join(lines).encode()})
    assert (first.accession, first.patient_id, first.date) == ("A1", "77", date(2019, 3, 7))
    assert first.identities.names == {"Xu^Mei"}
    assert [r.detail for r in rejected] == [
        "line 2: no accession number, StudyInstanceUID, or patient and date", "line 3 is no JSON",
        "line 4 is no JSON object",
        "line 5: the table needs a column of texts and one of accession, study_uid, or patient_id and date",
    ]  # fmt: skip
    assert (last.accession, last.text) == ("4711", "FINDINGS: Lungs clear.\n\nIMPRESSION: None.")


def test_a_parquet_table_and_one_that_was_cut_off(tmp_path):
    pq.write_table(
        pa.Table.from_pylist([ROW, ROW | {"accession": "A2", "study_date": None}]), tmp_path / "made.parquet"
    )
    data = (tmp_path / "made.parquet").read_bytes()
    first, second, cut = read(tmp_path, {"reports.parquet": data, "cut.parquet": data[: len(data) // 2]})
    assert (first.accession, second.accession, second.date) == ("A1", "A2", None)
    assert cut == Rejected("s-cut.parquet", "malformed", "the Parquet file is damaged or cut off")


def test_an_absent_number_is_no_key(tmp_path):
    row = {"study_uid": "1.2.3.4", "text": "Clear."}
    (first,) = read(tmp_path, {"a.jsonl": json.dumps(row | {"accession": float("nan")}).encode()})
    pq.write_table(pa.Table.from_pylist([row | {"accession": float("nan")}]), tmp_path / "made.parquet")
    (second,) = read(tmp_path, {"b.parquet": (tmp_path / "made.parquet").read_bytes()})
    assert (first.accession, second.accession) == ("", "")


def test_the_sites_own_column_names_win(tmp_path):
    data = b"Auftrag,Report,Befundtext\nA1,not this,Unauff\xc3\xa4llig.\n"
    (report,) = read(tmp_path, {"r.csv": data}, {"accession": "auftrag", "text": "Befundtext"})
    assert (report.accession, report.text, report.mapped) == ("A1", "Unauffällig.", ("accession", "text"))
    (other,) = read(tmp_path, {"s.csv": b"acc,report\nA1,Clear.\n"}, {"accession": "Auftrag", "text": "Befundtext"})
    assert (other.accession, other.text, other.mapped) == ("A1", "Clear.", ())


def test_rows_in_different_encodings_are_each_read_in_their_own(tmp_path):
    data = "accession,text\nA1,größer\n".encode() + "A2,größer\n".encode("cp1252") + b"A3,plain\n"
    reports = read(tmp_path, {"r.csv": data})
    assert [(r.text, r.encoding) for r in reports] == [("größer", "utf-8"), ("größer", "cp1252"), ("plain", "utf-8")]


def test_utf_16_without_its_mark(tmp_path):
    (report,) = read(tmp_path, {"r.csv": "accession,text\nA1,größer\n".encode("utf-16-le")})
    assert (report.text, report.encoding) == ("größer", "utf-16-le")


def test_a_quote_that_is_never_closed_costs_its_own_row_only(tmp_path):
    data = b'accession,text\nA1,"never closed\nA2,fine\nA3,"also, fine"\nA4,"two\nlines"\n'
    results = read(tmp_path, {"r.csv": data})
    assert [r.accession for r in results if isinstance(r, SourceReport)] == ["A2", "A3", "A4"]
    assert sum(isinstance(r, Rejected) for r in results) == 1


def test_a_report_may_name_its_study_by_uid_or_by_patient_and_day(tmp_path):
    data = b"study_uid,patient_id,date,text\n1.2.3.4,,,by uid\n,77,2019-03-07,by day\n,77,,neither\n"
    uid, day, neither = read(tmp_path, {"r.csv": data})
    assert (uid.study_uid, day.patient_id, day.date) == ("1.2.3.4", "77", date(2019, 3, 7))
    assert isinstance(neither, Rejected)


def test_text_files_are_named_by_accession_or_uid(tmp_path):
    files = {"A-77.txt": "größer".encode("cp1252"), "1.2.840.1.55.txt": b"Clear.", "empty.txt": b" \n"}
    named, by_uid, empty = read(tmp_path, files)
    assert (named.accession, named.text, named.encoding) == ("A-77", "größer", "cp1252")
    assert (by_uid.accession, by_uid.study_uid) == ("", "1.2.840.1.55")
    assert empty.reason == "empty"


# ---- messages --------------------------------------------------------------------------------------------------------

MESSAGE = (
    "MSH|^~\\&|RIS|H|X|S|20190307104500||ORU^R01|1|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||123||Doe^Jane\r"
    "OBR|1|P55|ACC1|71045|||||||||||||||||||||{result}\r"
    "OBX|1|TX|{code}||Text.||||||{line}\r"
)


@pytest.mark.parametrize(
    ("result", "code", "line", "status"),
    [
        ("F", "71045", "F", Status.FINAL),
        ("P", "71045", "P", Status.PRELIMINARY),
        ("C", "71045", "F", Status.CORRECTED),
        ("F", "71045", "C", Status.CORRECTED),
        ("F", "71045&ADT", "F", Status.ADDENDUM),
        ("X", "71045", "X", Status.WITHDRAWN),
        ("F", "71045", "W", Status.WITHDRAWN),
        ("", "71045", "", Status.UNKNOWN),
    ],
)
def test_the_status_of_a_message(tmp_path, result, code, line, status):
    (report,) = read(tmp_path, {"m.hl7": MESSAGE.format(result=result, code=code, line=line).encode()})
    assert report.status is status and report.written == "20190307104500"


def test_lines_posted_as_wrong_are_left_out(tmp_path):
    text = MESSAGE.format(result="F", code="71045", line="F") + "OBX|2|TX|71045||Of another patient.||||||W\r"
    (report,) = read(tmp_path, {"m.hl7": text.encode()})
    assert report.text == "Text."


def test_a_batch_that_was_cut_between_two_messages_is_told(tmp_path):
    one = MESSAGE.format(result="F", code="71045", line="F")
    whole = f"BHS|^~\\&\r{one}{one.replace('ACC1', 'ACC2')}BTS|2\r"
    assert [type(r) for r in read(tmp_path, {"m.hl7": whole.encode()})] == [SourceReport, SourceReport]
    cut = read(tmp_path, {"m.hl7": whole.replace("BTS|2\r", "").encode()})
    assert isinstance(cut[-1], Rejected) and "without its trailer" in cut[-1].detail
    fewer = read(tmp_path, {"m.hl7": whole.replace("BTS|2", "BTS|3").encode()})
    assert isinstance(fewer[-1], Rejected) and "3 messages; 2 were found" in fewer[-1].detail


ORDER = "ORC|{control}|P{n}|ACC{n}||{state}\rOBR|{n}|P{n}|ACC{n}|71045||||||||||||||||||||||F\r"
LINE = "OBX|1|TX|71045||Text {n}.||||||F\r"


@pytest.mark.parametrize(("control", "state"), [("CA", ""), ("RE", "CA")])
def test_a_canceled_order_takes_its_own_report_only(tmp_path, control, state):
    head = MESSAGE[: MESSAGE.index("OBR")]
    orders = [ORDER.format(control=c, n=n, state=s) for n, c, s in ((1, "RE", "CM"), (2, control, state))]
    text = head + "".join(order + LINE.format(n=n) for n, order in enumerate(orders, 1))
    first, second = read(tmp_path, {"m.hl7": text.encode()})
    assert (first.accession, first.status, first.text) == ("ACC1", Status.FINAL, "Text 1.")
    assert (second.accession, second.status) == ("ACC2", Status.WITHDRAWN)


def test_the_order_number_may_stand_in_the_order_alone(tmp_path):
    text = MESSAGE.format(result="F", code="71045", line="F").replace("OBR|1|P55|ACC1", "ORC|RE|P55|ACC1\rOBR|1||")
    (report,) = read(tmp_path, {"m.hl7": text.encode()})
    assert report.accession == "ACC1" and {"P55", "ACC1"} <= report.identities.ids


def test_a_message_without_a_number_is_joined_by_patient_and_day(tmp_path):
    text = MESSAGE.format(result="F", code="71045", line="F").replace("P55|ACC1|71045", "||71045|||20190306101500")
    (report,) = read(tmp_path, {"m.hl7": text.encode()})
    assert (report.accession, report.patient_id, report.date) == ("", "123", date(2019, 3, 6))
    # The day on which the message was sent is not the day of the examination.
    (rejected,) = read(tmp_path, {"m.hl7": text.replace("20190306101500", "").encode()})
    assert isinstance(rejected, Rejected) and "no accession number" in rejected.detail


def test_parts_of_a_report_come_under_their_headings(tmp_path):
    parts = [("71045&GDT", "Lungs clear."), ("71045&GDT", "Heart normal."), ("71045&IMP", "No change.")]
    parts += [("71045&ADT", "ADDENDUM: seen by two.")]
    text = MESSAGE[: MESSAGE.index("OBX")].format(result="F")
    text += "".join(f"OBX|{n}|TX|{code}||{said}||||||F\r" for n, (code, said) in enumerate(parts, 1))
    (report,) = read(tmp_path, {"m.hl7": text.encode()})
    assert report.text == "FINDINGS: Lungs clear.\nHeart normal.\nIMPRESSION: No change.\nADDENDUM: seen by two."


def test_a_line_break_that_was_not_escaped_begins_no_segment(tmp_path):
    text = MESSAGE.format(result="F", code="71045", line="F").replace("Text.", "MRI\rMRI of the chest: clear.")
    (report,) = read(tmp_path, {"m.hl7": text.encode()})
    assert report.text == "MRI\nMRI of the chest: clear."


def test_a_report_that_is_a_picture_of_one_is_said_to_be(tmp_path):
    text = MESSAGE.format(result="F", code="71045", line="F").replace("OBX|1|TX", "OBX|1|ED")
    (rejected,) = read(tmp_path, {"m.hl7": text.encode()})
    assert rejected.detail == "message 1: the report is no text"


@pytest.mark.parametrize(
    ("declared", "charset", "read_as"),
    [
        ("8859/1", "cp1252", "cp1252"),
        ("8859/1", "utf-8", "utf-8"),
        ("ASCII", "utf-8", "utf-8"),
        ("8859/2", "iso8859_2", "iso8859-2"),
        ("8859/5", "iso8859_5", "iso8859-5"),
        ("UNICODE UTF-8", "utf-8", "utf-8"),
        ("ISO-8859-15", "iso8859_15", "iso8859-15"),
        ("~ISO IR87", "iso2022_jp", "iso2022_jp"),
        ("GB 18030-2000", "gb18030", "gb18030"),
        ("UNICODE UTF-16", "utf-16", "utf-8"),
        ("", "cp1252", "cp1252"),
        ("NONSENSE", "utf-8", "utf-8"),
    ],
)
def test_character_sets_of_messages(tmp_path, declared, charset, read_as):
    said = {"iso8859_5": "Сердце", "iso2022_jp": "胸部に異常なし", "gb18030": "肺部清晰"}.get(charset, "Größe é")
    text = MESSAGE.format(result="F", code="71045", line="F").replace("UNICODE UTF-8", declared).replace("Text.", said)
    (report,) = read(tmp_path, {"m.hl7": text.encode(charset)})
    assert (report.text, report.encoding) == (said, read_as)


def test_bytes_of_one_character_in_escapes_of_their_own(tmp_path):
    text = MESSAGE.format(result="F", code="71045", line="F").replace(
        "Text.", r"Gr\XC3\\XB6\\XC39F\e \E\X41\E\ \H\x\N\ "
    )
    (report,) = read(tmp_path, {"m.hl7": text.encode()})
    assert report.text == "Größe \\X41\\ x"


# ---- FHIR ------------------------------------------------------------------------------------------------------------

PATIENT = {
    "resourceType": "Patient", "id": "p1", "birthDate": "1961-05-03",
    "identifier": [{"value": "other"},
                   {"type": {"coding": [{"code": "MR"}]}, "value": "MRN77", "assigner": {"display": "HOSP"}}],
    "name": [{"family": "Müller", "given": ["Anna", "Eva"]}], "telecom": [{"system": "phone", "value": "404-555-0101"}],
    "address": [{"line": ["9 Rue"], "city": "Lyon", "postalCode": "69001"}],
}  # fmt: skip
STUDY = {"resourceType": "ImagingStudy", "id": "i1", "identifier": [
    {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3.44"},
    {"type": {"coding": [{"code": "ACSN"}]}, "value": "ACC9"}]}  # fmt: skip
DOCTOR = {"resourceType": "Practitioner", "id": "d1", "name": [{"text": "Dr. Liam Mbeki, MD"}]}
REPORT = {
    "resourceType": "DiagnosticReport", "id": "r1", "status": "final", "subject": {"reference": "Patient/p1"},
    "imagingStudy": [{"reference": "ImagingStudy/i1"}], "effectiveDateTime": "2019-03-07T10:00:00Z",
    "issued": "2019-03-07T11:30:00+01:00", "resultsInterpreter": [{"reference": "https://ehr.example/fhir/Practitioner/d1"}],
    "performer": [{"display": "Pereira, Mei"}],
    "presentedForm": [{"contentType": "text/plain", "data": base64.b64encode("Lungs größer.".encode()).decode()}],
}  # fmt: skip


def ndjson(*resources) -> bytes:
    return "\n".join(json.dumps(r) for r in resources).encode()


def test_a_bulk_export_is_joined_across_its_files(tmp_path):
    files = {
        "DiagnosticReport.ndjson": ndjson(REPORT),
        "Patient.ndjson": ndjson(PATIENT),
        "x.ndjson": ndjson(STUDY, DOCTOR),
    }
    (report,) = read(tmp_path, files)
    assert (report.accession, report.study_uid, report.patient_id) == ("ACC9", "1.2.3.44", "MRN77")
    assert (report.text, report.date, report.issuer) == ("Lungs größer.", date(2019, 3, 7), "HOSP")
    who = report.identities
    assert {"Müller^Anna Eva", "Mbeki^Liam"} <= who.names and date(1961, 5, 3) in who.dates
    assert "404-555-0101" in who.phones and who.addresses == {"9 Rue, Lyon, 69001"}


def test_a_bundle_with_contained_resources_and_a_page_as_its_text(tmp_path):
    page = base64.b64encode(b"<p>FINDINGS: a &amp; b</p><script>x()</script><p>IMPRESSION: none</p>").decode()
    resource = REPORT | {
        "contained": [PATIENT | {"id": "in"}], "subject": {"reference": "#in"}, "imagingStudy": [],
        "identifier": [{"value": "ACC1"}], "presentedForm": [{"contentType": "text/html", "data": page}],
    }  # fmt: skip
    bundle = {"resourceType": "Bundle", "entry": [{"resource": resource}]}
    (report,) = read(tmp_path, {"bundle.json": json.dumps(bundle, indent=1).encode()})
    assert (report.accession, report.patient_id) == ("ACC1", "MRN77")
    assert report.text == "FINDINGS: a & b\nIMPRESSION: none"


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"presentedForm": [{"url": "https://elsewhere.example/r"}]}, "behind a link"),
        ({"presentedForm": [{"contentType": "application/pdf", "data": "AAAA"}]}, "no plain text"),
        ({"presentedForm": None, "conclusion": None}, "the text is empty"),
        ({"subject": None, "imagingStudy": None}, "no accession number"),
    ],
)
def test_a_resource_without_usable_text_or_key_says_why(tmp_path, change, detail):
    (rejected,) = [r for r in read(tmp_path, {"a.ndjson": ndjson(REPORT | change, STUDY)}) if isinstance(r, Rejected)]
    assert detail in rejected.detail


def test_statuses_of_resources(tmp_path):
    made = read(
        tmp_path,
        {"a.ndjson": ndjson(*(REPORT | {"status": s} for s in ("preliminary", "amended", "cancelled", "?")), STUDY)},
    )
    assert [r.status for r in made] == [Status.PRELIMINARY, Status.CORRECTED, Status.WITHDRAWN, Status.UNKNOWN]


# ---- CDA -------------------------------------------------------------------------------------------------------------

CDA = """<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"><effectiveTime value="20190307113000"/>
<recordTarget><patientRole><id extension="MRN77"/><patient><name><given>Anna</given><family>Müller</family></name>
<birthTime value="19610503"/></patient></patientRole></recordTarget>
<inFulfillmentOf><order><id extension="ACC9"/></order></inFulfillmentOf>
<documentationOf><serviceEvent><id root="1.2.3.44"/><effectiveTime value="20190307"/></serviceEvent></documentationOf>
<component><structuredBody><component><section><title>Findings</title>
<text>Lungs <content>clear</content>.<br/>Heart normal.
</text></section></component></structuredBody></component></ClinicalDocument>"""


def test_a_clinical_document(tmp_path):
    (report,) = read(tmp_path, {"a.xml": CDA.encode()})
    assert (report.accession, report.study_uid, report.patient_id) == ("ACC9", "1.2.3.44", "MRN77")
    assert report.text == "Findings: Lungs clear.\nHeart normal." and report.identities.names == {"Müller^Anna"}
    assert date(1961, 5, 3) in report.identities.dates


@pytest.mark.parametrize("data", [b"<a/>", b"<broken", b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'])
def test_other_xml_is_rejected(tmp_path, data):
    (rejected,) = read(tmp_path, {"a.xml": data})
    assert rejected.reason == "malformed"


# ---- whatever comes --------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*REPORT, "text", "reference"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(change=st.dictionaries(st.sampled_from(list(REPORT)), JSON))
@settings(max_examples=150, deadline=None)
def test_no_shape_of_a_resource_makes_intake_raise(tmp_path_factory, change):
    folder = tmp_path_factory.mktemp("fhir")
    results = read(folder, {"a.ndjson": ndjson(REPORT | change, PATIENT)})
    assert len(results) == 1 or change.get("resourceType", "x") != "DiagnosticReport"


@given(data=st.binary(max_size=300), suffix=st.sampled_from(["jsonl", "ndjson", "parquet", "txt", "xml", "csv", "tsv"]))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_any_form_raise(tmp_path_factory, data, suffix):
    assert isinstance(read(tmp_path_factory.mktemp("any"), {f"a.{suffix}": data}), list)
