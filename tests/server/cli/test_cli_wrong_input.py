"""Wrong input at the command line: one sentence, an exit code, no traceback, nothing half-written taken for whole."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.dicoms import instance


def intramural(tmp_path: Path, *arguments: object, file_size: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, with keys of its own and, if given, a limit on the size of files."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    return subprocess.run(
        [sys.executable, "-m", "server.cli", *map(str, arguments)],
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "HOME": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1",  # Python itself takes a cut-off bytecode file for a whole one
        },
        capture_output=True,
        text=True,
        preexec_fn=limit if file_size else None,
    )


def one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    # The first use of a key folder announces its new keys; the sentence about the input comes last.
    said = " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in said, said[-300:]


def test_a_missing_folder(tmp_path):
    done = intramural(tmp_path, "deidentify", tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 2
    one_sentence(done, "does not exist", "check the path")
    assert not (tmp_path / "out" / "result.json").exists()


def test_an_empty_export(tmp_path):
    (tmp_path / "export").mkdir()
    done = intramural(tmp_path, "deidentify", tmp_path / "export", tmp_path / "out")
    assert done.returncode == 2
    one_sentence(done, "holds no file")


def test_a_column_that_is_none(tmp_path):
    (tmp_path / "export").mkdir()
    done = intramural(tmp_path, "deidentify", tmp_path / "export", tmp_path / "out", "--column", "mrn=Nummer")
    assert done.returncode == 2
    one_sentence(done, "'mrn' says no column", "patient_id")


def test_a_spec_with_an_unknown_key(tmp_path):
    spec = tmp_path / "run.toml"
    spec.write_text('cohort = "c"\nencoder = "mi2-tiny"\nbudget = 10\nbatch = 2\nepochs = 3\n')
    done = intramural(tmp_path, "pretrain", spec, tmp_path / "run")
    assert done.returncode == 2
    one_sentence(done, "'epochs'", "not valid")


def test_a_spec_that_is_no_toml(tmp_path):
    spec = tmp_path / "run.toml"
    spec.write_text("cohort = [")
    done = intramural(tmp_path, "evaluate", spec, tmp_path / "run")
    assert done.returncode == 2
    one_sentence(done, "is not valid TOML")


def export_of(tmp_path: Path, labels: str) -> Path:
    """An export of one instance and a label table."""
    folder = tmp_path / "export" / "DICOM"
    folder.mkdir(parents=True)
    instance(1).save_as(folder / "IM0001", enforce_file_format=True)
    (tmp_path / "export" / "labels.csv").write_text(labels)
    return tmp_path / "export"


def test_a_label_file_whose_accessions_are_all_unknown(tmp_path):
    export = export_of(tmp_path, "accession,labels\nNOBODY1,Effusion\nNOBODY2,\n")
    done = intramural(tmp_path, "deidentify", export, tmp_path / "out", "--workers", 1)
    assert done.returncode == 2
    one_sentence(done, "accession")
    assert not (tmp_path / "out" / "result.json").exists()


def test_no_space_left_and_then_space_again(tmp_path):
    """A real limit on file size stops the writing half way; with space the same command goes on to the end."""
    export = tmp_path / "practice"
    stopped = intramural(tmp_path, "practice", export, "--studies", 1, "--side", 256, file_size=30_000)
    assert stopped.returncode == 75
    one_sentence(stopped, "No space is left")
    assert not export.exists(), "a half-written export must not look like a whole one"
    done = intramural(tmp_path, "practice", export, "--studies", 1, "--side", 256)
    assert done.returncode == 0, done.stderr
    assert export.is_dir()


@pytest.mark.parametrize("missing", [["--reviewer", "A"], ["--purpose", "B"], []])
def test_a_release_needs_reviewer_purpose_and_approval(tmp_path, missing):
    (tmp_path / "deid").mkdir()
    (tmp_path / "deid" / "result.json").write_text(
        '{"policy": "", "counts": {"files": 1, "images_written": 1, "patients": 1, "reports": 0, "duplicates": 0,'
        ' "quarantined": {}}}'
    )
    done = intramural(tmp_path, "review", tmp_path / "deid", "--release", *missing)
    assert done.returncode == 2
    one_sentence(done, "--reviewer, --purpose and --approval")
    assert not (tmp_path / "deid" / "release.json").exists()
