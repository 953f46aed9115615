"""/cohorts"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, CohortOut, Limit, Page
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import cohorts, common, external
from server.services.cohorts import CohortBody
from server.services.external import ExternalBody
from server.store.models import Cohort

router = APIRouter(prefix="/cohorts", tags=["cohorts"])


@router.post("", status_code=202, response_model=CohortOut)
def build_cohort(
    body: CohortBody,  # type: ignore[valid-type] # made from the stage's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.COHORT_BUILD),
) -> JSONResponse:
    """Build a cohort from released exports, named by id in `deid`."""

    def create() -> CohortOut:
        row = cohorts.build(session, caller, settings, body)
        return CohortOut.of(row, common.latest_job(session, "cohort", row.id))

    return once(body, create, 202)


@router.post("/external", status_code=202, response_model=CohortOut)
def build_external_set(
    body: ExternalBody,  # type: ignore[valid-type] # made from the stage's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.COHORT_BUILD),
) -> JSONResponse:
    """Build a cohort to evaluate on from a labelled folder below an external root."""

    def create() -> CohortOut:
        row = external.build(session, caller, settings, body)
        return CohortOut.of(row, common.latest_job(session, "cohort", row.id))

    return once(body, create, 202)


@router.get("", dependencies=[allow(Permission.COHORT_READ)])
def list_cohorts(
    session: SessionDep, state: str | None = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[CohortOut]:
    return Page[CohortOut].of(common.page(session, Cohort, after, limit, state=state), CohortOut.of)


@router.get("/{cohort_id}", dependencies=[allow(Permission.COHORT_READ)])
def get_cohort(cohort_id: str, session: SessionDep) -> CohortOut:
    return CohortOut.of(common.get(session, Cohort, cohort_id), common.latest_job(session, "cohort", cohort_id))
