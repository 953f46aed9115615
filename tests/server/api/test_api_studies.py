"""Scaling studies through the API: one body becomes runs and judgements, which grow, fail, stop and go on."""

import json
from typing import Any

import pytest

from pipelines.scale.spec import Spec
from server.access import Role
from server.client import Client
from server.jobs import claim, finish, lease
from server.jobs.states import State
from server.store.models import Cohort, Job, Study
from tests.server.house import House, refused
from tests.server.jobs.jobs import HERE

PRETRAIN = {"budget": 8, "batch": 4}


@pytest.fixture
def client(house: House) -> Client:
    return house.client()


@pytest.fixture
def cohort(house: House, client: Client) -> str:
    export = house.deidentified(client, practice=True)
    client.release(export.id)
    id_ = house.cohort(client, export.id)
    with house.db.session() as session:
        row = session.get_one(Cohort, id_)
        row.result, row.practice = {"counts": {"splits": {"train": {"images": 40}}}}, True
    return id_


def start(client: Client, cohort: str, **given: Any):
    values = {"sizes": [10, 20, 1000], "seeds": [0, 1], "everything": False, "pretrain": PRETRAIN} | given
    return client.study("Winter", cohort, ["mi2-tiny"], **values)


def work(house: House, *failing: str, until: int | None = None) -> list[str]:
    """A worker that takes what it can; runs named in `failing` fail. Returns titles in the order taken."""
    done: list[str] = []
    while until is None or len(done) < until:
        with house.db.session() as session:
            taken = claim.claim(session, HERE, "cpu", 60)
        if taken is None:
            break
        job = house.job(taken.job_id)
        done.append(job.title)
        if job.stage == "pretrain":
            write_models(house, job)
        with house.db.session() as session:
            held = lease.hold(session, taken.job_id, taken.token, 60)
            failed = any(name in held.title for name in failing)
            if not failed:
                finish.apply(session, held, {"answer": str(len(held.spec.get("models", [])))}, house.settings.root)
            lease.end(session, held, State.FAILED if failed else State.SUCCEEDED, "Ended.")
    return done


def write_models(house: House, job: Job) -> None:
    folder = house.settings.root / job.folder / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(json.dumps({"weights_sha256": "d" * 64}))


def states(client: Client, study: str) -> list[tuple[int, int, str]]:
    return [(r.samples, r.seed, r.state) for r in client.study_now(study).runs]


def test_a_study_becomes_runs_and_a_judgement_behind_each_size(house: House, client: Client, cohort: str) -> None:
    study = start(client, cohort, baselines=[])
    assert study.practice and study.state == "waiting"
    assert states(client, study.id) == [(n, s, "waiting") for n in (10, 20) for s in (0, 1)]
    titles = work(house)
    runs = [f"Pretrain mi2-tiny-{n}-s{s} (Winter)" for n in (10, 20) for s in (0, 1)]
    assert titles == [*runs[:2], "Judge Winter", *runs[2:], "Judge Winter"]
    ready = client.study_now(study.id)
    assert (ready.state, ready.result["answer"]) == ("ready", "4")
    spec = Spec.model_validate(house.job(ready.job or "").spec)
    assert spec.models == tuple(house.settings.root / f"runs/{r.id}/model" for r in ready.runs)
    assert spec.store == house.settings.root / f"studies/{study.id}/store"


def test_a_run_that_failed_leaves_the_rest_and_can_be_resumed(house: House, client: Client, cohort: str) -> None:
    study = start(client, cohort)
    work(house, "mi2-tiny-10-s1")
    assert [r.state for r in client.study_now(study.id).runs] == ["ready", "failed", "ready", "ready"]
    assert client.study_now(study.id).result["answer"] == "3"
    client.request("POST", f"/studies/{study.id}/resume")
    assert work(house) == ["Pretrain mi2-tiny-10-s1 (Winter)", "Judge Winter"]
    assert client.study_now(study.id).result["answer"] == "4"
    assert "No run of the study has failed" in refused(409, client.request, "POST", f"/studies/{study.id}/resume")


def test_a_study_of_which_nothing_stands_is_not_judged(house: House, client: Client, cohort: str) -> None:
    study = start(client, cohort, sizes=[10])
    assert len(work(house, "Pretrain")) == 2
    row = client.study_now(study.id)
    assert row.state == "failed"
    assert client.job(row.job or "").message.startswith("Nothing that it was to work on has finished")
    assert "No run of the study has finished" in refused(409, client.request, "POST", f"/studies/{study.id}/judge")


def test_what_stands_can_be_judged_at_any_time(house: House, client: Client, cohort: str) -> None:
    study = start(client, cohort)
    work(house, until=1)
    client.request("POST", f"/studies/{study.id}/judge")
    titles = work(house)
    assert titles.count("Judge Winter") == 3 and client.study_now(study.id).result["answer"] == "4"


def test_a_size_added_later_reuses_what_stands(house: House, client: Client, cohort: str) -> None:
    study = start(client, cohort)
    work(house)
    before = {r.id for r in client.study_now(study.id).runs}
    more = client.request("POST", f"/studies/{study.id}/extend", {"sizes": [30, 20]})
    assert before < {r["id"] for r in more["runs"]} and len(more["runs"]) == 6
    assert len(work(house)) == 3
    assert client.study_now(study.id).result["answer"] == "6"
    assert "already" in refused(409, client.request, "POST", f"/studies/{study.id}/extend", {"sizes": [30]})
    refused(422, client.request, "POST", f"/studies/{study.id}/extend", {"sizes": [1]})
    other = start(client, cohort, sizes=[10, 30])
    assert {r.id for r in other.runs} < {r["id"] for r in more["runs"]}, "finished runs of another study are taken"
    assert work(house) == ["Judge Winter"]


def test_canceling_a_study_cancels_what_is_queued(house: House, client: Client, cohort: str) -> None:
    study = start(client, cohort)
    work(house, until=1)
    client.request("POST", f"/studies/{study.id}/cancel")
    assert work(house) == []
    jobs = [client.job(r.job or "").state for r in client.study_now(study.id).runs]
    assert jobs == ["succeeded", "canceled", "canceled", "canceled"]
    assert "Nothing of the study" in refused(409, client.request, "POST", f"/studies/{study.id}/cancel")
    client.request("POST", f"/studies/{study.id}/resume")
    assert len(work(house)) == 4


def test_a_study_is_checked_whole_before_anything_is_queued(house: House, client: Client, cohort: str) -> None:
    before = len(client.jobs())
    assert "belongs to the study" in refused(422, start, client, cohort, pretrain=PRETRAIN | {"seed": 3})
    refused(422, start, client, cohort, pretrain={"budget": 8})
    refused(422, start, client, cohort, pretrain=PRETRAIN | {"supervision": "/etc/passwd"})
    assert "every size" in refused(422, start, client, cohort, sizes=[1000])
    assert "open weights" in refused(422, client.study, "x", cohort, ["mi2"], sizes=[10], pretrain=PRETRAIN)
    refused(404, start, client, "0" * 12)
    refused(403, start, house.client(Role.PRIVACY_OFFICER), cohort)
    assert len(client.jobs()) == before


def test_the_hours_of_what_is_left_come_from_runs_that_finished(house: House, client: Client, cohort: str) -> None:
    study = start(client, cohort)
    assert study.left == [{"encoder": "mi2-tiny", "gpus": 0, "left": 4, "cost": None}]
    work(house, until=1)
    with house.db.session() as session:
        for run in session.get_one(Study, study.id).runs:
            if run.state == "ready":
                run.result = {"speed": {"device": "CPU", "gpus": 0, "images_per_second": 0.5}}
    (left,) = client.study_now(study.id).left
    assert (left["left"], left["cost"]["runs"], left["cost"]["gpu_hours"]) == (3, 3, None)
    assert left["cost"]["hours"] == pytest.approx(3 * 8 / 0.5 / 3600)
    other = start(client, cohort, sizes=[30], gpus=1)
    assert other.left[0]["cost"] is None, "a run on the CPU says nothing of one on a GPU"
