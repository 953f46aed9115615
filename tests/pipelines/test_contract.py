"""The contract of a stage: outcomes, resume, one sentence for a person, nothing half-written."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines import contract
from pipelines.contract import BadInput, Outcome, RunFolder, Stopped, run_stage


@pytest.fixture
def stage(monkeypatch):
    """Registers a stage whose `run` the test gives, with a real spec (that of `practice`)."""
    import pipelines.practice.spec

    module = type(sys)("stage_under_test.run")
    monkeypatch.setitem(sys.modules, "stage_under_test.run", module)
    monkeypatch.setitem(sys.modules, "stage_under_test.spec", pipelines.practice.spec)
    monkeypatch.setitem(contract.STAGES, "under_test", "stage_under_test")

    def register(function):
        module.run = function

    return register


SPEC = {"out": "somewhere", "studies": 3}


def outcome_of(folder: Path) -> dict:
    return json.loads((folder / "outcome.json").read_text())


def test_done_writes_result_last_and_a_second_start_does_nothing(stage, tmp_path):
    calls = []

    def run(spec, folder):
        assert not (tmp_path / "result.json").exists()
        calls.append(spec.studies)
        return {"answer": 42}

    stage(run)
    assert run_stage("under_test", SPEC, tmp_path) is Outcome.DONE
    assert run_stage("under_test", SPEC, tmp_path) is Outcome.DONE
    assert calls == [3]
    assert json.loads((tmp_path / "result.json").read_text()) == {"answer": 42}
    assert outcome_of(tmp_path)["outcome"] == "done"


@pytest.mark.parametrize(
    ("error", "outcome", "words"),
    [
        (BadInput("The folder is empty; give another."), Outcome.BAD_INPUT, "The folder is empty"),
        (Stopped(), Outcome.STOPPED, "Stopped on request"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/DOE^JANE"), Outcome.RETRY, "No space is left"),
        (OSError(errno.EFBIG, "File too large"), Outcome.RETRY, "No space is left"),
        (ValueError("could not parse DOE^JANE"), Outcome.RETRY, "ValueError"),
    ],
)
def test_every_ending_has_an_outcome_and_no_result(stage, tmp_path, capsys, error, outcome, words):
    def run(spec, folder):
        raise error

    stage(run)
    assert run_stage("under_test", SPEC, tmp_path) is outcome
    assert not (tmp_path / "result.json").exists()
    assert words in outcome_of(tmp_path)["message"]
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    everything = printed.err + "".join(p.read_text() for p in tmp_path.iterdir())
    assert "DOE" not in everything, "an exception's text may quote PHI and must not be kept"


def test_unknown_key_and_wrong_value_are_named_in_one_sentence(tmp_path, capsys):
    assert run_stage("practice", {"out": "x", "studies": 0, "colour": 1}, tmp_path) is Outcome.BAD_INPUT
    message = outcome_of(tmp_path)["message"]
    assert "'colour'" in message
    assert "'studies'" in message
    assert message.count("\n") == 0


def test_a_folder_begun_with_another_spec_is_refused(stage, tmp_path):
    stage(lambda spec, folder: (_ for _ in ()).throw(Stopped()))
    run_stage("under_test", SPEC, tmp_path)
    assert run_stage("under_test", SPEC | {"studies": 4}, tmp_path) is Outcome.BAD_INPUT
    assert "studies differ" in outcome_of(tmp_path)["message"]


def test_a_folder_begun_before_the_spec_gained_a_field_is_resumed(stage, tmp_path):
    """After an upgrade: what the older version could not say stands at its default."""

    def stopped(spec, folder):
        raise Stopped

    stage(stopped)
    run_stage("under_test", SPEC, tmp_path)
    written = json.loads((tmp_path / "spec.json").read_text())
    del written["spec"]["side"]
    (tmp_path / "spec.json").write_text(json.dumps(written))
    stage(lambda spec, folder: {})
    assert run_stage("under_test", SPEC | {"side": 320}, tmp_path) is Outcome.BAD_INPUT
    assert "side differ" in outcome_of(tmp_path)["message"]
    (tmp_path / "spec.json").write_text(json.dumps(written))
    assert run_stage("under_test", SPEC, tmp_path) is Outcome.DONE


def test_disk_full_leaves_nothing_half_written(tmp_path):
    """A real limit (RLIMIT_FSIZE) in a real process: the stage says so and the old file stays whole."""
    code = (
        "import resource, signal, sys; from pathlib import Path; from pipelines.contract import write_atomic\n"
        "path = Path(sys.argv[1]) / 'table'; write_atomic(path, b'whole')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(path, b'x' * 5000)\n"
        "except OSError as e: print(e.errno)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) in contract.NO_SPACE
    assert [p.name for p in tmp_path.iterdir()] == ["table"]
    assert (tmp_path / "table").read_bytes() == b"whole"


def test_only_rank_0_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    folder = RunFolder(tmp_path)
    folder.log("hello")
    folder.finish(Outcome.DONE, "Finished.", {})
    assert list(tmp_path.iterdir()) == []


def test_progress_is_throttled_but_the_last_is_written(tmp_path):
    folder = RunFolder(tmp_path)
    for i in range(1, 1001):
        folder.progress(i, 1000, "counting")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(events) < 100
    assert (events[-1]["done"], events[-1]["what"]) == (1000, "counting")


def test_die_with_parent_kills_the_child_of_a_killed_parent():
    code = (
        "import os, subprocess, sys, time\n"
        "child = 'from pipelines.contract import die_with_parent; import os, sys, time;'\n"
        "child += 'die_with_parent(int(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(60)'\n"
        "subprocess.Popen([sys.executable, '-c', child, str(os.getpid())], start_new_session=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _running(child):
        time.sleep(0.05)
    assert not _running(child)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_sigterm_asks_the_stage_to_stop(tmp_path):
    folder = RunFolder(tmp_path)
    signal.signal(signal.SIGTERM, folder.on_sigterm)
    folder.check_stop()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        folder.check_stop()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_command_explains_a_wrong_call_and_a_missing_spec(tmp_path, capsys):
    assert contract.main(["practice"]) == 2
    assert contract.main(["practice", str(tmp_path / "none.json"), str(tmp_path / "run")]) == 2
    assert "none.json does not exist" in capsys.readouterr().err
    (tmp_path / "spec.json").write_text("{}")
    assert contract.main(["prectice", str(tmp_path / "spec.json"), str(tmp_path / "run")]) == 2
