"""The whole stage on a small cohort with tiny encoders: result, tables, report, resume, refusals."""

import json
import re
import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from reportlab.graphics.shapes import Drawing
from reportlab.platypus import KeepTogether, Paragraph, Table
from sklearn.metrics import roc_auc_score

from pipelines import tables
from pipelines.contract import Outcome, run_stage
from pipelines.evaluate import methods, pdf, results
from pipelines.evaluate.__main__ import main as evaluate_main
from pipelines.evaluate.answer import with_interval
from tests.cohorts import make_cohort
from tests.pipelines.evaluate.folders import digest, tiny_model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A cohort, a run folder with model and start, and their evaluation."""
    root = tmp_path_factory.mktemp("evaluate")
    make_cohort(root / "cohort", patients=70, side=56)
    start = tiny_model(root / "run" / "start", "tiny untrained", "untrained", 0)
    tiny_model(root / "run" / "model", "tiny <b>run</b>", "run", 1, ["PSOMEBODY"], start=digest(start), samples=90)
    spec = {"cohort": str(root / "cohort"), "models": [str(root / "run" / "model")], "resamples": 300}
    spec |= {"minimum_positives": 4, "device": "cpu"}
    assert run_stage("evaluate", spec, root / "eval") is Outcome.DONE
    return root, spec


def read(root, name):
    return json.loads((root / "eval" / name).read_text())


def test_result_says_what_the_platform_needs(world):
    root, _ = world
    result = read(root, "result.json")
    assert result["protocol"] == "full" and result["practice"] and result["looks"] == 1
    assert [(m["name"], m["role"]) for m in result["models"]] == [
        ("tiny <b>run</b>", "model"),
        ("tiny untrained", "baseline"),
    ]
    assert set(result["tasks"]) == {"findings", "lines", "view"}
    assert result["answer"].startswith("tiny <b>run</b> is ") and "its untrained start" in result["answer"]
    macro = result["tasks"]["findings"]["tiny untrained"]["macro"]["auroc"]
    assert macro["low"] <= macro["value"] <= macro["high"]
    assert macro["value"] > 0.6  # the findings are drawn into the pixels


def test_scores_are_of_test_images_with_a_known_label_only(world):
    root, _ = world
    scores = tables.read_table(root / "eval" / "scores.parquet", tables.SCORES)
    index = pq.read_table(root / "cohort" / "index.parquet").to_pydict()
    for image, patient in set(zip(scores["image"].to_pylist(), scores["patient"].to_pylist(), strict=True)):
        assert index["split"][image] == "test" and index["patient"][image] == patient
    effusion = scores.filter((pc.field("label") == "Effusion") & (pc.field("seed") == 0))
    assert set(effusion["method"].to_pylist()) == {"linear", "knn", *methods.FEW_SHOT}
    labels = pq.read_table(root / "cohort" / "labels.parquet").to_pylist()
    truth = {r["accession"]: r["value"] for r in labels if r["label"] == "Effusion"}
    for row in effusion.to_pylist():
        assert truth[index["accession"][row["image"]]] == row["target"]


def test_results_are_recomputable_from_scores_and_equal_scikit_learn(world):
    root, _ = world
    scores = tables.read_table(root / "eval" / "scores.parquet", tables.SCORES)
    stored = tables.read_table(root / "eval" / "results.parquet", tables.RESULTS).to_pylist()
    pairs = [(c["model"], c["baseline"]) for c in read(root, "result.json")["comparisons"]]
    again = results.analyse(scores, pairs, 300)
    assert [{k: r[k] for k in stored[0]} for r in again] == stored
    for row in stored:
        if row["baseline"] is None and row["metric"] == "auroc" and row["label"] != "macro":
            mine = scores.filter(
                (pc.field("model") == row["model"])
                & (pc.field("label") == row["label"])
                & (pc.field("method") == row["method"])
            )
            by_seed = [mine.filter(pc.field("seed") == s) for s in range(3)]
            areas = [roc_auc_score(t["target"].to_numpy(), t["score"].to_numpy()) for t in by_seed]
            assert row["value"] == pytest.approx(np.mean(areas), abs=1e-12)


def test_report_shows_the_numbers_of_the_scores(world):
    root, _ = world
    html = (root / "eval" / "report.html").read_text()
    rows = tables.read_table(root / "eval" / "results.parquet", tables.RESULTS).to_pylist()
    for row in results.answering(rows):
        if row["metric"] == "auroc" or row["baseline"] is None:
            assert with_interval(row) in html.replace("\u00a0", " ")
    for row in rows:
        if (row["label"], row["metric"], row["baseline"]) == ("macro", "auroc", None):
            assert with_interval(row) in html


def test_everything_follows_from_the_scores_again_byte_by_byte(world, tmp_path):
    root, _ = world
    names = ("results.parquet", "subgroups.parquet", "report.html", "report.pdf", "result.json")
    shutil.copytree(root / "eval", tmp_path / "eval")
    for name in names:
        (tmp_path / "eval" / name).unlink()
    assert evaluate_main([str(tmp_path / "eval")]) == 0
    for name in names:
        assert (tmp_path / "eval" / name).read_bytes() == (root / "eval" / name).read_bytes(), name


def test_a_folder_without_scores_is_refused_in_one_sentence(tmp_path, capsys):
    assert evaluate_main([str(tmp_path)]) == 2
    assert "facts.json" in capsys.readouterr().err


def test_the_pdf_says_what_the_page_says(world):
    root, _ = world
    html = (root / "eval" / "report.html").read_text()
    pdf.write(root / "again.pdf", html)
    assert (root / "again.pdf").read_bytes() == (root / "eval" / "report.pdf").read_bytes()

    def words(parts):
        for part in parts:
            if isinstance(part, Paragraph):
                yield part.getPlainText()
            elif isinstance(part, Table):
                yield from words(cell for row in part._cellvalues for cell in row)
            elif isinstance(part, KeepTogether):
                yield from words(part._content)

    said = re.sub(r"\s+", " ", " ".join(words(pdf.story(html))))
    result = read(root, "result.json")
    assert said.startswith("PRACTICE DATA") and "page" not in said[:20]
    for sentence in (result["answer"], "With less teaching", "Subgroups", "Calibration", "What was not measured"):
        assert sentence in said.replace("\u00a0", " ")
    for row in results.answering(tables.read_table(root / "eval" / "results.parquet", tables.RESULTS).to_pylist()):
        if row["baseline"] is None:
            assert with_interval(row) in said
    raw = (root / "eval" / "report.pdf").read_bytes()
    assert raw.startswith(b"%PDF-") and 5 <= len(re.findall(rb"/Type /Page\b", raw)) <= 15


def test_figures_of_the_pdf_are_vectors_as_wide_as_the_page(world):
    root, _ = world

    def drawings(parts):
        for part in parts:
            if isinstance(part, KeepTogether):
                yield from drawings(part._content)
            elif isinstance(part, Drawing):
                yield part

    html = (root / "eval" / "report.html").read_text()
    found = list(drawings(pdf.story(html)))
    assert len(found) == html.count("<svg") and all(abs(d.width - pdf.WIDTH) < 1 for d in found)


def test_report_stands_alone_and_is_marked_as_practice(world):
    root, _ = world
    html = (root / "eval" / "report.html").read_text()
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<img", html)
    assert set(re.findall(r'(?:href|src)="([^"#]*)"', html)) == {
        "scores.parquet",
        "results.parquet",
        "subgroups.parquet",
    }
    assert "PRACTICE DATA" in html and "Below protocol" not in html
    assert "tiny &lt;b&gt;run&lt;/b&gt;" in html and "<b>run</b>" not in html
    assert "prefers-color-scheme: light" in html and "@media print" in html


def test_every_figure_has_a_text_alternative(world):
    root, _ = world
    html = (root / "eval" / "report.html").read_text()
    figures = re.findall(r"<svg.*?</svg>", html, re.S)
    # One overview; a forest, a few-shot curve and a reliability plot for each of three tasks.
    assert len(figures) == 10
    for figure in figures:
        names = re.search(r'aria-labelledby="(\S+) (\S+)"', figure).groups()
        for name, tag in zip(names, ("title", "desc"), strict=True):
            assert len(re.search(rf'<{tag} id="{name}">(.+?)</{tag}>', figure, re.S).group(1)) > 10
    assert len(set(re.findall(r'id="(\S+)"', html))) == len(re.findall(r'id="(\S+)"', html))


def test_no_patient_stands_in_report_result_or_events(world):
    root, _ = world
    patients = set(pq.read_table(root / "cohort" / "index.parquet")["patient"].to_pylist())
    for name in ("report.html", "result.json", "events.jsonl", "outcome.json"):
        text = (root / "eval" / name).read_text()
        assert not any(p in text for p in patients), name


def test_a_run_killed_before_its_statistics_ends_with_the_same_bytes(world):
    root, spec = world
    kept = {
        n: (root / "eval" / n).read_bytes() for n in ("scores.parquet", "results.parquet", "report.html", "report.pdf")
    }
    for name in (*kept, "result.json", "outcome.json"):
        (root / "eval" / name).unlink()
    next((root / "eval" / "parts").iterdir()).unlink()
    assert run_stage("evaluate", spec, root / "eval") is Outcome.DONE
    assert {n: (root / "eval" / n).read_bytes() for n in kept} == kept


def test_a_leaking_model_is_refused_in_one_sentence_and_nothing_is_measured(world, tmp_path, capsys):
    root, spec = world
    index = pq.read_table(root / "cohort" / "index.parquet")
    seen = index.filter(pc.field("split") == "test")["patient"].to_pylist()[:1]
    leaky = tiny_model(tmp_path / "m", "leaky", "run", 2, seen)
    outcome = run_stage("evaluate", spec | {"baselines": [str(leaky)]}, tmp_path / "eval")
    assert outcome is Outcome.BAD_INPUT
    assert "1 test patients of this cohort were pretrained on by model leaky" in capsys.readouterr().err
    assert not (tmp_path / "eval" / "features").exists() and not (tmp_path / "eval" / "result.json").exists()


def test_rare_labels_are_listed_few_seeds_are_below_protocol_and_patches_are_read_where_asked(world, tmp_path):
    root, spec = world
    labels = pq.read_table(root / "cohort" / "labels.parquet").to_pylist()
    split = {r["accession"]: r["split"] for r in pq.read_table(root / "cohort" / "index.parquet").to_pylist()}
    positives = {
        name: len(
            {r["patient"] for r in labels if r["label"] == name and r["value"] == 1 and split[r["accession"]] == "test"}
        )
        for name in ("Cardiomegaly", "Effusion", "ETT")
    }
    limit = min(positives.values()) + 1
    rare = [name for name, n in positives.items() if n < limit]
    values = spec | {"minimum_positives": limit, "seeds": [0, 1], "tasks": ["findings", "lines"]}
    values |= {"methods": ["linear", "attentive"], "attentive": {"images": 60, "steps": 20, "batch": 16}}
    assert run_stage("evaluate", values, tmp_path / "eval") is Outcome.DONE
    result = json.loads((tmp_path / "eval" / "result.json").read_text())
    assert result["protocol"] == "below"
    assert {n["label"]: n["positives"] for n in result["not_scored"]} == {name: positives[name] for name in rare}
    html = (tmp_path / "eval" / "report.html").read_text()
    assert "Below protocol" in html and "Not scored" in html
    assert "Attentive probe, on patch tokens" in html and "Attentive probe: for each label" in html
    scores = tables.read_table(tmp_path / "eval" / "scores.parquet", tables.SCORES)
    asked = {m: scores.filter(pc.field("method") == m).select(["label", "seed", "image"]) for m in values["methods"]}
    assert asked["attentive"].equals(asked["linear"])
    stored = [np.load(path, mmap_mode="r") for path in (tmp_path / "eval" / "features").glob("patches-*.npy")]
    assert [s.dtype for s in stored] == [np.float16] * 2
    assert all(len(s) < len(split) for s in stored), "of the train split 60 images at the most"
    assert not set(rare) & set(pq.read_table(tmp_path / "eval" / "scores.parquet")["label"].to_pylist())


def test_a_cohort_where_nothing_can_be_scored_is_refused(world, tmp_path, capsys):
    _, spec = world
    assert run_stage("evaluate", spec | {"minimum_positives": 500}, tmp_path / "eval") is Outcome.BAD_INPUT
    assert "No label has 500 positive test patients" in capsys.readouterr().err
