"""Label runs through the API: from a released export, with a model below the weights roots, into a cohort."""

import json

import pytest

from pipelines.build.spec import Spec as BuildSpec
from pipelines.label.spec import Spec as LabelSpec
from server.access import Role
from server.client import Client
from tests.server.house import House, refused


@pytest.fixture
def client(house: House) -> Client:
    return house.client()


@pytest.fixture
def export(house: House, client: Client) -> str:
    export = house.deidentified(client)
    client.release(export.id)
    return export.id


def test_labels_of_a_released_export_enter_a_cohort(house: House, client: Client, export: str) -> None:
    run = client.label("autumn", export)
    row = house.job(run.job or "")
    spec = LabelSpec.model_validate(row.spec)
    assert (row.stage, row.resource_kind, row.folder) == ("label", "label", f"labels/{run.id}")
    assert spec.deid == house.settings.root / f"deid/{export}"
    assert (spec.release_key, spec.sources) == (house.settings.release_public_key, ("site", "rules"))
    assert "not ready" in refused(409, client.build, "c", [export], labels=[run.id])
    result = {"sources": {"rules": {}}, "comparison": [], "practice": False}
    house.finish(run.job or "", result)
    assert client.labels(run.id).result == result
    cohort = client.build("c", [export], labels=[run.id], label_sources=["rules"])
    built = BuildSpec.model_validate(house.job(cohort.job or "").spec)
    assert (built.labels, built.label_sources) == ((house.settings.root / f"labels/{run.id}",), ("rules",))
    assert [item["id"] for item in client.request("GET", "/labels", export=export)["items"]] == [run.id]


def test_only_a_released_export_is_labelled_and_only_by_a_researcher(house: House, client: Client, export: str) -> None:
    waiting = house.deidentified(client, "second")
    assert "not released" in refused(409, client.label, "x", waiting.id)
    refused(403, house.client(Role.PRIVACY_OFFICER).label, "x", export)
    refused(404, client.label, "x", "0" * 12)


def test_a_language_model_lies_below_a_weights_root(house: House, client: Client, export: str) -> None:
    folder = house.folder / "weights" / "llm"
    folder.mkdir()
    run = client.label("m", export, sources=["rules", "model"], model=str(folder), gpus=1)
    job = house.job(run.job or "")
    assert (LabelSpec.model_validate(job.spec).model, job.gpus) == (folder, 1)
    assert str(folder) not in json.dumps(run.spec)
    assert "roots" in refused(422, client.label, "m", export, sources=["model"], model=str(house.folder))
    refused(422, client.label, "m", export, sources=["model"])
    refused(422, client.label, "m", export, sources=["rules"], gpus=1)
    refused(422, client.label, "m", export, prompt="/etc/passwd")


def test_label_runs_of_other_exports_or_twice_are_refused(house: House, client: Client, export: str) -> None:
    other = house.deidentified(client, "second")
    client.release(other.id)
    runs = [client.label(str(n), export) for n in range(2)]
    for run in runs:
        house.finish(run.job or "", {"practice": False})
    assert "another export" in refused(409, client.build, "c", [other.id], labels=[runs[0].id])
    assert "Two label runs" in refused(409, client.build, "c", [export], labels=[r.id for r in runs])
    refused(404, client.build, "c", [export], labels=["0" * 12])
