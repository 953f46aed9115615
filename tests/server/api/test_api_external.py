"""External sets through the API: below their own roots only, to evaluate on and never to train on."""

import json
from pathlib import Path

import pytest

from pipelines.contract import Outcome, run_stage
from pipelines.external.names import NIH, RANZCR
from pipelines.external.spec import Spec as ExternalSpec
from server.access import Role
from server.client import Client
from server.services import champions, external
from server.store.models import Audit, Cohort, Model
from tests.pipelines.external.test_external_sets import nih
from tests.server.house import House, refused


@pytest.fixture
def sets(house: House) -> Path:
    """An external root."""
    folder = house.folder / "sets"
    (folder / "nih").mkdir(parents=True)
    house.settings.external_roots.append(folder)
    return folder


@pytest.fixture
def client(house: House) -> Client:
    return house.client(Role.RESEARCHER)


def ready(house: House, client: Client, sets: Path, public_set: str = NIH) -> str:
    made = client.external_set("NIH", sets / "nih")
    house.finish(made.job or "", {"digest": "a" * 64, "practice": False, "public_set": public_set})
    return made.id


def test_a_folder_becomes_a_cohort_that_says_what_it_is(house: House, client: Client, sets: Path) -> None:
    made = client.external_set("NIH", sets / "nih", layout="chestx-ray14", split="divide", side=64)
    job = house.job(made.job or "")
    spec = ExternalSpec.model_validate(job.spec)
    assert (job.stage, job.resource_kind, job.folder) == ("external", "cohort", f"cohorts/{made.id}")
    assert (spec.folder, spec.layout, spec.split, spec.side, spec.name) == (
        sets / "nih", "chestx-ray14", "divide", 64, "",
    )  # fmt: skip
    assert made.external and made.public_set is None and str(sets) not in json.dumps(made.model_dump(mode="json"))
    nih(sets / "nih", 4)
    assert run_stage("external", job.spec, house.settings.root / job.folder) is Outcome.DONE
    house.finish(job.id, json.loads((house.settings.root / job.folder / "result.json").read_text()))
    found = client.cohort(made.id)
    assert (found.state, found.public_set, found.practice) == ("ready", NIH, False)
    (listed,) = client.request("GET", "/cohorts")["items"]
    assert (listed["id"], listed["external"], listed["public_set"]) == (made.id, True, NIH)
    with house.db.reading() as session:
        (row,) = session.query(Audit).filter_by(action="cohort:external")
        assert row.subject == f"cohort:{made.id}" and str(sets) not in json.dumps(row.detail)


def test_only_folders_of_external_roots_that_hold_no_export(house: House, client: Client, sets: Path) -> None:
    export = house.export_folder()
    (sets / "link").symlink_to(export)
    before = house.audit_rows()
    for folder in (house.folder, export, sets / "link", sets / "none"):
        assert "external roots" in refused(422, client.external_set, "x", folder)
    house.settings.external_roots.extend((house.folder, export))
    for folder in (house.folder, export, sets / "link"):
        assert "PACS exports lie in this folder" in refused(422, client.external_set, "x", folder)
    assert house.audit_rows() == before


def test_without_roots_or_role_or_name_it_is_refused(house: House, client: Client, tmp_path: Path) -> None:
    assert "INTRAMURAL_EXTERNAL_ROOTS" in refused(403, client.external_set, "x", tmp_path)
    house.settings.external_roots.append(tmp_path / "weights")
    (tmp_path / "weights" / "own").mkdir()
    for role in (Role.ADMIN, Role.PRIVACY_OFFICER, Role.AUDITOR):
        refused(403, house.client(role).external_set, "x", tmp_path / "weights" / "own")
    assert "public_set" in refused(422, client.external_set, "x", tmp_path / "weights" / "own", layout="table")
    for wrong in ({"folder": "/etc"}, {"layout": "../x"}, {"side": 1}):
        refused(422, client.external_set, "x", tmp_path / "weights" / "own", **wrong)


def test_it_is_evaluated_on_and_never_trained_on(house: House, sets: Path) -> None:
    everyone = house.client()
    id_ = ready(house, everyone, sets)
    training = {"budget": 8, "batch": 4}
    assert "to evaluate on" in refused(409, everyone.pretrain, "r", id_, "mi2-tiny", **training)
    assert "to evaluate on" in refused(409, everyone.study, "s", id_, ["mi2-tiny"], sizes=[8], pretrain=training)
    with house.db.session() as session:
        model = Model(name="m", kind="open-weight", encoder="mi2", spec={}, folder="m", state="ready", digest="d" * 64)
        session.add(model)
        session.flush()
        model_id = model.id
    evaluation = everyone.evaluate("e", id_, [model_id], methods=["zero-shot"])
    spec = house.job(evaluation.job or "").spec
    assert spec["cohort"] == str(house.settings.root / f"cohorts/{id_}") and spec["looks"] == 1
    other = ready(house, everyone, sets)  # the same set again, say at another size: the same test patients
    with house.db.reading() as session:
        assert champions.looks(session, session.get_one(Cohort, other)) == 1


def test_models_that_saw_the_set_are_named(house: House, client: Client, sets: Path) -> None:
    id_ = ready(house, client, sets)
    with house.db.session() as session:
        for name, seen in (("saw", [NIH, "MIMIC-CXR"]), ("derived", [RANZCR]), ("clean", ["MIMIC-CXR"])):
            values = {"kind": "open-weight", "encoder": "x", "spec": {}, "folder": name, "state": "ready"}
            session.add(Model(name=name, result={"seen": seen}, **values))
    with house.db.reading() as session:
        found = external.contaminated(session, session.get_one(Cohort, id_))
        assert [(m.name, sets_) for m, sets_ in found] == [("derived", [RANZCR]), ("saw", [NIH])]
        assert external.contaminated(session, Cohort(name="own", spec={})) == []
