"""Watching jobs: the stream, the events, the client's wait, and many callers at once on SQLite."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn

from server.access import Role
from server.api import jobs as routes
from server.client import JobFailed
from server.store.models import Job, JobEvent, now
from tests.server.house import House


@pytest.fixture
def job(house: House) -> str:
    client = house.client()
    export = client.register(client.create_site("Main").id, house.export_folder(), "x")
    return client.deidentify(export.id).id


def say(house: House, job: str, count: int) -> None:
    with house.db.session() as session:
        for n in range(count):
            session.add(JobEvent(job_id=job, time=now(), kind="log", data={"message": f"step {n}"}))


def stream(house: House, job: str, **headers: str) -> list[dict[str, str]]:
    with house.http(Role.AUDITOR).stream("GET", f"/api/v1/jobs/{job}/stream", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(response.iter_text()).strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in b.splitlines()) for b in blocks if not b.startswith(":")]


def test_the_stream_tells_all_and_ends_with_the_job(house, job):
    say(house, job, 3)
    house.finish(job, state="failed")
    found = stream(house, job)
    assert [e["event"] for e in found] == ["event"] * 3 + ["job", "end"]
    assert json.loads(found[0]["data"])["data"] == {"message": "step 0"}
    assert json.loads(found[-1]["data"]) == {"state": "failed"}
    resumed = stream(house, job, **{"Last-Event-ID": found[1]["id"]})
    assert [e["event"] for e in resumed] == ["event", "job", "end"]


def test_the_stream_of_a_working_job_ends_by_itself(house, job, monkeypatch):
    monkeypatch.setattr(routes, "STREAM_SECONDS", 0.3)
    monkeypatch.setattr(routes, "POLL_SECONDS", 0.05)
    assert [e["event"] for e in stream(house, job)] == ["job"], "an unchanged job is shown once"


def test_a_job_never_shows_its_spec(house, job):
    for path in (f"/jobs/{job}", "/jobs"):
        text = json.dumps(house.client(Role.AUDITOR).request("GET", path))
        assert str(house.folder) not in text
        assert "secret" not in text


def test_wait_hands_on_each_event_once(house, job):
    say(house, job, 2)
    seen: list[str] = []

    def later() -> None:
        time.sleep(0.3)
        say(house, job, 2)
        with house.db.session() as session:
            session.get_one(Job, job).state = "succeeded"

    thread = threading.Thread(target=later)
    thread.start()
    done = house.client().wait(job, on_event=lambda e: seen.append(e.data["message"]), poll=0.05, timeout=20)
    thread.join()
    assert done.state == "succeeded"
    assert seen == ["step 0", "step 1", "step 0", "step 1"]


def test_wait_says_why_a_job_failed(house, job):
    with house.db.session() as session:
        row = session.get_one(Job, job)
        row.state, row.message = "failed", "The export is empty; check the path."
    with pytest.raises(JobFailed, match="The export is empty"):
        house.client().wait(job)


def test_waiting_can_be_bounded(house, job):
    with pytest.raises(TimeoutError):
        house.client().wait(job, timeout=0.1, poll=0.05)


def test_many_callers_at_once_lock_nobody_out(house):
    """Auth, writes and reads compete for SQLite's one writer and for the server's threads: none may wait for ever."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(house.app, port=port, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    headers = {"Authorization": f"Bearer {house.token(Role.ADMIN)}"}
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)

        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1",
            headers=headers,
            timeout=120,  # a lost lock would cost 30 s twice; a slow disk alone must not fail this
            limits=httpx.Limits(max_connections=None),
        ) as http:

            def one(n: int) -> int:
                if n % 3 == 0:
                    return http.post("/sites", json={"name": f"Site {n}"}).status_code
                return http.get("/sites").status_code

            with ThreadPoolExecutor(90) as pool:
                statuses = list(pool.map(one, range(180)))
    finally:
        server.should_exit = True
        thread.join(20)
    assert statuses == [201 if n % 3 == 0 else 200 for n in range(180)]
    assert house.client().verify_audit().ok
