"""Bad reports of every kind in one export: each is used or listed with its reason, and the counts add up."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.contract import Outcome, run_stage
from pipelines.keys import DerivationSecret, create_vault_key
from tests.dicoms import as_bytes, instance

STUDIES = 8
LONG = "The lungs are clear. " * 100_000
GERMAN = "Befund: Die Lunge ist frei und das Herz ist nicht vergrößert. Kein Erguss. Beurteilung: Normal."


def message(accession: str) -> str:
    return (
        f"MSH|^~\\&|RIS|H|X|S|20190307||ORU^R01|1|P|2.5.1\rPID|1||77^^^H\rOBR|1||{accession}\r"
        "OBX|1|TX|1||FINDINGS: Clear.||||||F\r"
    )


def write_inputs(folder: Path) -> int:
    """The report files; returns how many reports, usable or not, are in them."""
    rows = [
        b'accession,text\n',
        b'B1,"Heart size normal."\n',
        b'B2,"a quote that is never closed\n',
        b'B3,Clear lungs.\n',
        b'B4,One text.\nB4,Another text.\n',  # two reports with one accession number
        "B5,Dr. Müller saw a café.\n".encode(),
        "B5,Dr. Müller saw a café.\n".encode("cp1252"),  # mixed encodings: the same report twice
        b'B6,\n',  # an empty text
        b'B9,Of no study here.\n',
    ]  # fmt: skip
    (folder / "reports.csv").write_bytes(b"".join(rows))
    (folder / "reports").mkdir()
    (folder / "reports" / "B6.txt").write_text(LONG)
    (folder / "reports" / "B7.txt").write_text(GERMAN, encoding="utf-16")
    (folder / "reports" / "empty.txt").write_text("")
    (folder / "reports" / "blank.txt").write_text(" \n")
    (folder / "reports" / "rows.jsonl").write_text('{"accession": "B1", "text": null}\n{"accession": null}\n[]\n')
    batch = "BHS|^~\\&\r" + message("B0") + message("B2")
    (folder / "reports" / "batch.hl7").write_text(batch[: batch.rindex("Clear")])
    (folder / "reports" / "bulk.ndjson").write_text('{"resourceType": "DiagnosticReport", "subject": null}\nnull\n')
    # The batch that was cut off holds a whole message, a part of one, and what came behind it.
    return 9 + 4 + 3 + 3 + 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    base = tmp_path_factory.mktemp("inputs")
    (base / "export").mkdir()
    for n in range(STUDIES):
        ds = instance(n + 1, patient=f"77{n}", name=f"Testname{n}^Eva", accession=f"B{n}", study=f"{n}.7")
        (base / "export" / f"im{n}").write_bytes(as_bytes(ds))
    count = write_inputs(base / "export")
    DerivationSecret.create(base / "secret.json")
    create_vault_key(base / "vault.key")
    spec = {"export": str(base / "export"), "secret": str(base / "secret.json"), "vault_key": str(base / "vault.key")}
    assert run_stage("deidentify", spec | {"workers": 1}, base / "out") is Outcome.DONE
    return base / "out", count


def counts(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())["reports"]


def test_the_counts_add_up_to_the_inputs(made: tuple[Path, int]) -> None:
    out, inputs = made
    told = counts(out)
    assert told["read"] == inputs == sum(told["fates"].values())
    assert told["forms"] == {"CSV": 9, "FHIR": 2, "HL7 v2": 3, "JSON lines": 3, "text": 4}
    written = pq.read_table(out / "reports.parquet").to_pylist()
    assert len(written) == told["fates"]["written"] == 5
    assert told["fates"] == {
        "written": 5, "superseded": 1, "ambiguous": 2, "unmatched": 1, "empty": 2, "malformed": 10
    }  # fmt: skip


def test_whatever_was_not_used_is_listed_with_its_place_and_reason(made: tuple[Path, int]) -> None:
    out, _ = made
    with (out / "quarantine.csv").open(newline="") as f:
        listed = list(csv.DictReader(f))
    fates = counts(out)["fates"]
    for reason in ("ambiguous", "unmatched", "empty", "malformed"):
        assert sum(row["reason"] == reason for row in listed) == fates[reason]
    details = [row["detail"] for row in listed]
    for said in (
        "quoting is broken in the row that begins on line 3",
        "line 5: two reports of one study differ",
        "line 9: the text is empty",
        "line 10: no such accession number",
        "the text is too long for a report",
        "line 1: the text is empty",
        "line 3 is no JSON object",
        "message 2 is cut off",
        "the batch ends without its trailer; 2 messages were found in it",
        "entry 2 is no FHIR resource",
    ):
        assert said in details


def test_encodings_are_detected_and_said(made: tuple[Path, int]) -> None:
    told = counts(made[0])
    assert told["encodings"] == {"cp1252": 1, "utf-16": 1, "utf-8": 7}
    texts = [row["text"] for row in pq.read_table(made[0] / "reports.parquet").to_pylist()]
    assert any("vergrößert" in text for text in texts) and any("café" in text for text in texts)


def test_a_language_that_no_model_reads_is_warned_of(made: tuple[Path, int]) -> None:
    out, _ = made
    told = counts(out)
    assert told["unmodelled"] == {"de": 1} and told["languages"]["de"] == 1
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    (warning,) = [e["message"] for e in events if e.get("level") == "warning"]
    assert "1 reports (1 in German)" in warning and "the review" in warning


def test_finds_are_counted_by_recogniser(made: tuple[Path, int]) -> None:
    told = counts(made[0])
    assert told["finds"] == {"cue": 1} == told["found_in"] and told["kinds"] == {"NAME": 1}
