"""/studies: scaling studies"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, JobOut, Limit, Page, StudyOut, StudyRunOut
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import common, studies
from server.services.studies import StudyBody, StudyMore
from server.store.models import Study

router = APIRouter(prefix="/studies", tags=["studies"])


def _out(session: Session, study: Study) -> StudyOut:
    job = common.latest_job(session, "study", study.id)
    cells = studies.cells(session, study)
    runs = [
        StudyRunOut(
            id=cell.run.id,
            name=cell.run.name,
            encoder=cell.run.encoder,
            samples=cell.run.spec["samples"],
            seed=cell.run.spec["seed"],
            state=cell.run.state,
            job=cell.job.id if cell.job else None,
        )
        for cell in cells
    ]
    values = {name: getattr(study, name) for name in StudyOut.model_fields if name not in ("runs", "left", "job")}
    left = studies.costs(session, cells)
    return StudyOut(**values, runs=runs, left=left, job=job.id if job else None)


@router.post("", status_code=202, response_model=StudyOut)
def create_study(
    body: StudyBody,  # type: ignore[valid-type] # made from the study's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.STUDY_CREATE),
) -> JSONResponse:
    """Queue the runs of a scaling study, and a judgement of what stands after every size."""
    return once(body, lambda: _out(session, studies.create(session, caller, settings, body)), 202)


@router.get("", dependencies=[allow(Permission.STUDY_READ)])
def list_studies(
    session: SessionDep, state: str | None = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[StudyOut]:
    return Page[StudyOut].of(common.page(session, Study, after, limit, state=state), lambda s: _out(session, s))


@router.get("/{study_id}", dependencies=[allow(Permission.STUDY_READ)])
def get_study(study_id: str, session: SessionDep) -> StudyOut:
    return _out(session, common.get(session, Study, study_id))


@router.post("/{study_id}/extend", status_code=202)
def extend_study(
    study_id: str,
    more: StudyMore,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(Permission.STUDY_CREATE),
) -> StudyOut:
    """Add sizes or seeds; runs that stand are not made again."""
    study = common.get(session, Study, study_id)
    return _out(session, studies.extend(session, caller, settings, study, more))


@router.post("/{study_id}/judge", status_code=202)
def judge_study(
    study_id: str, session: SessionDep, settings: SettingsDep, caller: Caller = allow(Permission.STUDY_CREATE)
) -> JobOut:
    """Judge now what stands."""
    return JobOut.model_validate(studies.judge(session, caller, settings, common.get(session, Study, study_id)))


@router.post("/{study_id}/cancel")
def cancel_study(study_id: str, session: SessionDep, caller: Caller = allow(Permission.STUDY_CREATE)) -> StudyOut:
    """Cancel what is queued; what is running saves what it has and can be resumed."""
    return _out(session, studies.cancel(session, caller, common.get(session, Study, study_id)))


@router.post("/{study_id}/resume", status_code=202)
def resume_study(
    study_id: str, session: SessionDep, settings: SettingsDep, caller: Caller = allow(Permission.STUDY_CREATE)
) -> StudyOut:
    """Queue again what failed or was canceled, each run from where it was."""
    return _out(session, studies.resume(session, caller, settings, common.get(session, Study, study_id)))
