"""/models"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, Limit, ModelOut, Page
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import common, models
from server.services.models import ModelBody
from server.store.models import Model

router = APIRouter(prefix="/models", tags=["models"])


@router.post("", status_code=202, response_model=ModelOut)
def import_model(
    body: ModelBody,  # type: ignore[valid-type] # made from the stage's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.MODEL_IMPORT),
) -> JSONResponse:
    """Bring in open weights from below a weights root."""

    def create() -> ModelOut:
        row = models.import_weights(session, caller, settings, body)
        return ModelOut.of(row, common.latest_job(session, "model", row.id))

    return once(body, create, 202)


@router.get("", dependencies=[allow(Permission.MODEL_READ)])
def list_models(
    session: SessionDep,
    state: str | None = None,
    run: str | None = None,
    kind: str | None = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[ModelOut]:
    rows = common.page(session, Model, after, limit, state=state, run_id=run, kind=kind)
    return Page[ModelOut].of(rows, ModelOut.of)


@router.get("/{model_id}", dependencies=[allow(Permission.MODEL_READ)])
def get_model(model_id: str, session: SessionDep) -> ModelOut:
    return ModelOut.of(common.get(session, Model, model_id), common.latest_job(session, "model", model_id))
