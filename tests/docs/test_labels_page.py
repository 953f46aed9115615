"""Every command of the page on labels runs, in order, with a language model that was made on the spot."""

import re

import pyarrow.parquet as pq
import pytest

from pipelines import tables
from pipelines.contract import read_json
from pipelines.label.prompt import load_prompt
from tests.docs.pages import bash, blocks, environment
from tests.pipelines.label.language_models import untaught


@pytest.mark.timeout(600)
def test_the_page_on_labels(tmp_path):
    files = {re.match(r"# file: (\S+)", text).group(1): text for text in blocks("labels.md", "toml")}
    practice, *rest = blocks("labels.md", "sh")
    env = environment(tmp_path, MODEL=str(untaught(tmp_path / "model")))
    made = bash(practice, tmp_path, env)
    assert made.returncode == 0, made.stderr
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = bash("\n".join(rest), tmp_path, env)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "How far the sources agree" in done.stderr

    out = tmp_path / "practice"
    site = pq.read_table(out / "deid" / "labels.parquet", schema=tables.LABELS)
    assert all(re.fullmatch(r"1-[0-9a-f]{12}", version) for version in site["version"].to_pylist())
    manifest = pq.read_table(out / "deid" / "manifest.parquet", schema=tables.MANIFEST).to_pylist()
    assert [row["state"] for row in manifest if row["kind"] == "label"] == ["read", "read"], "the mapping is no stray"
    assert read_json(out / "labels" / "result.json")["comparison"]
    own = read_json(out / "labels-prompt" / "result.json")
    assert own["versions"]["model"].startswith(f"north-1-{load_prompt(out / 'prompt.toml').digest}-")
    model = own["sources"]["model"]
    assert model["read"] == 0 and set(model["not_read"]) <= {"answer_not_json", "answer_cut_off", "answer_not_valid"}
    assert set(pq.read_table(out / "cohort" / "labels.parquet")["source"].to_pylist()) == {"site", "rules"}
