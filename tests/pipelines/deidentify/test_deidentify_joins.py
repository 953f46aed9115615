"""Reports find their study by accession number, by UID, or by patient and day; what finds none is counted."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydicom.dataset import Dataset, FileDataset

from pipelines.contract import Outcome, run_stage
from pipelines.keys import DerivationSecret, create_vault_key
from tests.dicoms import ROOT, STUDY_DATE, as_bytes, instance

DAY = f"{STUDY_DATE[:4]}-{STUDY_DATE[4:6]}-{STUDY_DATE[6:]}"
# Accession, patient, study of each image: the third patient has two studies on one day.
IMAGES = [
    ("ACC1", "1001", "1"), ("ACC2", "1002", "2"), ("ACC3", "1003", "3"), ("ACC4", "1003", "4"), ("ACC5", "1005", "5"),
    ("ACC6", "1006", "6"), ("ACC7", "1007", "7"), ("ACC8", "1008", "8"),
]  # fmt: skip
CDA = """<ClinicalDocument xmlns="urn:hl7-org:v3"><recordTarget><patientRole><patient><name><given>Eva</given>
<family>Testnamef</family></name></patient></patientRole></recordTarget><component><structuredBody><component><section>
<title>Findings</title><text>Of Eva Testnamef: clear.</text></section></component></structuredBody></component>
</ClinicalDocument>"""


def document(number: int, sop_class: str) -> FileDataset:
    """A DICOM object without a picture, of the study of IMAGES[number]."""
    accession, patient, study = IMAGES[number]
    ds = instance(2, patient=patient, name=f"Testname{'abcdefgh'[number]}^Eva", accession=accession, study=study)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        del ds[keyword]
    return ds


def text_item(heading: str, said: str) -> Dataset:
    concept, item = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "1", "99T", heading
    item.ValueType, item.ConceptNameCodeSequence, item.TextValue = "TEXT", [concept], said
    return item


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("joins")
    for number, (accession, patient, study) in enumerate(IMAGES):
        (base / "export").mkdir(exist_ok=True)
        ds = instance(1, patient=patient, name=f"Testname{'abcdefgh'[number]}^Eva", accession=accession, study=study)
        (base / "export" / f"im{number}").write_bytes(as_bytes(ds))
    rows = [
        {"Befund": "By accession.", "accession": "ACC1"},
        {"Befund": "By UID.", "study_uid": f"{ROOT}3.100"},
        {"Befund": "By UID, the number is another system's.", "accession": "RIS-77", "study_uid": f"{ROOT}4.100"},
        {"Befund": "By patient and day.", "mrn": "1002", "date": DAY},
        {"Befund": "Of which of two studies?", "mrn": "1003", "date": DAY},
        {"Befund": "Of another day.", "mrn": "1002", "date": "2011-01-01"},
        {"Befund": "Of another export.", "accession": "ACC9", "mrn": "1002", "date": DAY},
        {"Befund": None, "accession": "ACC1"},
    ]
    (base / "export" / "reports.jsonl").write_text("\n".join(map(json.dumps, rows)))
    # A table of another layout beside it, and a message without any number.
    (base / "export" / "reports").mkdir()
    (base / "export" / "reports" / "b.csv").write_text("accession,text\nACC7,By the names in use.\n")
    (base / "export" / "reports" / "c.hl7").write_text(
        f"MSH|^~\\&|R|H|X|S|20240101||ORU^R01|1|P|2.5.1\rPID|1||1008\rOBR|1||||||{STUDY_DATE}0900\r"
        "OBX|1|TX|71045||A message by patient and day.||||||F\r"
    )
    report = document(4, "88.22")
    report.ValueType, report.CompletionFlag, report.VerificationFlag = "CONTAINER", "COMPLETE", "VERIFIED"
    report.ContentSequence = [text_item("Findings", "Seen with Eva Testnamee."), text_item("Impression", "Normal.")]
    (base / "export" / "sr").write_bytes(as_bytes(report))
    encapsulated = document(5, "104.2")
    encapsulated.MIMETypeOfEncapsulatedDocument, encapsulated.EncapsulatedDocument = "text/XML", CDA.encode() + b"\0"
    (base / "export" / "cda").write_bytes(as_bytes(encapsulated))
    DerivationSecret.create(base / "secret.json")
    create_vault_key(base / "vault.key")
    spec = {"export": str(base / "export"), "secret": str(base / "secret.json"), "vault_key": str(base / "vault.key"),
            "workers": 1, "report_columns": {"text": "Befund", "staff": "Arzt"}}  # fmt: skip
    assert run_stage("deidentify", spec, base / "out") is Outcome.DONE
    return base / "out"


def test_each_report_lies_with_its_study(out: Path):
    secret = DerivationSecret.load(out.parent / "secret.json")
    texts = {row["accession"]: row["text"] for row in pq.read_table(out / "reports.parquet").to_pylist()}
    assert texts == {
        secret.accession("ACC1"): "By accession.",
        secret.accession("ACC2"): "By patient and day.",
        secret.accession("ACC3"): "By UID.",
        secret.accession("ACC4"): "By UID, the number is another system's.",
        secret.accession("ACC5"): texts[secret.accession("ACC5")],
        secret.accession("ACC6"): texts[secret.accession("ACC6")],
        secret.accession("ACC7"): "By the names in use.",
        secret.accession("ACC8"): "A message by patient and day.",
    }


def test_a_column_that_the_registration_names_and_no_table_has_is_warned_of(out: Path):
    assert json.loads((out / "result.json").read_text())["reports"]["mapped"] == {"text": 7}
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    (warning,) = [e["message"] for e in events if e.get("level") == "warning"]
    assert warning.startswith("No table of reports has the column that the registration names for staff;")


def test_text_inside_dicom_is_a_report_and_scrubbed_as_one(out: Path):
    secret = DerivationSecret.load(out.parent / "secret.json")
    texts = {row["accession"]: row["text"] for row in pq.read_table(out / "reports.parquet").to_pylist()}
    structured, encapsulated = texts[secret.accession("ACC5")], texts[secret.accession("ACC6")]
    assert structured.startswith("Findings: Seen with ") and structured.endswith("Impression: Normal.")
    assert encapsulated.startswith("Findings: Of ") and encapsulated.endswith(": clear.")
    assert "Testname" not in structured + encapsulated


def test_what_found_no_study_is_counted_with_its_reason(out: Path):
    counts = json.loads((out / "result.json").read_text())["counts"]
    assert counts["reports"] == 8
    assert counts["quarantined"] == {
        "ambiguous": 1, "malformed": 1, "unmatched": 2,
        "document": 1, "structured_content": 1,  # as files: their text is used, scrubbed as a report is
    }  # fmt: skip
