"""Rules of the house: who may import whom, what the tree looks like, what is vendored, what the docs may say."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def tracked(*patterns: str) -> list[Path]:
    """Files git knows, or would know, under the given patterns."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).exists()]


def test_import_rules_hold():
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", ["server.app", "server.cli", "worker.supervise", "worker.__main__"])
def test_control_plane_and_worker_pull_in_no_torch(module):
    code = f"import {module}, sys; print([m for m in ('torch', 'timm', 'transformers', 'spacy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_stage_has_a_light_spec_and_a_run():
    code = (
        "import importlib, sys; from pipelines.contract import STAGES, Spec\n"
        "for p in STAGES.values(): assert issubclass(importlib.import_module(p + '.spec').Spec, Spec)\n"
        "print([m for m in ('torch', 'pydicom', 'cv2', 'spacy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    from pipelines.contract import STAGES

    for package in STAGES.values():
        assert (ROOT / package.replace(".", "/") / "run.py").exists()


def test_the_tree_on_disk_is_the_tree_the_architecture_draws():
    text = (ROOT / "docs/architecture.md").read_text()
    block = text.split("## The tree", 1)[1].split("```", 2)[1]
    drawn = {line.split()[0].rstrip("/") for line in block.splitlines() if line.strip()}
    folders = {str(p.parent.relative_to(ROOT)) for p in tracked("pipelines", "server", "worker", "deploy") if p.suffix}
    folders = {f for f in folders if f.count("/") <= 1}
    assert folders <= drawn, f"not drawn: {sorted(folders - drawn)}"
    missing = [d for d in drawn if not (ROOT / d).exists()]
    assert not missing, f"drawn, but not on disk: {missing}"


def test_vendored_files_are_what_the_manifest_says():
    vendor = ROOT / "server/web/static/vendor"
    rows = {r["file"]: r for r in json.loads((vendor / "MANIFEST.json").read_text())}
    assert set(rows) == {p.name for p in vendor.iterdir()} - {"MANIFEST.json"}
    for name, row in rows.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == row["sha256"], name


def test_pages_load_nothing_from_elsewhere():
    for path in tracked("server/web", "pipelines/evaluate"):
        if path.suffix in {".html", ".css", ".js", ".py"} and "vendor" not in path.parts:
            found = re.findall(r"""(?:src|href|url\()\s*=?\s*["'(]?\s*(?:https?:)?//[^\s"')]+""", path.read_text())
            assert not found, f"{path.name}: {found}"


def test_locks_hold_hashes_and_no_address():
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        pins = re.findall(r"^[a-z0-9._-]+(?:\[[a-z]+\])?==", text, re.MULTILINE)
        assert len(pins) > 100
        assert text.count("--hash=sha256:") >= len(pins)
        assert "://" not in text.replace("via https://", "")


def test_every_dependency_is_justified():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs/dependencies.md").read_text().lower()
    for requirement in project["dependencies"]:
        name = re.split(r"[\[<>=]", requirement)[0]
        family = name.removeprefix("pylibjpeg-") if name.startswith("pylibjpeg-") else name
        assert family in text, f"docs/dependencies.md does not say why {name} is here"


def test_compose_runs_commands_that_exist():
    import yaml
    from typer.main import get_command

    from server.cli import command_line

    commands = set(get_command(command_line()).commands)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    own = {name: s["command"][0] for name, s in compose["services"].items() if s["image"].startswith("intramural")}
    assert set(own.values()) <= commands
    assert set(own) == {"server", "worker", "worker-gpu", "migrate"}
    for name in own:
        service = compose["services"][name]
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert not any("docker.sock" in v for v in service.get("volumes", []))
    mounts = compose["services"]["worker"]["volumes"]
    assert "secrets:/secrets:ro" in mounts
    assert not any(v.startswith("signing:") for v in mounts), "no worker may sign a release"
