"""Every command of the first hour and of the API page runs, in order, as a person would type it."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT

BIN = Path(sys.executable).parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def environment(home: Path, **more: str) -> dict[str, str]:
    """A person's shell with keys of its own; the environment is already set up."""
    own = {"PATH": f"{BIN}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(home / "config"), "PYTHONPATH": str(ROOT)}
    return os.environ | own | more


def bash(script: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=cwd, env=env, capture_output=True, text=True)


def _fixed_secret(path: Path) -> None:
    """The same splits every time: with few patients, a random secret now and then leaves the test split empty."""
    path.parent.mkdir(parents=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps({"site": "test", "epoch": 1, "secret": base64.b64encode(b"0" * 32).decode()}))


@pytest.mark.timeout(900)
def test_the_first_hour(tmp_path):
    for text in blocks("first-hour.md", "toml"):
        name = re.match(r"# file: (\S+)", text).group(1)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    scripts = [b for b in blocks("first-hour.md", "sh") if "make setup" not in b and "# long-running" not in b]
    assert sum(b.count("intramural ") for b in scripts) >= 8
    script = "\n".join(scripts).replace("--side 512", "--side 320")  # small pictures are quicker
    _fixed_secret(tmp_path / "config" / "intramural" / "derivation.key")
    (tmp_path / "practice" / "export").parent.mkdir(exist_ok=True)
    done = bash(script, tmp_path, environment(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    for made in ("deid/release.json", "cohort/index.parquet", "rad-dino/model/config.json", "evaluation/report.html"):
        assert (tmp_path / "practice" / made).exists(), made
    assert "Traceback" not in done.stderr


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
    made = bash("intramural practice export --studies 60 --side 320", tmp_path, services)
    assert made.returncode == 0, made.stderr
    done = bash("\n".join(blocks("api.md", "sh")), tmp_path, services)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert '"answer"' in done.stdout
    assert '"state":"ready"' in done.stdout.replace(" ", "")
    everything = done.stdout + (tmp_path / "services.log").read_text()
    names = {p.name.split("_")[0] for p in (tmp_path / "export" / "DICOM").iterdir() if "_" in p.name}
    assert names
    leaked = [n for n in names if len(n) > 4 and re.search(rf"\b{n}\b", everything, re.IGNORECASE)]
    assert not leaked, f"{len(leaked)} patient names stand in answers or logs"


def test_the_page_on_policies(tmp_path):
    """The policy file of the page is valid, its commands run, and every setting it may have is on the page."""
    from pipelines.deidentify.policy import Options
    from tests.dicoms import as_bytes, instance

    (policy,) = blocks("deidentification.md", "toml")
    (tmp_path / "my-policy.toml").write_text(policy)
    (tmp_path / "aliases.csv").write_text("old,current\nA1,A2\n")
    (tmp_path / "opt-out.txt").write_text("B1\n")
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "a").write_bytes(as_bytes(instance()))
    done = bash("\n".join(blocks("deidentification.md", "sh")), tmp_path, environment(tmp_path))
    assert done.returncode == 0, done.stderr[-1500:]
    assert "is valid" in done.stdout and json.loads((tmp_path / "basic.json").read_text())["options.dates"] == "remove"
    assert (tmp_path / "out" / "result.json").exists()
    page = (ROOT / "docs" / "deidentification.md").read_text()
    assert all(f"`options.{name}`" in page for name in Options.model_fields)


def test_readme_names_only_targets_that_exist():
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "operations.md").read_text()
    targets = set(re.findall(r"make ([a-z][a-z-]+)", text))
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test", "up"} <= targets
    assert all(re.search(rf"^{t}:", makefile, re.MULTILINE) for t in targets), targets


def test_links_between_documents_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
