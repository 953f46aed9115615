"""Every command of the page on scaling studies runs, in order; a size added later makes only the runs it lacks."""

import json
import re

import pytest

from tests.docs.pages import bash, blocks, environment

pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)
def test_the_page_on_scaling_studies(tmp_path):
    (text,) = blocks("scaling.md", "toml")
    (tmp_path / "practice").mkdir()
    study = tmp_path / re.match(r"# file: (\S+)", text).group(1)
    study.write_text(text)
    *scripts, scale = blocks("scaling.md", "sh")
    env = environment(tmp_path)
    done = bash("\n".join([*scripts, scale]), tmp_path, env)
    assert done.returncode == 0, done.stderr[-2000:]
    folder = tmp_path / "practice" / "study"
    result = json.loads((folder / "result.json").read_text())
    assert result["groups"][0]["sizes"] and result["protocol"] == "below" and result["practice"]
    assert "PRACTICE DATA" in (folder / "report.html").read_text()
    runs = {p: (p / "result.json").stat().st_mtime_ns for p in (folder / "runs").iterdir()}
    assert len(runs) == 4

    study.write_text(text.replace("[12, 30]", "[12, 20, 30]"))
    again = bash(scale, tmp_path, env)
    assert again.returncode == 0, again.stderr[-2000:]
    assert {p: (p / "result.json").stat().st_mtime_ns for p in runs} == runs
    assert len(list((folder / "runs").iterdir())) == 6
    grown = json.loads((folder / "result.json").read_text())
    assert len(grown["groups"][0]["sizes"]) == len(result["groups"][0]["sizes"]) + 1
