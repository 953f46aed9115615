"""What the end of a job does to its resource."""

import json
from pathlib import Path

import pytest

from server.jobs import claim, finish, lease, service
from server.jobs.states import State
from server.store.db import Database
from server.store.models import Base, Cohort, Evaluation, Export, Job, Model, Run, Site
from tests.server.jobs.jobs import HERE, queue


@pytest.fixture
def database(tmp_path: Path):
    db = Database(f"sqlite:///{tmp_path / 'jobs.db'}")
    Base.metadata.create_all(db.engine)
    yield db
    db.engine.dispose()


def add(db: Database, thing) -> str:
    with db.session() as session:
        session.add(thing)
        session.flush()
        return thing.id


def export(db: Database) -> Export:
    site = add(db, Site(name="A site"))
    return Export(name="An export", site_id=site, path="/exports/a", policy="basic")


def perform(db: Database, tmp_path: Path, stage: str, kind: str, thing: str, result: dict) -> None:
    """The job's life as a supervisor leads it."""
    job_id = queue(db, stage=stage, resource_kind=kind, resource_id=thing, folder=f"{kind}s/{thing}")
    with db.session() as session:
        taken = claim.claim(session, HERE, "cpu", 60)
    with db.session() as session:
        job = lease.hold(session, job_id, taken.token, 60)
        finish.apply(session, job, result, tmp_path)
        lease.end(session, job, State.SUCCEEDED, "Finished.")


def read(db: Database, kind: type, thing: str):
    with db.reading() as session:
        return session.get_one(kind, thing)


def test_a_deidentified_export_waits_for_release(database: Database, tmp_path: Path) -> None:
    thing = add(database, export(database))
    perform(database, tmp_path, "deidentify", "export", thing, {"practice": True, "counts": {"kept": 3}})
    row = read(database, Export, thing)
    assert (row.state, row.practice, row.folder) == ("waiting", True, f"exports/{thing}")
    assert row.result["counts"] == {"kept": 3}


def test_a_built_cohort_is_ready_with_its_digest(database: Database, tmp_path: Path) -> None:
    thing = add(database, Cohort(name="A cohort", spec={}, folder="cohorts/x"))
    perform(database, tmp_path, "build", "cohort", thing, {"digest": "d" * 64, "practice": False})
    row = read(database, Cohort, thing)
    assert (row.state, row.digest, row.practice) == ("ready", "d" * 64, False)


def test_a_finished_run_registers_its_model_and_the_untrained_start(database: Database, tmp_path: Path) -> None:
    cohort = add(database, Cohort(name="A cohort", spec={}, folder="cohorts/x"))
    values = {"spec": {"seed": 3}, "cohort_id": cohort, "encoder": "mi2-tiny", "practice": True, "created_by": "me"}
    thing = add(database, Run(name="A run", folder="runs/x", **values))
    for name in ("model", "start"):
        folder = tmp_path / "runs" / thing / name
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(json.dumps({"weights_sha256": name * 3}))
    perform(database, tmp_path, "pretrain", "run", thing, {"steps": 7})
    assert read(database, Run, thing).state == "ready"
    with database.reading() as session:
        models = {m.kind: m for m in session.query(Model)}
    assert set(models) == {"run", "untrained"}
    made, start = models["run"], models["untrained"]
    assert (made.folder, made.digest, made.run_id) == (f"runs/{thing}/model", "modelmodelmodel", thing)
    assert (start.folder, start.digest, start.encoder) == (f"runs/{thing}/start", "startstartstart", "mi2-tiny")
    assert {(m.state, m.practice, m.created_by) for m in models.values()} == {("ready", True, "me")}
    assert made.name == "A run" != start.name


@pytest.mark.parametrize("inner", ["", "/model"])
def test_imported_weights_are_ready_where_their_card_lies(database: Database, tmp_path: Path, inner: str) -> None:
    thing = add(database, Model(name="RAD-DINO", spec={}, folder="x", kind="open-weight", encoder="rad-dino"))
    folder = tmp_path / f"models/{thing}{inner}"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"weights_sha256": "w" * 64}))
    perform(database, tmp_path, "import", "model", thing, {})
    row = read(database, Model, thing)
    assert (row.state, row.digest, row.folder) == ("ready", "w" * 64, f"models/{thing}{inner}")


def test_the_resource_follows_its_job_through_failure_and_resume(database: Database) -> None:
    cohort = add(database, Cohort(name="A cohort", spec={}, folder="cohorts/x"))
    thing = add(database, Evaluation(name="E", spec={}, folder="evaluations/x", cohort_id=cohort))
    job_id = queue(database, resource_id=thing)
    with database.session() as session:
        taken = claim.claim(session, HERE, "cpu", 60)
    assert read(database, Evaluation, thing).state == "working"
    with database.session() as session:
        job = lease.hold(session, job_id, taken.token, 60)
        lease.end(session, job, State.FAILED, "The cohort has no test patients.")
    assert read(database, Evaluation, thing).state == "failed"
    with database.session() as session:
        service.resume(session, session.get_one(Job, job_id))
    assert read(database, Evaluation, thing).state == "waiting"


def test_a_canceled_export_can_be_resumed_from_registered(database: Database) -> None:
    thing = add(database, export(database))
    job_id = queue(database, stage="deidentify", resource_kind="export", resource_id=thing)
    with database.session() as session:
        service.cancel(session, session.get_one(Job, job_id))
    assert read(database, Export, thing).state == "failed"
    with database.session() as session:
        service.resume(session, session.get_one(Job, job_id))
    assert read(database, Export, thing).state == "registered"
