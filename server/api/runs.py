"""/runs"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, Limit, Page, RunOut
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import common, runs
from server.services.runs import RunBody
from server.store.models import Run

router = APIRouter(prefix="/runs", tags=["runs"])


@router.post("", status_code=202, response_model=RunOut)
def create_run(
    body: RunBody,  # type: ignore[valid-type] # made from the stage's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.RUN_CREATE),
) -> JSONResponse:
    """Queue a pretraining."""

    def create() -> RunOut:
        row = runs.create(session, caller, settings, body)
        return RunOut.of(row, common.latest_job(session, "run", row.id))

    return once(body, create, 202)


@router.get("", dependencies=[allow(Permission.RUN_READ)])
def list_runs(
    session: SessionDep, state: str | None = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[RunOut]:
    return Page[RunOut].of(common.page(session, Run, after, limit, state=state), RunOut.of)


@router.get("/{run_id}", dependencies=[allow(Permission.RUN_READ)])
def get_run(run_id: str, session: SessionDep) -> RunOut:
    return RunOut.of(common.get(session, Run, run_id), common.latest_job(session, "run", run_id))
