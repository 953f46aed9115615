"""A control plane with something of everything in it, and a browser's client signed in as whoever a test asks for."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from pipelines.tables import REPORTS, write_table
from server.access import COMMAND_LINE, Role
from server.app import create_app
from server.services import people, sites
from server.settings import Settings
from server.store.models import (
    Cohort,
    Evaluation,
    Export,
    Job,
    JobEvent,
    LabelRun,
    Model,
    Review,
    Run,
    Similarity,
    Study,
    now,
)
from tests.server.mapped import write_mapped

PASSWORD = "a long enough password"
COUNTS = {
    "files": 1234, "images_written": 1200, "patients": 300, "studies": 400, "reports": 390, "masks": 12,
    "duplicates": 3, "opted_out": 2, "boxes": 40, "quarantined": {"unreadable": 7, "conflict": 2},
}  # fmt: skip


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory):
    """An application whose database holds every kind of resource in several states."""
    data = tmp_path_factory.mktemp("web")
    (data / "exports").mkdir()
    (data / "sets").mkdir()
    app = create_app(Settings(data=data / "data", export_roots=[data / "exports"], external_roots=[data / "sets"]))
    with app.state.database.session() as session:
        for role in Role:
            people.create_user(session, COMMAND_LINE, name=role.value, roles=[role], password=PASSWORD)
        people.create_user(session, COMMAND_LINE, name="everyone", roles=list(Role), password=PASSWORD)
        site = sites.create(session, COMMAND_LINE, app.state.settings, name="North campus")
        _furnish(session, site, data / "data")
    return app


def _furnish(session, site, root: Path) -> None:
    common = {"site_id": site.id, "path": "/exports/x", "policy": "basic", "purpose": "Quality", "approval": "EK 12"}
    result = {"counts": COUNTS, "policy": "ab" * 32, "digest": "cd" * 32}
    for number, state in enumerate(("registered", "working", "waiting", "released", "sent_back", "failed")):
        done = state in ("waiting", "released", "sent_back")
        export = Export(id=f"e{number:011d}", name=f"Export {state}", state=state, **common)
        export.path, export.result, export.folder = f"/exports/{state}", result if done else None, f"deid/{state}"
        session.add(export)
        if done:
            (root / "deid" / state / "preview").mkdir(parents=True)
            row = {"accession": "AAAA", "patient": "P1", "study": "2.25.1", "date": None, "text": "Lungs <b>clear</b>."}
            write_table(root / "deid" / state / "reports.parquet", [row], REPORTS)
            (root / "deid" / state / "preview" / "one.png").write_bytes(b"\x89PNG")
    session.flush()
    session.add(
        Review(export_id="e00000000003", reviewer="privacy_officer", verdict="released", digest="", policy_digest="")
    )
    _furnish_labels(session)
    flow = [{"step": "in the exports", "images": 1200, "studies": 400, "patients": 300}]
    released = session.get(Export, "e00000000003")
    for number, state in enumerate(("waiting", "working", "ready", "failed")):
        end = {"state": state, "practice": state == "ready"}
        cohort = Cohort(id=f"c{number:011d}", name=f"Cohort {state}", spec={"side": 518}, folder="cohorts/x", **end)
        cohort.exports, cohort.result = [released], {"flow": flow} if state == "ready" else None
        cohort.digest = "ef" * 32 if state == "ready" else None
        session.add(cohort)
    external = Cohort(id="c10000000000", name="From elsewhere", folder="cohorts/y", state="ready")
    external.spec = {"side": 518, "split": "test", "public_set": "", "layout": "auto"}
    flow_of_set = [{"step": "In the folder", "images": 9, "studies": 9}]
    external.result, external.digest = {"flow": flow_of_set, "public_set": "NIH ChestX-ray14"}, "12" * 32
    session.add(external)
    session.flush()
    for number, state in enumerate(("waiting", "working", "ready", "failed")):
        end = {"state": state, "practice": state == "ready"}
        run = Run(id=f"a{number:011d}", name=f"Run {state}", cohort_id="c00000000002", encoder="mi2-tiny", **end)
        run.spec, run.folder = {"budget": 6400, "batch": 16, "samples": None, "seed": 0}, f"runs/{state}"
        run.result = {"samples": 900, "studies": 300, "patients": 200, "final_loss": 1.25} if state == "ready" else None
        session.add(run)
        session.flush()
        card = {"samples": 900, "cohort": "ef" * 32, "budget": 6400, "seen": ["RANZCR CLiP"]}
        model = Model(id=f"b{number:011d}", name=f"Model {state}", kind="run", encoder="mi2-tiny", run_id=run.id, **end)
        model.spec, model.folder, model.result = {}, "runs/x/model", card if state == "ready" else None
        session.add(model)
        spec = {"models": ["b00000000002"], "baselines": [], "cohort": "c00000000002"}
        evaluation = Evaluation(id=f"d{number:011d}", name=f"Evaluation {state}", cohort_id="c00000000002", **end)
        evaluation.spec, evaluation.folder = spec, f"evaluations/{state}"
        evaluation.result = {"answer": "Better on view: +0.120 [0.050, 0.200]."} if state == "ready" else None
        session.add(evaluation)
    (root / "runs" / "working" / "pictures").mkdir(parents=True)
    for step in (0, 40, 80):
        (root / "runs" / "working" / "pictures" / f"step-{step:08d}.png").write_bytes(b"\x89PNG")
    (root / "evaluations" / "ready").mkdir(parents=True)
    (root / "evaluations" / "ready" / "report.html").write_text("<p style='color:red'>The answer</p>")
    (root / "evaluations" / "ready" / "report.pdf").write_bytes(b"%PDF-1.4")
    _furnish_similarities(session, root)
    _furnish_studies(session, root)
    _furnish_jobs(session)


def _furnish_similarities(session, root: Path) -> None:
    for number, state in enumerate(("waiting", "working", "ready", "failed")):
        row = Similarity(id=f"6{number:011d}", name=f"Maps {state}", cohort_id="c00000000002", state=state)
        row.spec, row.folder = {"models": ["b00000000002"], "places": []}, f"similarities/{state}"
        row.practice, row.result = state == "ready", None
        if state == "ready":
            row.result = write_mapped(root / row.folder)
        session.add(row)


def _furnish_studies(session, root: Path) -> None:
    def curve(task: str, break_even: int | None) -> dict:
        points = [
            {"samples": n, "value": v, "difference": v - 0.6, "difference_low": v - 0.65, "difference_high": v - 0.55}
            for n, v in ((900, 0.61), (1800, 0.72))
        ]
        return {"encoder": "mi2-tiny", "task": task, "break_even": break_even, "baseline": "start", "points": points}

    answer = "mi2-tiny: from 1,800 samples on it beats start on the view."
    result = {"answer": answer, "curves": [curve("view", 1800), curve("segmentation", None) | {"metric": "dice"}]}
    spec = {"pretrain": {"budget": 6400, "batch": 16}, "sizes": [900, 1800]}
    for number, state in enumerate(("waiting", "working", "ready", "failed")):
        end = {"state": state, "practice": state == "ready", "cohort_id": "c00000000002", "folder": f"studies/{state}"}
        study = Study(id=f"5{number:011d}", name=f"Study {state}", spec=spec, **end)
        study.runs = list(session.query(Run))
        study.result = result if state == "ready" else None
        session.add(study)
    for number, run in enumerate(session.query(Run).order_by(Run.id)):
        run.spec = run.spec | {"samples": 900 * (1 + number // 2), "seed": number % 2}
    session.flush()
    (root / "studies" / "ready").mkdir(parents=True)
    (root / "studies" / "ready" / "report.html").write_text("<p>From 1,800 samples on</p>")


def _furnish_labels(session) -> None:
    counts = {"present": 3, "absent": 4, "uncertain": 1, "blank": 2}
    read = {"read": 10, "not_read": {"language": 2}, "labels": {"Pleural Effusion": counts}}
    compared = {"label": "Pleural Effusion", "first": "site", "second": "rules", "studies": 10, "spoken": 8}
    compared |= {"agreement": 0.875, "kappa": 0.75, "first_present": 3, "second_present": 3, "both_present": 2}
    result = {"sources": {"site": read, "rules": read}, "versions": {"rules": "1-abc"}}
    result["comparison"] = [compared | {"kappa_present": None}]
    for number, state in enumerate(("waiting", "working", "ready", "failed")):
        run = LabelRun(id=f"1{number:011d}", name=f"Labels {state}", state=state, export_id="e00000000003")
        run.spec, run.folder = {"sources": ["site", "rules"]}, "labels/x"
        run.result = result if state == "ready" else None
        session.add(run)
    session.flush()


def _furnish_jobs(session) -> None:
    ids = {"export": "e00000000001", "cohort": "c00000000001", "run": "a00000000001", "evaluation": "d00000000001"}
    for number, state in enumerate(("queued", "running", "canceling", "succeeded", "failed", "canceled")):
        kind = list(ids)[number % 4]
        job = Job(id=f"f{number:011d}", stage="pretrain", resource_kind=kind, resource_id=ids[kind], state=state)
        job.title, job.spec, job.folder, job.attempt = f"Job {state}", {}, "x", 1
        job.started_at, job.finished_at = now() - timedelta(hours=2), now() if state == "succeeded" else None
        job.progress = {"done": 3, "total": 4, "what": "images"}
        session.add(job)
        session.flush()
        for step in range(1, 3001, 7):
            data = {"step": step, "values": {"loss": 3.0 / step, "learning_rate": 1e-4}}
            session.add(JobEvent(job_id=job.id, time=now(), kind="metric", data=data))
        seen = {"step": 3000, "values": {"rankme": 31.5}}
        session.add(JobEvent(job_id=job.id, time=now(), kind="metric", data=seen))
        gone_back = {"level": "warning", "message": "Went back to step 22."}
        session.add(JobEvent(job_id=job.id, time=now(), kind="log", data=gone_back))
        session.add(JobEvent(job_id=job.id, time=now(), kind="log", data={"level": "info", "message": "Hello."}))


@pytest.fixture
def browse(furnished) -> Callable[[str], TestClient]:
    """A client that is signed in by the form, as `role`'s user (or `everyone`)."""

    def sign_in(name: str = "everyone") -> TestClient:
        url = furnished.state.settings.url
        client = TestClient(furnished, base_url=url, headers={"Accept": "text/html", "Origin": url})
        answer = client.post("/signin", data={"name": name, "password": PASSWORD}, follow_redirects=False)
        assert answer.status_code == 303, json.dumps(answer.text)[:300]
        return client

    return sign_in
