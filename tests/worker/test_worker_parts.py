"""The worker's parts by themselves: reading events, ending process trees, naming hosts, refusing wrong arguments."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.jobs import service
from server.store.db import Database
from server.store.models import Base, GpuSlot
from worker import host, process
from worker.__main__ import main
from worker.tail import BLOCK, Tail

TREE = """
import subprocess, sys, time
from worker import process
process.become_subreaper()
script = "trap '' TERM; (setsid sleep 600 & setsid sh -c 'trap : TERM; sleep 600; sleep 600') & exec sleep 600"
subprocess.Popen(["sh", "-c", script], start_new_session=True)
while len(process.descendants(__import__('os').getpid())) < 4:
    time.sleep(0.05)
print("grown", flush=True)
process.kill_descendants(lambda: None)
print("gone", flush=True)
time.sleep(600)
"""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(st.text(max_size=30), max_size=12),
    cuts=st.lists(st.integers(0, 900), max_size=10),
    lose=st.integers(0, 3),
)
def test_however_a_file_grows_each_event_is_read_once(
    tmp_path: Path, messages: list[str], cuts: list[int], lose: int
) -> None:
    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    whole = "".join(json.dumps({"kind": "log", "message": m}, ensure_ascii=False) + "\n" for m in messages).encode()
    edges = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    seen, offset = [], 0
    for turn, (start, stop) in enumerate(itertools.pairwise(edges)):
        with path.open("ab") as f:
            f.write(whole[start:stop])
        tail = Tail(path, offset)
        events, behind = tail.read()
        if turn % 4 == lose:
            continue  # the database refused the batch: it is read again
        seen += [event["message"] for event in events]
        offset = behind
    seen += [event["message"] for event in Tail(path, offset).read()[0]]
    assert seen == messages


def test_a_tail_survives_a_missing_an_emptied_and_an_endless_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert (Tail(path, 0).waiting(), Tail(path, 7).read()) == (False, ([], 7))
    path.write_text('{"kind": "log"}\n')
    assert Tail(path, 500).read() == ([{"kind": "log"}], 16)
    path.write_bytes(b"x" * (BLOCK + 10) + b'\n{"kind": "log"}\n')
    first, offset = Tail(path, 0).read()
    assert (first, Tail(path, offset).read()[0]) == ([], [{"kind": "log"}])


def test_every_descendant_is_ended_whatever_session_it_hides_in() -> None:
    tree = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True)
    try:
        assert tree.stdout and tree.stdout.readline() == "grown\n"
        assert tree.stdout.readline() == "gone\n"
        assert psutil.Process(tree.pid).children(recursive=True) == []
    finally:
        tree.kill()
        tree.wait()


def test_only_marked_processes_of_this_data_root_are_killed(tmp_path: Path) -> None:
    def sleeper(root: Path, token: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "600"], env={**os.environ, **process.marks("job", token, root)})

    old, new, other = sleeper(tmp_path, "old"), sleeper(tmp_path, "new"), sleeper(tmp_path / "copy", "old")
    try:
        process.kill_marked(tmp_path, lambda m: m.job_id == "job" and m.token == "old")
        assert old.wait(10) == -signal.SIGKILL
        assert [m.pid for m in process.marked(tmp_path)] == [new.pid]
        assert (new.poll(), other.poll()) == (None, None)
    finally:
        for each in (old, new, other):
            each.kill()
            each.wait()


def test_a_process_that_has_ended_is_not_alive() -> None:
    child = subprocess.Popen(["sleep", "600"])
    assert host.alive(child.pid)
    child.kill()
    while host.alive(child.pid):
        time.sleep(0.01)
    assert Path(f"/proc/{child.pid}").exists(), "it waits for its parent, as a dead supervisor may"
    child.wait()
    assert not host.alive(child.pid) and not host.alive(None)


def test_gpu_slots_follow_what_is_found_but_a_leased_one_stays(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'slots.db'}")
    Base.metadata.create_all(db.engine)

    def register(at: str, **found: str) -> None:
        with db.session() as session:
            host.register_gpus(session, at, found)

    def slots() -> dict[str, tuple[str, str | None]]:
        with db.reading() as session:
            return {slot.uuid: (slot.host, slot.job_id) for slot in session.query(GpuSlot)}

    register("here", a="H200", b="H200", c="H200")
    with db.session() as session:
        job = service.enqueue(
            session, stage="x", resource_kind="run", resource_id="r", title="t", spec={}, folder="f", gpus=1
        )
        session.get_one(GpuSlot, "b").job_id = job.id
    register("there", d="H200")
    register("here", a="H200")
    assert slots() == {"a": ("here", None), "b": ("here", job.id), "d": ("there", None)}
    db.engine.dispose()


def test_an_unknown_queue_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--queues", "cpu,tpu"])
    assert refused.value.code == 2
    assert "there is no queue tpu; choose from cpu, gpu" in capsys.readouterr().err


def test_neither_worker_nor_supervisor_imports_torch() -> None:
    code = "import sys, worker.__main__, worker.supervise, worker.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
