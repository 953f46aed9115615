"""The inventory: what each file is, whatever its place, name or form; duplicates and conflicts whatever the order."""

import errno
import io
import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.contract import BadInput, Outcome, run_stage
from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.vault import resolve_sources
from pipelines.keys import DerivationSecret, create_vault_key, load_vault_key
from pipelines.scan import inventory, listing
from pipelines.scan.dicom import per_file, read_object, require_supported
from pipelines.scan.files import table_kind
from pipelines.scan.inventory import INVENTORY, decide
from tests.dicoms import as_bytes, canary, instance, without_preamble, write_export


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    DerivationSecret.create(folder / "secret.json")
    create_vault_key(folder / "vault.key")
    return folder


def scan(export: Path, keys: Path, out: Path, workers: int = 1) -> Outcome:
    spec = {"export": str(export), "secret": str(keys / "secret.json"), "vault_key": str(keys / "vault.key")}
    return run_stage("scan", {**spec, "workers": workers}, out)


def rows_by_path(out: Path, keys: Path) -> dict[str, dict]:
    paths = resolve_sources(out, load_vault_key(keys / "vault.key"))
    tables = [pq.read_table(p).to_pylist() for p in sorted((out / "inventory").glob("part-*.parquet"))]
    return {paths[row["source_id"]]: row for rows in tables for row in rows}


def test_every_file_has_one_row_and_what_it_is(tmp_path: Path, keys: Path) -> None:
    export = write_export(tmp_path / "export")
    assert scan(export, keys, tmp_path / "run") is Outcome.DONE
    rows = rows_by_path(tmp_path / "run", keys)
    assert set(rows) == {p.relative_to(export).as_posix() for p in export.rglob("*") if p.is_file()}
    told = {path.rsplit("/", 1)[-1]: (r["kind"], r["state"], r["reason"]) for path, r in rows.items()}
    assert told["NOTES.TXT"] == ("other", "quarantined", "not_dicom")
    assert told["empty"] == ("other", "quarantined", "empty")
    assert told["cut"] == ("other", "quarantined", "unreadable")
    assert told["clash1"] == told["clash2"] == ("image", "quarantined", "conflict")
    assert told["reports.csv"] == ("report", "ok", None)
    assert told["labels.csv"] == ("label", "ok", None)
    first = [r["state"] for p, r in rows.items() if "Abern" in p and p.endswith(("study 0/IM1", "study 0/again"))]
    assert sorted(first) == ["duplicate", "ok"]


def test_nothing_readable_outside_the_vault_names_anybody(tmp_path: Path, keys: Path) -> None:
    export = write_export(tmp_path / "export")
    scan(export, keys, tmp_path / "run")
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    told = b"".join(p.read_bytes() for p in files).lower()
    told += repr([pq.read_table(p).to_pylist() for p in files if p.suffix == ".parquet"]).lower().encode()
    for value in (b"abernathy", b"dlamini", b"88000441", b"acc5500", b"1.2.826.0.1.3680043.10.777", b"notes.txt"):
        assert value not in told


def test_inventory_is_the_same_for_any_number_of_workers(tmp_path: Path, keys: Path) -> None:
    export = write_export(tmp_path / "export")
    for workers in (1, 2):
        scan(export, keys, tmp_path / f"run{workers}", workers)
    ours, theirs = (sorted((tmp_path / f"run{w}" / "inventory").iterdir()) for w in (1, 2))
    assert [p.name for p in ours] == [p.name for p in theirs]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(ours, theirs, strict=True))


def test_the_cut_of_a_large_export_changes_no_byte(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = write_export(tmp_path / "export")
    monkeypatch.setattr(listing, "PART_FILES", 2)
    scan(export, keys, tmp_path / "small")
    monkeypatch.setattr(listing, "BUCKET_FILES", 4)
    monkeypatch.setattr(listing, "CHUNK_FILES", 1)
    monkeypatch.setattr(inventory, "CHUNK_FILES", 1)
    monkeypatch.setattr(listing, "MOST_SPAN", 3)
    scan(export, keys, tmp_path / "large")
    cut = json.loads((tmp_path / "large" / "inventory" / "listing.json").read_text())
    assert cut["buckets"] >= 4 and cut["parts"] > cut["buckets"]
    small, large = (
        {p.name: p.read_bytes() for p in (tmp_path / n / "inventory").iterdir()} for n in ("small", "large")
    )
    assert {n for n in small if small[n] != large.get(n)} == {"listing.json"} and set(small) == set(large)
    assert rows_by_path(tmp_path / "small", keys) == rows_by_path(tmp_path / "large", keys)


@pytest.mark.parametrize("implicit", [False, True])
def test_objects_are_read_with_and_without_preamble(implicit: bool) -> None:
    data = as_bytes(canary(), implicit=implicit)
    assert read_object(data).SOPInstanceUID == canary().SOPInstanceUID
    bare = without_preamble(data)
    ds = read_object(bare)
    require_supported(ds)
    assert ds.file_meta.TransferSyntaxUID.is_implicit_VR is implicit
    assert ds.PatientID == "MRN7700123"


def test_a_file_cut_anywhere_is_never_taken_for_whole() -> None:
    # pydicom returns what it got, silently; a cut copy beside its original must not make both a conflict.
    ds = instance()
    data = as_bytes(ds)
    for length in [*range(0, len(data), 37), len(data) - 1]:
        with pytest.raises(Quarantine):
            require_supported(read_object(data[:length]))


def test_a_cut_encapsulated_object_is_unreadable() -> None:
    ds = instance()
    ds.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    require_supported(read_object(data))
    for length in (len(data) // 3, len(data) // 2, len(data) - 9, len(data) - 2):
        with pytest.raises(Quarantine) as verdict:
            require_supported(read_object(data[:length]))
        assert verdict.value.reason == "unreadable"


FOREIGN = [b"not a DICOM file", b"\x00" * 5000, b"PK\x03\x04" + b"x" * 400, bytes(range(256)) * 9]


@pytest.mark.parametrize("text", FOREIGN)
def test_foreign_bytes_are_not_dicom(text: bytes) -> None:
    with pytest.raises(Quarantine) as verdict:
        read_object(text)
    assert verdict.value.reason == "not_dicom"


def test_winner_of_equals_and_conflicts_do_not_depend_on_order() -> None:
    def row(source: str, instance: str, digest: str) -> dict:
        return dict.fromkeys(INVENTORY.names) | {
            "source_id": source, "kind": "image", "state": "ok", "instance": instance, "sha256": digest,
        }  # fmt: skip

    rows = [row("c", "2.25.1", "x"), row("a", "2.25.1", "x"), row("b", "2.25.1", "x")]
    rows += [row("e", "2.25.2", "x"), row("d", "2.25.2", "y"), row("f", "2.25.2", "x"), row("g", "2.25.3", "x")]
    for seed in range(20):
        shuffled = [dict(r) for r in rows]
        random.Random(seed).shuffle(shuffled)
        decided = {r["source_id"]: (r["state"], r["reason"]) for r in decide(shuffled)}
        assert decided["a"] == decided["g"] == ("ok", None)
        assert decided["b"] == decided["c"] == ("duplicate", None)
        assert {decided[s] for s in "def"} == {("quarantined", "conflict")}


def test_two_contents_of_one_uid_are_in_conflict_whichever_chunk_held_which(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "CHUNK_FILES", 1)
    monkeypatch.setattr(inventory, "CHUNK_FILES", 1)
    monkeypatch.setattr(listing, "MOST_SPAN", 1)
    monkeypatch.setattr(listing, "BUCKET_FILES", 2)
    monkeypatch.setattr(listing, "PART_FILES", 1)
    one, other = as_bytes(instance(1, seed=1)), as_bytes(instance(1, seed=2))
    orders = {"first": [one, other, one], "last": [other, one, one], "apart": [one, one, other]}
    for name, contents in orders.items():
        export = tmp_path / name
        export.mkdir()
        for number, data in enumerate(contents):
            (export / f"{number}0").write_bytes(data)
            between = instance(2 + number, accession=f"ACC{number}", study=f"5.{number}")
            (export / f"{number}5").write_bytes(as_bytes(between))
        assert scan(export, keys, tmp_path / f"run {name}") is Outcome.DONE
        cut = json.loads((tmp_path / f"run {name}" / "inventory" / "listing.json").read_text())
        assert (cut["chunks"], cut["buckets"] > 1) == (6, True), "the files were not apart"
        told = {p: (r["state"], r["reason"]) for p, r in rows_by_path(tmp_path / f"run {name}", keys).items()}
        assert told == {f"{n}0": ("quarantined", "conflict") for n in range(3)} | {
            f"{n}5": ("ok", None) for n in range(3)
        }


def test_links_out_of_the_export_are_not_followed(tmp_path: Path, keys: Path) -> None:
    export, outside = tmp_path / "export", tmp_path / "outside"
    for folder in (export / "a", outside):
        folder.mkdir(parents=True)
    (outside / "secret").write_bytes(as_bytes(instance(5)))
    (export / "a" / "real").write_bytes(as_bytes(instance(1)))
    (export / "a" / "file").symlink_to(outside / "secret")
    (export / "folder").symlink_to(outside, target_is_directory=True)
    (export / "loop").symlink_to(export / "loop")
    scan(export, keys, tmp_path / "run")
    rows = rows_by_path(tmp_path / "run", keys)
    assert {p: r["state"] for p, r in rows.items()} == {
        "a/real": "ok", "a/file": "quarantined", "folder": "quarantined", "loop": "quarantined",
    }  # fmt: skip


def test_wrong_input_is_one_sentence(tmp_path: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for export in (tmp_path / "missing", tmp_path / "empty"):
        out = tmp_path / f"run-{export.name}"
        assert scan(export, keys, out) is Outcome.BAD_INPUT
        told = json.loads((out / "outcome.json").read_text())["message"]
        assert told.count(".") == 1 and "Traceback" not in capsys.readouterr().err
    from pipelines.scan.files import require_apart

    with pytest.raises(BadInput):
        require_apart(tmp_path / "empty", tmp_path / "empty" / "run")


def test_a_run_killed_before_its_chunks_were_dropped_ends_as_any_other(tmp_path: Path, keys: Path) -> None:
    export, out = write_export(tmp_path / "export"), tmp_path / "run"
    scan(export, keys, out)
    whole = {p.relative_to(out): p.read_bytes() for p in (out / "inventory").rglob("*") if p.is_file()}
    for kind in ("inventory", "vault"):
        (out / kind / "steps").mkdir()
        (out / kind / "steps" / "000000.left").write_bytes(b"left behind")
    (out / "result.json").unlink()
    assert scan(export, keys, out) is Outcome.DONE
    assert not (out / "vault" / "steps").exists()
    assert {p.relative_to(out): p.read_bytes() for p in (out / "inventory").rglob("*") if p.is_file()} == whole


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("reports.csv", "report"),
        ("Reports.JSONL", "report"),
        ("hl7/2019/a.hl7", "report"),
        ("fhir/DiagnosticReport.ndjson", "report"),
        ("reports/ACC1.txt", "report"),
        ("reports/old/b.xml", "report"),
        ("reports/scan.dcm", None),
        ("notes.txt", None),
        ("DICOM/reports.csv", None),
    ],
)
def test_reports_are_known_by_their_place(path, kind):
    assert table_kind(path) == kind


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOSPC, errno.ESTALE])
def test_no_file_is_blamed_for_what_the_machine_lacks(code: int) -> None:
    with pytest.raises(OSError, match="nobody's"), per_file():
        raise OSError(code, "nobody's")


def test_a_file_that_may_not_be_read_is_unreadable() -> None:
    with pytest.raises(Quarantine) as verdict, per_file():
        raise PermissionError(errno.EACCES, "/export/JANE_DOE")
    assert (verdict.value.reason, verdict.value.detail) == ("unreadable", "PermissionError")
