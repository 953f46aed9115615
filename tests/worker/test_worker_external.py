"""An external set through a real worker: a folder becomes a cohort, and an evaluation on it an answer by text."""

import pytest

from server.access import COMMAND_LINE
from server.jobs.states import ENDED
from server.services import evaluations, external
from server.store.models import Cohort, Evaluation, Job, Model
from tests.pipelines.evaluate.folders import digest, tiny_mi2
from tests.pipelines.external.test_external_sets import nih
from tests.worker.conftest import Office

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def ended(office: Office) -> bool:
    with office.db.reading() as session:
        return all(job.state in ENDED for job in session.query(Job))


def test_a_set_is_built_and_evaluated_on(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sets = office.root.parent / "sets"
    nih(sets / "nih", 20)
    tiny_mi2(office.root / "models" / "m", "tiny", "open-weight", 0, ["pleural effusion", "no pleural effusion"])
    settings = office.settings.model_copy(update={"external_roots": [sets]})
    with office.db.session() as session:
        body = external.ExternalBody(name="NIH", path=str(sets / "nih"), side=64, workers=1)
        cohort_id = external.build(session, COMMAND_LINE, settings, body).id
        model = Model(name="tiny", kind="open-weight", encoder="mi2-tiny", spec={}, folder="models/m", state="ready")
        model.digest = digest(office.root / "models" / "m")
        session.add(model)
    office.start()
    office.until(lambda: ended(office))
    with office.db.session() as session:
        cohort = session.get_one(Cohort, cohort_id)
        assert (cohort.state, cohort.public_set, cohort.external) == ("ready", "NIH ChestX-ray14", True)
        values = {"name": "By text", "cohort": cohort_id, "models": [session.query(Model).one().id]}
        values |= {"tasks": ["findings"], "resamples": 100, "minimum_positives": 2, "device": "cpu"}
        id_ = evaluations.create(session, COMMAND_LINE, settings, evaluations.EvaluationBody.model_validate(values)).id
    office.until(lambda: ended(office))
    with office.db.reading() as session:
        row = session.get_one(Evaluation, id_)
        assert row.state == "ready", [job.message for job in session.query(Job)]
        assert row.result["answered_by"] == {"findings": "zero-shot"} and row.result["looks"] == 1
    assert not (office.root / cohort.folder / "looks.jsonl").exists(), "the control plane counts"
