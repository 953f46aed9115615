"""Bodies made from specs: no stage can open a way for a path or an internal field into the API."""

import importlib
import json
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import ValidationError

from pipelines.contract import STAGES, Ref, Spec
from pipelines.evaluate.spec import Spec as EvaluateSpec
from pipelines.practice.spec import Spec as PracticeSpec
from server.access import Caller, Role
from server.errors import Forbidden, Invalid
from server.services.cohorts import CohortBody
from server.services.exports import DeidentifyBody
from server.services.runs import RunBody
from server.specs import Body, Named, below, body_model, resolve
from tests.server.house import House

ID = "0123456789ab"
INTERNAL = {
    "secret", "vault_key", "issuer", "opt_out", "aliases", "report_columns", "release_key", "key", "phrases", "prompt",
}  # fmt: skip


def offered() -> dict[str, type[Spec]]:
    specs = {s: importlib.import_module(p + ".spec").Spec for s, p in STAGES.items()}
    return {s: spec for s, spec in specs.items() if spec is not PracticeSpec}


@pytest.mark.parametrize("stage", offered())
def test_bodies_hold_neither_paths_nor_internal_fields(stage):
    schema = body_model(offered()[stage]).model_json_schema()
    assert '"format": "path"' not in json.dumps(schema)
    assert not INTERNAL & set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_what_a_spec_has_a_default_for_may_be_left_out():
    body = body_model(EvaluateSpec)(name="first", cohort=ID, models=[ID])
    assert body.prompts == {} and body.reports == EvaluateSpec.model_fields["reports"].default


def test_a_spec_with_a_bare_path_is_refused_at_the_start():
    with pytest.raises(TypeError, match="'out'"):
        body_model(PracticeSpec)


def test_references_become_ids():
    good = {"name": "c", "deid": [ID]}
    assert CohortBody(**good).deid == (ID,)
    for wrong in (
        {"deid": []},
        {"deid": ["/data/deid"]},
        {"deid": ID},
        {"release_key": "x"},
        {"sides": 5},
        {"side": 1},
    ):
        with pytest.raises(ValidationError):
            CohortBody(**(good | wrong))
    run = {"name": "r", "cohort": ID, "encoder": "mi2-tiny", "budget": 8, "batch": 2}
    assert RunBody(**run).start is None
    with pytest.raises(ValidationError):
        RunBody(**run, start="/models/x")
    with pytest.raises(ValidationError):
        RunBody(**run, gpus=-1)


class Sample(Spec):
    cohort: Annotated[Path | None, Ref("cohort")] = None
    preset: str = "basic"
    views: tuple[str, ...] = ()
    workers: int = 0


def test_a_text_field_cannot_carry_a_path(house: House):
    caller = Caller("x", frozenset(Role))
    model = body_model(Sample)
    with house.db.reading() as session:
        for wrong in ({"preset": "/etc/x.toml"}, {"preset": "../x"}, {"views": ["AP", "~/x"]}, {"preset": "a\\b"}):
            with pytest.raises(Invalid, match="may not be a path"):
                resolve(session, Sample, model(name="n", **wrong), caller, house.settings)
        assert resolve(session, Sample, model(name="n", views=["AP"]), caller, house.settings)["views"] == ["AP"]


def test_workers_default_to_the_setting(tmp_path: Path):
    house = House(tmp_path, stage_workers=3)
    with house.db.reading() as session:
        for given, expected in (({}, 3), ({"workers": 1}, 1), ({"workers": 0}, 0)):
            body = body_model(Sample)(name="n", **given)
            values = resolve(session, Sample, body, Caller("x"), house.settings)
            assert values["workers"] == expected
    house.close()


def test_a_reference_asks_for_the_role_as_well(house: House):
    with house.db.reading() as session, pytest.raises(Forbidden):
        body = body_model(Sample)(name="n", cohort=ID)
        resolve(session, Sample, body, Caller("nobody", user_id="u"), house.settings)


def test_the_body_of_deidentify_leaves_the_export_to_the_address():
    assert issubclass(DeidentifyBody, Body)
    assert not issubclass(DeidentifyBody, Named)
    assert set(DeidentifyBody.model_fields) == {"review", "workers", "item_seconds"}


def test_without_roots_nothing_may_be_named():
    with pytest.raises(Forbidden, match="INTRAMURAL_EXPORT_ROOTS"):
        below("/tmp", [], "export")
    with pytest.raises(Invalid):
        below("/tmp/\0", [Path("/tmp")], "export")
