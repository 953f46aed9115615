"""The task from cohort to report: what is measured, that nothing is done twice, and what the report says."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import tables
from pipelines.contract import Outcome, run_stage
from pipelines.evaluate import pdf
from pipelines.reporting import metrics, task, training
from tests.cohorts import make_cohort
from tests.pipelines.evaluate.folders import tiny_model

SETTINGS = {"grid": 4, "steps": 30, "batch": 8, "tokens": 40, "examples": 3, "seeds": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    make_cohort(folder / "cohort", patients=130, images_per_patient=1)
    tiny_model(folder / "start", "start", "untrained", 0)
    tiny_model(folder / "other", "other", "run", 1)
    return folder


def evaluate(place, name, **changed):
    spec = {"cohort": str(place / "cohort"), "models": [str(place / "other")], "baselines": [str(place / "start")]}
    spec |= {"tasks": ["reports"], "resamples": 100, "reports": SETTINGS, "store": str(place / "store")} | changed
    return run_stage("evaluate", spec, place / name)


@pytest.fixture(scope="module")
def done(place):
    assert evaluate(place, "done") is Outcome.DONE, (place / "done" / "outcome.json").read_text()
    return place / "done"


def texts(done, system, model=""):
    rows = pq.read_table(done / task.TEXTS).to_pylist()
    return [r["text"] for r in rows if r["system"] == system and r["model"] in (model, "")]


def results(done, **wanted):
    rows = pq.read_table(done / "results.parquet").to_pylist()
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


def test_every_system_is_measured_on_the_same_studies(done):
    table = tables.read_table(done / "measures.parquet", tables.MEASURES).to_pandas()
    wording = table[table.metric.str.endswith("rouge_l")]
    assert sorted(wording.metric.unique()) == ["nearest:rouge_l", "rouge_l", "template:rouge_l"]
    assert wording.groupby(["model", "metric"]).image.apply(tuple).nunique() == 1
    references = texts(done, "radiologist")
    for system in ("written", "nearest", "template"):
        said = texts(done, system, "other")
        expected = np.mean(metrics.text_measures(references, said)[0].numerator)
        metric = ("" if system == "written" else f"{system}:") + "rouge_l"
        (row,) = results(done, model="other", metric=metric, label=metrics.REPORT, baseline=None)
        assert row["value"] == pytest.approx(expected)


def test_a_writer_that_only_knows_the_template_scores_as_the_template(done):
    template = texts(done, "template", "other")
    assert len(set(template)) == 1 and "normal" in template[0].lower()
    references, labeller = texts(done, "radiologist"), metrics.RuleFindings()
    same = metrics.label_measures("label_f1", labeller(references), labeller(template), ["Cardiomegaly"])
    for m in same:
        (row,) = results(done, model="other", metric=f"template:{m.metric}", label=m.label, baseline=None)
        assert row["value"] == pytest.approx(m.numerator.sum() / m.denominator.sum())
    assert results(done, metric="template:label_f1", label="Cardiomegaly", baseline=None)[0]["value"] == 0


def test_models_are_compared_and_the_template_is_nobodys_merit(done):
    found = results(done, model="other", baseline="start", label="macro")
    assert {"label_f1", "rouge_l", "nearest:label_f1"} <= {r["metric"] for r in found}
    assert all(r["value"] == 0 for r in found if r["metric"].startswith("template:"))
    verdicts = json.loads((done / "result.json").read_text())["verdicts"]
    assert [(v["task"], v["metric"]) for v in verdicts] == [("reports", "label_f1")]


def test_the_report_shows_systems_examples_and_what_was_not_run(done):
    page = (done / "report.html").read_text()
    for words in (
        "Report generation",
        "other, nearest image",
        "normal template",
        "Radiologist",
        "<mark>",
        "Below protocol",
    ):
        assert words in page, words
    for name in ("CheXbert F1", "RadGraph F1", "RadCliQ", "RaTEScore"):
        assert f"{name}: its weights are not present" in page


def test_marks_are_underlined_in_the_pdf_and_words_stay_apart(done):
    page = "<html><body><main><p>The <mark>heart </mark>is <mark>large</mark>.</p></main></body></html>"
    paragraph = pdf.story(page)[0]
    assert paragraph.getPlainText() == "The heart is large."
    assert "".join(f.text for f in paragraph.frags if f.us_lines).split() == ["heart", "large"]
    assert (done / "report.pdf").stat().st_size > 10_000


def test_what_stands_in_the_store_is_not_written_again(place, done, monkeypatch):
    def again(*_):
        raise AssertionError

    monkeypatch.setattr(training.Training, "run", again)
    assert evaluate(place, "again") is Outcome.DONE
    one, two = (pq.read_table(at / "measures.parquet") for at in (done, place / "again"))
    assert one.equals(two)
    assert not list(done.glob("checkpoints/*"))


def test_too_few_studies_are_said_to_be_too_few(place, monkeypatch):
    monkeypatch.setattr(task, "FEWEST", 1000)
    assert evaluate(place, "few", tasks=["reports", "view"]) is Outcome.DONE
    result = json.loads((place / "few" / "result.json").read_text())
    (said,) = [n for n in result["not_scored"] if n["task"] == "reports"]
    assert "it needs 1000 of each split" in said["reason"] and said["label"] == "all"
