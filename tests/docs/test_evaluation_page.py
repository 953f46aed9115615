"""The command of the page on evaluation runs as it stands there."""

import re

from pipelines.contract import read_json
from tests.cohorts import make_cohort
from tests.docs.pages import bash, blocks, environment
from tests.pipelines.evaluate.folders import tiny_model


def test_the_page_on_evaluation(tmp_path):
    make_cohort(tmp_path / "cohort", patients=5, side=56)
    for seed, name in enumerate(("local", "baseline")):
        tiny_model(tmp_path / name, name, "run", seed)
    for text in blocks("evaluation.md", "toml"):
        (tmp_path / re.match(r"# file: (\S+)", text).group(1)).write_text(text)
    done = bash("\n".join(blocks("evaluation.md", "sh")), tmp_path, environment(tmp_path))
    assert done.returncode == 0 and "1 picture lies in maps/panels" in done.stderr, done.stderr[-2000:]
    assert [m["name"] for m in read_json(tmp_path / "maps" / "result.json")["models"]] == ["local", "baseline"]
