"""The whole stage on a small export: where every file went, the same bytes again, killed and started again."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

from pipelines.contract import Outcome, run_stage
from pipelines.deidentify import images, intake
from pipelines.deidentify.vault import crosswalk, resolve_sources
from pipelines.keys import DerivationSecret, create_vault_key, load_vault_key
from pipelines.release import folder_digest
from pipelines.scan import listing
from tests.dicoms import as_bytes, instance, write_export

# What differs by nature: sealed with fresh nonces, or tells of times and of the command.
APART = {"vault", "events.jsonl", "spec.json"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    DerivationSecret.create(folder / "secret.json")
    create_vault_key(folder / "vault.key")
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("given") / "export")


def spec(export: Path, keys: Path, **more: object) -> dict:
    given = {"export": str(export), "secret": str(keys / "secret.json"), "vault_key": str(keys / "vault.key")}
    return {**given, "workers": 1, **more}


@pytest.fixture(scope="module")
def done(export: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "deid"
    assert run_stage("deidentify", spec(export, keys), out) is Outcome.DONE
    return out


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] not in APART)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def told(out: Path) -> str:
    return json.loads((out / "outcome.json").read_text())["message"]


def table(folder: Path, name: str) -> list[dict]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_counts_tell_where_every_file_went(done: Path, export: Path) -> None:
    result = json.loads((done / "result.json").read_text())
    counts = result["counts"]
    files = sum(p.is_file() for p in export.rglob("*"))
    assert counts["files"] == files == len(table(done, "manifest"))
    assert (counts["images_written"], counts["duplicates"], counts["studies"], counts["patients"]) == (6, 1, 6, 3)
    assert counts["quarantined"] == {
        "conflict": 2, "empty": 1, "malformed": 1, "not_dicom": 1, "unmatched": 1, "unreadable": 1,
    }  # fmt: skip
    assert (counts["reports"], counts["masks"]) == (6, 1)
    assert result["digest"] == folder_digest(done)
    assert result["practice"] is False


def test_tables_join_by_pseudonyms(done: Path) -> None:
    images = [r for r in table(done, "manifest") if r["state"] == "written"]
    accessions = {r["accession"] for r in images}
    assert {r["accession"] for r in table(done, "reports")} == accessions
    assert {r["accession"] for r in table(done, "labels")} == accessions
    patients = {r["patient"]: r["split"] for r in table(done, "patients")}
    assert set(patients) == {r["patient"] for r in images}
    for row in images:
        ds = pydicom.dcmread(done / row["output"])
        assert (ds.PatientID, ds.AccessionNumber, ds.SOPInstanceUID) == (
            row["patient"],
            row["accession"],
            row["instance"],
        )
        assert row["output"] == f"dicom/{row['patient']}/{row['study']}/{row['instance']}.dcm"
        report = next(r for r in table(done, "reports") if r["accession"] == row["accession"])
        assert report["study"] == row["study"]
        assert report["date"].replace("-", "") == ds.StudyDate


def test_nothing_of_the_source_can_be_read_outside_the_vault(done: Path) -> None:
    tables = [pq.read_table(p).to_pylist() for p in done.rglob("*.parquet")]
    told = b"\n".join(data.lower() for data in [*snapshot(done).values(), (done / "events.jsonl").read_bytes()])
    told += repr(tables).lower().encode()
    told += "\n".join(p.relative_to(done).as_posix() for p in done.rglob("*")).lower().encode()
    names = ("abernathy", "dlamini", "quispe", "chidi", "notes.txt", "880004417", "880014417", "acc55")
    for value in (*names, "20190304", "2019-03-04", "19310521", "1.2.826.0.1.3680043.10.777"):
        assert value.encode() not in told, value


def test_pixels_without_text_are_the_sources(done: Path, export: Path, keys: Path) -> None:
    paths = resolve_sources(done, load_vault_key(keys / "vault.key"))
    for row in table(done, "manifest"):
        if row["state"] == "written":
            before, after = pydicom.dcmread(export / paths[row["source_id"]]), pydicom.dcmread(done / row["output"])
            assert np.array_equal(before.pixel_array, after.pixel_array)


def test_the_vault_leads_back(done: Path, keys: Path) -> None:
    merged = crosswalk(done, load_vault_key(keys / "vault.key"))
    assert sorted(p["id"] for p in merged.patients.values() if p["names"] != ["Haddad^Emre"]) == [
        "880004417", "880014417", "880024417",
    ]  # fmt: skip
    row = next(r for r in table(done, "manifest") if r["state"] == "written")
    assert merged.uids[row["study"]].startswith("1.2.826.0.1.3680043.10.777.")
    assert merged.accessions[row["accession"]].startswith("ACC55")


def test_two_workers_write_the_same_bytes(done: Path, export: Path, keys: Path, tmp_path: Path) -> None:
    assert run_stage("deidentify", spec(export, keys, workers=2), tmp_path / "deid") is Outcome.DONE
    ours, theirs = snapshot(tmp_path / "deid"), snapshot(done)
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_the_cut_of_a_large_export_changes_no_table(
    done: Path, export: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PART_FILES", 2)
    monkeypatch.setattr(listing, "BUCKET_FILES", 4)
    monkeypatch.setattr(intake, "SPOOL_ROWS", 2)
    assert run_stage("deidentify", spec(export, keys), tmp_path / "deid") is Outcome.DONE
    assert len(list((tmp_path / "deid" / "parts").glob("part-*"))) > len(list((done / "parts").glob("part-*")))
    ours, theirs = snapshot(tmp_path / "deid"), snapshot(done)
    apart = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
    assert {name.split("/")[0] for name in apart} <= {"inventory", "parts"}
    assert not list((tmp_path / "deid").rglob("*.arrow")) and not (tmp_path / "deid" / "vault" / "tables").exists()


def start(values: dict, out: Path) -> subprocess.Popen:
    out.mkdir(parents=True, exist_ok=True)
    (out.parent / "spec.json").write_text(json.dumps(values))
    command = [sys.executable, "-m", "pipelines", "deidentify", str(out.parent / "spec.json"), str(out)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


def children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        except (OSError, ValueError):
            continue
        if int(fields["PPid"]) == pid:
            found.append(int(fields["Pid"]))
    return found


MOMENTS = [
    "vault/chunks", "inventory/steps/reading", "inventory/steps/verdicts", "inventory/summary.json", "parts/tables-",
    "parts/dealt-", "parts/part-", "parts/fates-", "parts/spread-", "labels.parquet",
]  # fmt: skip


def reached(out: Path, moment: str) -> bool:
    """Whether a file of that beginning is there; the stage removes folders while this walks them."""
    try:
        return any(p.relative_to(out).as_posix().startswith(moment) for p in out.rglob("*"))
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_anywhere_and_started_again_it_writes_the_same_bytes(
    moment: str, done: Path, export: Path, keys: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run" / "deid"
    process = start(spec(export, keys, workers=2), out)
    while process.poll() is None and not reached(out, moment):
        time.sleep(0.005)
    workers = children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{w}").exists() for w in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [w for w in workers if Path(f"/proc/{w}").exists()]  # nothing outlives the stage
    assert start(spec(export, keys, workers=2), out).wait() == 0
    ours, theirs = snapshot(out), snapshot(done)
    assert set(ours) == set(theirs)
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_who_objected_is_not_in_the_output_and_who_was_merged_has_one_pseudonym(
    done: Path, export: Path, keys: Path, tmp_path: Path
) -> None:
    (tmp_path / "opt_out.txt").write_text("OLD0\n\n")
    (tmp_path / "aliases.csv").write_text("old,current\nOLD0,880004417\n880014417,MERGED9\n")
    lists = {"opt_out": str(tmp_path / "opt_out.txt"), "aliases": str(tmp_path / "aliases.csv")}
    values = spec(export, keys, **lists)
    assert run_stage("deidentify", values, tmp_path / "deid") is Outcome.DONE
    before, after = ({r["patient"] for r in table(out, "patients")} for out in (done, tmp_path / "deid"))
    gone = before - after
    assert len(gone) == 2
    assert after - before == {DerivationSecret.load(keys / "secret.json").patient("", "MERGED9")}
    counts = json.loads((tmp_path / "deid" / "result.json").read_text())["counts"]
    assert counts["images_written"] == 4 and counts["opted_out"] >= 2
    told = "".join(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "deid").rglob("*"))
    assert not [patient for patient in gone if patient in told]
    assert len(table(tmp_path / "deid", "reports")) == 4


def test_objects_without_pictures_are_written_or_have_their_reason(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    classes = {"image": None, "state": "11.1", "report": "88.33", "pdf": "104.1", "private": "1.2.840.113619.4.30"}
    for number, (name, sop_class) in enumerate(classes.items(), 1):
        ds = instance(number)
        if sop_class:
            whole = sop_class if sop_class.startswith("1.2.") else f"1.2.840.10008.5.1.4.1.1.{sop_class}"
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = whole
        (tmp_path / "export" / name).write_bytes(as_bytes(ds))
    out = tmp_path / "deid"
    assert run_stage("deidentify", spec(tmp_path / "export", keys), out) is Outcome.DONE
    counts = json.loads((out / "result.json").read_text())["counts"]
    assert (counts["files"], counts["images_written"], counts["objects_written"]) == (5, 1, 1)
    assert counts["quarantined"] == {"document": 1, "private_class": 1, "structured_content": 1}
    assert sorted((r["kind"], r["state"]) for r in table(out, "manifest")) == [
        ("image", "written"), ("object", "quarantined"), ("object", "written"),
        ("other", "quarantined"), ("other", "quarantined"),
    ]  # fmt: skip


def test_wrong_input_is_one_sentence_without_phi(export: Path, keys: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "rubbish").mkdir()
    (tmp_path / "rubbish" / "Abernathy.txt").write_text("x")
    cases = {
        "missing": spec(tmp_path / "nowhere", keys),
        "empty": spec(tmp_path / "empty", keys),
        "rubbish": spec(tmp_path / "rubbish", keys),
        "policy": spec(export, keys, policy="strictest"),
        "list": spec(export, keys, opt_out=str(tmp_path / "no.txt")),
    }
    for name, values in cases.items():
        out = tmp_path / "outs" / name
        assert run_stage("deidentify", values, out) is Outcome.BAD_INPUT, name
        assert ". " not in told(out) and "Abernathy" not in told(out)
        assert not (out / "result.json").exists()


def test_a_changed_secret_does_not_mix_into_a_begun_run(export: Path, keys: Path, tmp_path: Path) -> None:
    mine = tmp_path / "keys"
    DerivationSecret.create(mine / "secret.json")
    create_vault_key(mine / "vault.key")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_bytes(as_bytes(instance()))
    (tmp_path / "one" / "labels.csv").write_text("accession,labels\nNOSUCH,Edema\n")
    values = spec(tmp_path / "one", mine)
    assert run_stage("deidentify", values, tmp_path / "out") is Outcome.BAD_INPUT
    assert "labels.csv" in told(tmp_path / "out")
    (mine / "secret.json").unlink()
    DerivationSecret.create(mine / "secret.json")
    assert run_stage("deidentify", values, tmp_path / "out") is Outcome.BAD_INPUT
    assert "changed since this run began" in told(tmp_path / "out")


def test_no_space_left_ends_in_one_sentence_and_is_resumed(
    done: Path, export: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = images._store, iter(range(100))

    def full_disk(*arguments: object) -> Path:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", "PHI_Abernathy")
        return store(*arguments)

    monkeypatch.setattr(images, "_store", full_disk)
    assert run_stage("deidentify", spec(export, keys), tmp_path / "deid") is Outcome.RETRY
    assert "No space is left" in told(tmp_path / "deid") and "Abernathy" not in told(tmp_path / "deid")
    monkeypatch.undo()
    assert run_stage("deidentify", spec(export, keys), tmp_path / "deid") is Outcome.DONE
    assert snapshot(tmp_path / "deid") == snapshot(done)


def test_a_stop_is_obeyed_between_files_and_resumed(
    done: Path, export: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = images._store

    def stop_then(*arguments: object) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return store(*arguments)

    monkeypatch.setattr(images, "_store", stop_then)
    assert run_stage("deidentify", spec(export, keys), tmp_path / "deid") is Outcome.STOPPED
    assert not (tmp_path / "deid" / "manifest.parquet").exists()
    monkeypatch.undo()
    assert run_stage("deidentify", spec(export, keys), tmp_path / "deid") is Outcome.DONE
    assert snapshot(tmp_path / "deid") == snapshot(done)
