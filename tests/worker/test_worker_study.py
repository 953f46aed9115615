"""A scaling study through a real worker: runs, then a judgement of what stands, with its report."""

import pytest

from server.access import COMMAND_LINE
from server.jobs.states import ENDED
from server.services import studies
from server.store.models import Cohort, Job, Study
from tests.cohorts import make_cohort
from tests.worker.conftest import Office

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SPEC = {"encoders": ["rad-dino-tiny"], "sizes": [20, 40], "everything": False, "seeds": [0], "probe_seeds": [0]}
SPEC |= {"minimum_positives": 4, "resamples": 200, "device": "cpu", "pretrain": {"budget": 8, "batch": 4}}


def ended(office: Office) -> bool:
    with office.db.reading() as session:
        return all(job.state in ENDED for job in session.query(Job))


def test_a_study_ends_with_an_answer_and_grows(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_cohort(office.root / "cohorts" / "c", patients=70, side=56)
    with office.db.session() as session:
        cohort = Cohort(name="A cohort", spec={}, folder="cohorts/c", state="ready", practice=True)
        cohort.result = {"counts": {"splits": {"train": {"images": 100}}}}
        session.add(cohort)
        session.flush()
        body = studies.StudyBody.model_validate(SPEC | {"name": "Winter", "cohort": cohort.id})
        id_ = studies.create(session, COMMAND_LINE, office.settings, body).id
    office.start()
    office.until(lambda: ended(office))
    with office.db.reading() as session:
        study = session.get_one(Study, id_)
        jobs = session.query(Job).order_by(Job.started_at).all()
        assert [(j.stage, j.state, j.message) for j in jobs] == [
            (stage, "succeeded", "Finished.") for stage in ("pretrain", "scale", "pretrain", "scale")
        ]
        assert (study.state, study.result["groups"][0]["sizes"]) == ("ready", [20, 40])
        assert (study.practice, study.result["protocol"], study.result["looks"]) == (True, "below", 2)
        assert "Winter" not in (office.root / study.folder / "report.html").read_text()
        assert all(run.result["speed"]["images_per_second"] > 0 for run in study.runs)
        assert studies.costs(session, studies.cells(session, study)) == []
    features = {path: path.stat().st_mtime_ns for path in (office.root / "studies" / id_ / "store").rglob("*.npy")}
    assert features
    with office.db.session() as session:
        more = studies.StudyMore(sizes=(30,))
        studies.extend(session, COMMAND_LINE, office.settings, session.get_one(Study, id_), more)
    office.until(lambda: ended(office))
    with office.db.reading() as session:
        study = session.get_one(Study, id_)
        assert study.result["groups"][0]["sizes"] == [20, 30, 40] and len(study.runs) == 3
    assert {path: path.stat().st_mtime_ns for path in features} == features, "features that stood were made again"
