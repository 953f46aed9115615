"""Similarity maps through the API: queued for released images, answered at once for any point, seen by few."""

import io

import pytest
from PIL import Image

from pipelines.similarity.spec import Spec
from server.access import Role
from server.client import Client
from server.store.models import Audit, Export
from tests.server.house import House, refused
from tests.server.mapped import write_mapped


@pytest.fixture
def client(house: House) -> Client:
    return house.client()


@pytest.fixture
def world(house: House, client: Client) -> dict[str, str]:
    """A released export, a cohort and two models of a run."""
    export = house.deidentified(client)
    client.release(export.id)
    cohort = house.cohort(client, export.id)
    run = house.run_models(client, cohort)
    return {"export": export.id, "cohort": cohort, "models": [m.id for m in client.models(run=run)]}


@pytest.fixture
def mapped(house: House, client: Client, world) -> str:
    """Maps that are ready."""
    row = client.map_similarity("m", world["cohort"], world["models"], places=[{"image": 4, "x": 0.5, "y": 0.25}])
    folder = house.settings.root / house.job(row.job or "").folder
    house.finish(row.job or "", write_mapped(folder))
    return row.id


def test_a_request_becomes_a_job_of_the_stage_and_an_audit_row(house: House, client: Client, world) -> None:
    places = [{"image": 4, "x": 0.5, "y": 0.25}, {"image": 9}]
    row = client.map_similarity("tubes", world["cohort"], world["models"], places=places)
    job = house.job(row.job or "")
    spec = Spec.model_validate(job.spec)
    assert (job.stage, job.resource_kind, job.folder) == ("similarity", "similarity", f"similarities/{row.id}")
    assert spec.cohort == house.settings.root / f"cohorts/{world['cohort']}" and len(spec.models) == 2
    assert [p.image for p in spec.places] == [4, 9] and spec.places[1].x is None
    with house.db.reading() as session:
        last = session.query(Audit).order_by(Audit.id.desc()).first()
        assert (last.action, last.subject) == ("similarity:create", f"similarity:{row.id}")
    assert "not ready" in refused(409, client.maps, row.id, 4, 0.5, 0.5)


def test_a_point_is_answered_at_once(client: Client, mapped: str) -> None:
    found = client.maps(mapped, 4, 0.55, 0.3)
    crops, whole = found.models
    assert [(d.block, d.blocks, d.patch) for d in crops.depths] == [(6, 12, (1, 2)), (12, 12, (0, 1))]
    assert whole.depths[0].patch == (1, 2) and crops.seen == (0.2, 0.0, 0.8, 1.0)
    values = crops.depths[0].values
    assert values[1][2] == 1 and sum(map(sum, values)) == 1 and crops.depths[0].median == 0
    crops, whole = client.maps(mapped, 9, 0.05, 0.9).models
    assert crops.depths == [] and whole.depths[1].patch == (1, 0)
    assert "4, 9" in refused(404, client.maps, mapped, 5, 0.5, 0.5)
    assert "x" in refused(422, client.maps, mapped, 4, 1.5, 0.5)


def test_pictures_are_given_as_they_lie(house: House, mapped: str) -> None:
    http = house.http(Role.RESEARCHER)
    base = f"/api/v1/similarities/{mapped}/images"
    answer = http.get(f"{base}/9.png")
    assert answer.headers["content-type"] == "image/png" and answer.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(answer.content)).size == (100, 80)
    assert http.get(f"{base}/4/panels/0.png").status_code == 200
    for missing in ("5.png", "4/panels/1.png", "9/panels/0.png", "4/panels/-1.png"):
        assert http.get(f"{base}/{missing}").status_code == 404


def test_images_are_seen_by_researchers_and_privacy_officers_while_they_are_released(
    house: House, client: Client, world, mapped: str
) -> None:
    path = f"/api/v1/similarities/{mapped}/images/4.png"
    seen = {role: house.http(role).get(path).status_code for role in Role}
    assert seen == {Role.ADMIN: 403, Role.AUDITOR: 403, Role.PRIVACY_OFFICER: 200, Role.RESEARCHER: 200}
    refused(403, house.client(Role.PRIVACY_OFFICER).map_similarity, "x", world["cohort"], world["models"])
    with house.db.session() as session:
        session.get_one(Export, world["export"]).state = "sent_back"
    assert house.http(Role.RESEARCHER).get(path).status_code == 409
    assert "no longer released" in refused(409, client.maps, mapped, 4, 0.5, 0.5)
    assert "no longer released" in refused(409, client.map_similarity, "x", world["cohort"], world["models"])


def test_what_cannot_be_asked_is_refused(client: Client, world) -> None:
    def ask(**given) -> str:
        return refused(422, client.map_similarity, "x", world["cohort"], given.pop("models", world["models"]), **given)

    assert "x and y" in ask(places=[{"image": 1, "x": 0.5}])
    assert "less than or equal to 1" in ask(places=[{"image": 1, "x": 2, "y": 0}])
    assert "at most 20" in ask(places=[{"image": n} for n in range(21)])
    assert "one GPU" in ask(gpus=2)
    assert "twice" in ask(models=world["models"][:1] * 2)
    ask(models=[])
