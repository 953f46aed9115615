"""Every command of the page on baselines runs, in order, on a small timm model and a folder like ChestX-ray14."""

import re

import pytest

from pipelines.contract import read_json
from pipelines.weights.baselines import BASELINES
from tests.docs.pages import bash, blocks, environment
from tests.pipelines.external.test_external_sets import nih
from tests.pipelines.weights.checkpoints import timm_folder


@pytest.mark.timeout(600)
def test_the_page_on_baselines(tmp_path):
    timm_folder(tmp_path / "downloads" / "vit", "resnet18")
    nih(tmp_path / "sets" / "nih", 30)
    for text in blocks("baselines.md", "toml"):
        (tmp_path / re.match(r"# file: (\S+)", text).group(1)).write_text(text)
    done = bash("\n".join(blocks("baselines.md", "sh")), tmp_path, environment(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "chexzero" in done.stdout
    card = read_json(tmp_path / "baselines" / "vit" / "model" / "card.json")
    assert (card["name"], card["seen"], card["baseline"]) == ("timm resnet18", ["ImageNet-21k"], "timm")
    result = read_json(tmp_path / "evaluations" / "nih" / "result.json")
    assert result["cohort"]["public_set"] == "NIH ChestX-ray14" and result["models"][0]["contaminated"] == []
    assert result["deviations"]["timm resnet18"]["images"] == 8


def test_the_page_names_rows_that_exist():
    from tests.conftest import ROOT

    page = (ROOT / "docs" / "baselines.md").read_text()
    rows = page.split("| layout | a download holds | rows |")[1].split("\n\n")[0]
    names = set(re.findall(r"`([a-z][a-z0-9-]+)`", "".join(line.split("|")[3] for line in rows.splitlines()[2:])))
    assert names <= set(BASELINES) and {"biomedclip", "chexzero", "siglip2", "rad-dino-maira-2"} <= names
