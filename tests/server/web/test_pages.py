"""Every page renders, offers what the caller may do, and keeps its own content rules."""

import re

import pytest
from sqlalchemy import select

from server.store.models import Cohort, Evaluation, Export, Job, Model, Outbox, Site
from tests.server.web.conftest import PASSWORD

PAGES = [
    "/", "/exports", "/exports/new", "/review", "/review/e00000000002", "/labels", "/labels/new", "/cohorts",
    "/cohorts/external", "/cohorts/c10000000000",
    "/cohorts/new", "/runs", "/runs/new", "/models", "/models/new", "/evaluations", "/evaluations/new", "/jobs",
    "/champions", "/similarities", "/similarities/new", "/studies", "/studies/new", "/sites", "/people", "/audit",
    *[f"/exports/e{n:011d}" for n in range(6)],
    *[f"/{kind}s/{letter}{n:011d}" for kind, letter in
      (("label", "1"), ("cohort", "c"), ("run", "a"), ("model", "b"), ("evaluation", "d"),
       ("similaritie", "6"), ("studie", "5"))
      for n in range(4)],
    *[f"/jobs/f{n:011d}" for n in range(6)],
]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_every_page_renders_with_one_heading_and_a_state(browse, path):
    page = browse().get(path)
    assert page.status_code == 200
    assert page.text.count("<h1") == 1
    assert re.search(r'class="state">[^<]+', page.text), "each page says its state in a sentence"
    assert "Undefined" not in page.text
    assert " None" not in re.sub(r"<script.*?</script>", "", page.text)


@pytest.mark.parametrize(
    "path", ["/", "/exports", "/runs/a00000000002", "/similarities/600000000002", "/studies/500000000002", "/signin"]
)
def test_pages_obey_the_content_security_policy(browse, path):
    """No inline script, no inline style, no handler attribute, nothing from another host."""
    text = browse().get(path).text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", text)


def test_text_from_data_is_escaped(browse):
    page = browse().get("/review/e00000000002").text
    assert "Lungs &lt;b&gt;clear&lt;/b&gt;." in page


def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(furnished):
    from fastapi.testclient import TestClient

    url = furnished.state.settings.url
    client = TestClient(furnished, base_url=url, headers={"Accept": "text/html", "Origin": url})
    page = client.get("/runs")
    assert page.url.path == "/signin"
    form = {"name": "everyone", "password": PASSWORD, "next": "/runs"}
    assert client.post("/signin", data=form).url.path == "/runs"
    form["next"] = "//elsewhere.example"
    assert client.post("/signin", data=form).url.path == "/"


def test_a_refused_sign_in_says_so_on_the_form(furnished):
    from fastapi.testclient import TestClient

    url = furnished.state.settings.url
    client = TestClient(furnished, base_url=url, headers={"Accept": "text/html", "Origin": url})
    page = client.post("/signin", data={"name": "everyone", "password": "wrong"})
    assert page.status_code == 401
    assert "not right" in page.text
    assert 'name="password"' in page.text


def test_a_refused_form_comes_back_with_what_was_typed(browse):
    form = {"name": "Autumn export", "site": "nowhere00000", "path": "/etc", "purpose": "Quality", "approval": "1"}
    page = browse().post("/exports", data=form)
    assert 400 <= page.status_code < 500
    assert 'value="Autumn export"' in page.text
    assert 'role="alert"' in page.text
    page = browse().post("/runs", data={"name": "x", "cohort": "c00000000002", "encoder": "mi2-tiny", "budget": "many"})
    assert page.status_code == 422
    assert "budget" in page.text


def test_buttons_follow_the_role(browse):
    waiting = "/review/e00000000002"
    assert "Release export" in browse("privacy_officer").get(waiting).text
    researcher = browse("researcher")
    assert "Release export" not in researcher.get(waiting).text
    assert "Only a privacy officer" in researcher.get(waiting).text
    assert "/people" not in researcher.get("/").text
    assert researcher.get("/people").status_code == 403
    answer = researcher.post(waiting, data={"verdict": "released"})
    assert answer.status_code == 403
    assert "privacy officer" in answer.text


def test_the_loss_curve_is_thinned_and_says_whether_it_goes_on(browse):
    data = browse().get("/runs/a00000000001/metrics.json").json()
    assert data["live"] is True
    assert 100 < len(data["steps"]) <= 1000
    assert data["steps"] == sorted(data["steps"])
    assert data["values"][0] == 3.0


def test_a_run_draws_what_it_reports_and_nothing_else(browse):
    client = browse()
    text = client.get("/runs/a00000000001").text
    drawn = re.findall(r'data-curve="/runs/a00000000001/metrics.json([^"]*)"', text)
    assert drawn == ["", "?key=rankme", "?key=learning_rate"]
    assert client.get("/runs/a00000000001/metrics.json?key=rankme").json()["values"] == [31.5]
    assert "Went back to step 22." in text
    assert re.findall(r'src="(/runs/a00000000001/pictures/\d+.png)"', text) == [
        f"/runs/a00000000001/pictures/{step}.png" for step in (0, 80)
    ]
    picture = client.get("/runs/a00000000001/pictures/80.png")
    assert (picture.content, picture.headers["Content-Type"]) == (b"\x89PNG", "image/png")
    for path in ("pictures/81.png", "pictures/..%2f..%2fsecret.png", "pictures/x.png"):
        assert client.get(f"/runs/a00000000001/{path}").status_code in (404, 422)
    waiting = client.get("/runs/a00000000000").text
    assert "How it goes" not in waiting and "Warnings" not in waiting and "pictures/" not in waiting


def test_live_progress_reloads_the_page_when_the_job_has_ended(browse):
    client = browse()
    assert "HX-Refresh" not in client.get("/jobs/f00000000001/progress").headers
    assert 'data-share="75"' in client.get("/jobs/f00000000001/progress").text
    assert client.get("/jobs/f00000000003/progress").headers["HX-Refresh"] == "true"


def test_the_report_is_shown_but_may_do_nothing(browse):
    answer = browse().get("/evaluations/d00000000002/report.html")
    assert "The answer" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert browse().get("/evaluations/d00000000000/report.html").status_code == 404


def test_the_report_comes_as_pdf_too(browse):
    answer = browse().get("/evaluations/d00000000002/report.pdf")
    assert answer.headers["content-type"] == "application/pdf" and answer.content.startswith(b"%PDF")
    assert "report.pdf" in browse().get("/evaluations/d00000000002").text
    assert browse().get("/evaluations/d00000000000/report.pdf").status_code == 404
    assert browse().get("/evaluations/d00000000002/report.txt").status_code in (404, 422)


@pytest.mark.parametrize("name", ["..%2f..%2freports.parquet", "nothing.png", "%2e%2e%2frelease.json"])
def test_previews_cannot_reach_other_files(browse, name):
    assert browse().get("/review/e00000000002/image/one.png").status_code == 200
    assert browse().get(f"/review/e00000000002/image/{name}").status_code == 404


def test_a_token_is_shown_once_and_works(browse, furnished):
    client = browse()
    page = client.post("/tokens", data={"name": "PACS script", "days": "30", "roles": ["researcher"]})
    token = re.search(r"<code>(\S+)</code>", page.text).group(1)
    assert token not in client.get("/people").text
    answer = client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}", "Accept": "application/json"})
    assert answer.json()["roles"] == ["researcher"]


def test_sending_back_needs_a_reason_and_release_needs_purpose(browse, furnished):
    officer = browse("privacy_officer")
    refused = officer.post("/review/e00000000002", data={"verdict": "sent_back"})
    assert refused.status_code == 422
    assert "has to be mended" in refused.text


def test_columns_of_report_tables_are_asked_for_in_lines(browse, furnished):
    folder = furnished.state.settings.export_roots[0] / "columns"
    folder.mkdir(exist_ok=True)
    with furnished.state.database.session() as session:
        site = session.scalar(select(Site.id))
    form = {"name": "With columns", "site": site, "path": str(folder), "report_columns": "text = Befund\nmrn = PatNr"}
    refused = browse().post("/exports", data=form)
    assert refused.status_code == 422 and "&#39;mrn&#39; says no column" in refused.text
    form["report_columns"] = "text = Befund\n patient_id=PatNr \n"
    assert browse().post("/exports", data=form).status_code == 200
    with furnished.state.database.session() as session:
        export = session.scalar(select(Export).where(Export.name == "With columns"))
        assert export.report_columns == {"text": "Befund", "patient_id": "PatNr"}
        session.delete(export)


def test_the_comparison_of_label_sources_is_a_table(browse):
    page = browse().get("/labels/100000000002").text
    assert re.search(r'<td>Pleural Effusion</td><td class="soft">site, rules</td><td class="num">10</td>', page)
    assert "0.875" in page and "2 not in English" in page and "1-abc" in page


def test_labels_are_chosen_with_the_cohort(browse):
    client = browse()
    page = client.get("/cohorts/new?export=e00000000003&labels=100000000002").text
    assert 'value="100000000002" checked' in page and 'value="e00000000003" checked' in page
    assert "100000000003" not in page, "a run that failed is not offered"
    form = {"name": "Labelled", "deid": "e00000000003", "labels": "100000000002", "label_sources": "rules, hearsay"}
    again = client.post("/cohorts", data=form)
    assert again.status_code == 422 and "label_sources" in again.text
    assert 'value="rules, hearsay"' in again.text and 'value="100000000002" checked' in again.text


def test_labelling_is_offered_to_who_may(browse):
    path = "/exports/e00000000003"
    assert "/labels/new?export=e00000000003" in browse("researcher").get(path).text
    assert "/labels/new" not in browse("privacy_officer").get(path).text
    refused = browse("researcher").post("/labels", data={"name": "x", "deid": "e00000000003", "sources": ["model"]})
    assert refused.status_code == 422 and 'value="model" checked' in refused.text


def test_every_recogniser_is_explained_on_the_pages():
    from pipelines.deidentify.reports import engines, general
    from server.web.filters import RECOGNISERS

    named = {"known", "misspelt", "dates", "cue", "forms", "house", "presidio", *general._SOURCES}
    assert named | {engines.SpacyEngine.name, engines.TransformersEngine.name} == RECOGNISERS.keys()


def test_a_study_shows_its_grid_its_break_even_and_its_curve(browse):
    client = browse()
    page = client.get("/studies/500000000002").text
    assert re.search(r'<td>mi2-tiny</td><td class="num">900</td>', page)
    assert page.count('href="/runs/a0') == 4
    assert "1,800 samples" in page and "not reached" in page and "Practice data" in page
    assert 'data-curve="/studies/500000000002/curves/1.json"' in page
    data = client.get("/studies/500000000002/curves/0.json").json()
    assert (data["steps"], data["values"], data["axis"]) == ([900, 1800], [0.61, 0.72], "samples")
    assert data["label"] == "macro AUROC"
    outlines = client.get("/studies/500000000002/curves/1.json").json()
    assert outlines["label"] == "macro Dice" and "<td>Dice</td>" in page
    assert client.get("/studies/500000000002/curves/2.json").status_code == 404
    report = client.get("/studies/500000000002/report.html")
    assert report.status_code == 200 and "sandbox" in report.headers["Content-Security-Policy"]
    assert client.get("/studies/500000000000/report.html").status_code == 404


def test_a_study_is_controlled_by_who_may(browse):
    path = "/studies/500000000002"
    assert "Judge what stands" in browse("researcher").get(path).text
    assert "Judge what stands" not in browse("auditor").get(path).text
    assert browse("auditor").post(f"{path}/cancel").status_code == 403


def test_the_page_of_a_judgement_leads_to_its_study_and_to_what_it_needs(browse, furnished):
    with furnished.state.database.session() as session:
        need = session.get_one(Job, "f00000000000")
        values = {"stage": "scale", "resource_kind": "study", "resource_id": "500000000002", "title": "Judge"}
        job = Job(id="fa0000000000", spec={}, folder="x", needs=[need], **values)
        session.add(job)
    client = browse()
    page = client.get("/jobs/fa0000000000").text
    assert 'href="/studies/500000000002"' in page and 'href="/jobs/f00000000000"' in page
    assert "waits for 1 other job" in client.get("/studies/500000000002").text
    with furnished.state.database.session() as session:
        session.delete(session.get_one(Job, "fa0000000000"))


def test_a_refused_study_comes_back_with_what_was_typed(browse):
    form = {"name": "Winter", "cohort": "c00000000002", "encoders": ["mi2-tiny"], "sizes": "10, many", "budget": "64"}
    page = browse().post("/studies", data=form | {"batch": "8", "seeds": "0,1"})
    assert page.status_code == 422 and "sizes" in page.text
    assert 'value="10, many"' in page.text and 'value="0, 1"' in page.text and 'value="mi2-tiny" checked' in page.text


def test_what_is_asked_is_ticked_on_the_forms(browse, furnished):
    client = browse()
    for path in ("/evaluations/new", "/studies/new"):
        page = client.get(path).text
        assert 'value="findings" checked' in page and 'value="segmentation" >' in page
    form = {"name": "x", "cohort": "c00000000002", "tasks": ["segmentation", "reports"]}
    for path in ("/evaluations", "/studies"):
        again = client.post(path, data=form)
        assert again.status_code == 422 and 'value="segmentation" checked' in again.text
        assert 'value="findings" >' in again.text


def test_an_evaluation_may_have_a_teacher_and_attentive_probes(browse, furnished):
    form = {"name": "Taught", "cohort": "c10000000000", "models": "b00000000002", "teacher": "c00000000002"}
    client = browse("researcher")
    page = client.post("/evaluations", data=form | {"attentive": "true"})
    assert page.status_code == 200, page.text[-500:]
    with furnished.state.database.session() as session:
        row = session.scalar(select(Evaluation).where(Evaluation.name == "Taught"))
        assert row.spec["teacher"] == "c00000000002" and row.spec["methods"][-1] == "attentive"
        job = session.scalar(select(Job).where(Job.resource_id == row.id))
        assert job.spec["teacher"].endswith("cohorts/x") and row.practice, "the teacher is practice data"
        session.execute(Outbox.__table__.delete().where(Outbox.job_id == job.id))
        session.delete(job)
        session.delete(row)


def test_the_words_of_tasks_and_metrics_are_those_of_evaluations():
    from pipelines.evaluate.answer import METRIC_WORDS
    from pipelines.evaluate.spec import Spec
    from pipelines.evaluate.tasks import TITLES
    from server.web.filters import METRICS, TASKS

    assert METRICS.items() <= METRIC_WORDS.items() and TASKS.keys() == TITLES.keys()
    assert tuple(t for t, (_, asked) in TASKS.items() if asked) == Spec.model_fields["tasks"].default


def test_an_evaluation_promotes_a_model_or_says_why_not(browse, furnished):
    path = "/evaluations/d00000000002"
    with furnished.state.database.session() as session:
        site = session.scalar(select(Site.id))
        session.get_one(Model, "b00000000002").digest = "d" * 64
        told = {"models": [{"name": "Model ready", "weights_sha256": "d" * 64}], "protocol": "below", "verdicts": []}
        told |= {"tasks": {"view": {"Model ready": {}}}, "looks": 4, "answer": "Better on view."}
        session.get_one(Evaluation, "d00000000002").result = told
    researcher = browse("researcher")
    assert "<h2>Promote</h2>" in researcher.get(path).text
    assert "<h2>Promote</h2>" not in browse("auditor").get(path).text
    form = {"site": site, "task": "view", "model": "b00000000002", "comment": "For the pilot"}
    refused = researcher.post(f"{path}/promote", data=form)
    assert refused.status_code == 409 and "below protocol" in refused.text and "<h1>Evaluation ready" in refused.text
    assert browse("admin").post(f"{path}/promote", data=form).status_code == 403
    with furnished.state.database.session() as session:
        session.get_one(Evaluation, "d00000000002").result = told | {"protocol": "full"}
    page = researcher.post(f"{path}/promote", data=form)
    assert page.url.path == "/champions"
    assert "in use" in page.text and "For the pilot" in page.text and "(practice)" in page.text
    again = researcher.post(f"{path}/promote", data=form)
    assert again.status_code == 409 and "already" in again.text


def test_an_external_set_is_offered_marked_and_never_trained_on(browse, furnished):
    client = browse()
    page = client.get("/cohorts/c10000000000").text
    assert "NIH ChestX-ray14, to evaluate on" in page and "all patients are test" in page
    assert "/evaluations/new?cohort=c10000000000" in page and "Start a run" not in page
    assert "Contaminated" in page and "was trained on RANZCR CLiP" in page
    assert "Contaminated" not in client.get("/cohorts/c00000000002").text
    chosen = client.get("/evaluations/new?cohort=c10000000000").text
    assert re.search(r'value="c10000000000" selected>From elsewhere \(external set\)', chosen)
    for path in ("/runs/new", "/studies/new"):
        assert "From elsewhere" not in client.get(path).text
    assert "external set NIH ChestX-ray14" in client.get("/cohorts").text
    assert "/cohorts/external" not in browse("auditor").get("/cohorts").text


def test_an_external_set_is_added_by_its_form(browse, furnished):
    folder = furnished.state.settings.external_roots[0] / "own"
    folder.mkdir()
    form = {"name": "Next door", "path": str(folder), "layout": "table", "split": "divide", "side": "128"}
    researcher = browse("researcher")
    refused = researcher.post("/cohorts/external", data=form)
    assert refused.status_code == 422 and "public_set" in refused.text
    assert 'value="Next door"' in refused.text and 'value="divide" selected' in refused.text
    page = researcher.post("/cohorts/external", data=form | {"public_set": "Next door"})
    assert page.status_code == 200 and "<h1>Next door</h1>" in page.text and "Build Next door" in page.text
    assert browse("admin").post("/cohorts/external", data=form).status_code == 403
    with furnished.state.database.session() as session:
        for row in (*session.scalars(select(Job).where(Job.title == "Build Next door")),):
            session.execute(Outbox.__table__.delete().where(Outbox.job_id == row.id))
            session.delete(row)
        session.delete(session.scalar(select(Cohort).where(Cohort.name == "Next door")))
