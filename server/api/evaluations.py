"""/evaluations"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, EvaluationOut, Limit, Page
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import common, evaluations
from server.services.evaluations import EvaluationBody
from server.store.models import Evaluation

router = APIRouter(prefix="/evaluations", tags=["evaluations"])


@router.post("", status_code=202, response_model=EvaluationOut)
def create_evaluation(
    body: EvaluationBody,  # type: ignore[valid-type] # made from the stage's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.EVALUATION_CREATE),
) -> JSONResponse:
    """Queue an evaluation."""

    def create() -> EvaluationOut:
        row = evaluations.create(session, caller, settings, body)
        return EvaluationOut.of(row, common.latest_job(session, "evaluation", row.id))

    return once(body, create, 202)


@router.get("", dependencies=[allow(Permission.EVALUATION_READ)])
def list_evaluations(
    session: SessionDep, state: str | None = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[EvaluationOut]:
    return Page[EvaluationOut].of(common.page(session, Evaluation, after, limit, state=state), EvaluationOut.of)


@router.get("/{evaluation_id}", dependencies=[allow(Permission.EVALUATION_READ)])
def get_evaluation(evaluation_id: str, session: SessionDep) -> EvaluationOut:
    return EvaluationOut.of(
        common.get(session, Evaluation, evaluation_id), common.latest_job(session, "evaluation", evaluation_id)
    )
