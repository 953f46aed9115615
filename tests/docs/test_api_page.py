"""Every command of the API page runs, in order, against services of its own."""

import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from tests.conftest import ROOT
from tests.docs.pages import bash, blocks, environment


@pytest.fixture
def services(tmp_path):
    """A control plane and a worker on a data root of their own; yields the environment of a script beside them."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = environment(
        tmp_path,
        INTRAMURAL_DATA=str(tmp_path / "data"),
        INTRAMURAL_PORT=str(port),
        INTRAMURAL_POLL_SECONDS="1",
        INTRAMURAL_EXPORT_ROOTS=f'["{tmp_path}"]',
        INTRAMURAL_URL=f"http://127.0.0.1:{port}",
        EXPORT_FOLDER=str(tmp_path / "export"),
    )
    log = (tmp_path / "services.log").open("w")
    children = [
        subprocess.Popen([sys.executable, "-m", "server.cli", name], env=env, cwd=ROOT, stdout=log, stderr=log)
        for name in ("server", "worker")
    ]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{env['INTRAMURAL_URL']}/readyz", trust_env=False).raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.2)
    yield env
    for child in children:
        child.send_signal(signal.SIGTERM)
    for child in children:
        assert child.wait(60) is not None
    assert "Traceback" not in (tmp_path / "services.log").read_text()


@pytest.mark.timeout(900)
def test_the_api_page(tmp_path, services):
    made = bash("intramural practice export --studies 48 --side 256", tmp_path, services)
    assert made.returncode == 0, made.stderr
    done = bash("\n".join(blocks("api.md", "sh")), tmp_path, services)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert '"answer"' in done.stdout
    assert '"block":1,"blocks":3' in (tmp_path / "maps.json").read_text()
    assert (tmp_path / "apex.png").read_bytes().startswith(b"\x89PNG")
    assert '"state":"ready"' in done.stdout.replace(" ", "")
    everything = done.stdout + (tmp_path / "services.log").read_text()
    names = {p.name.split("_")[0] for p in (tmp_path / "export" / "DICOM").iterdir() if "_" in p.name}
    assert names
    leaked = [n for n in names if len(n) > 4 and re.search(rf"\b{n}\b", everything, re.IGNORECASE)]
    assert not leaked, f"{len(leaked)} patient names stand in answers or logs"
