"""Every command of the first hour runs, in order, as a person would type it."""

import base64
import json
import re
from pathlib import Path

import pytest

from tests.docs.pages import bash, blocks, environment


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
        (tmp_path / name).write_text(re.sub(r"budget = \d+", "budget = 96", text))
    scripts = [b for b in blocks("first-hour.md", "sh") if "make setup" not in b and "# long-running" not in b]
    assert sum(b.count("intramural ") for b in scripts) >= 8
    # Fewer and smaller pictures and a shorter training are quicker.
    script = "\n".join(scripts).replace("--studies 80 --side 512", "--studies 60 --side 320")
    _fixed_secret(tmp_path / "config" / "intramural" / "derivation.key")
    (tmp_path / "practice" / "export").parent.mkdir(exist_ok=True)
    done = bash(script, tmp_path, environment(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    for made in ("deid/release.json", "cohort/index.parquet", "rad-dino/model/config.json", "evaluation/report.html"):
        assert (tmp_path / "practice" / made).exists(), made
    assert "Traceback" not in done.stderr
