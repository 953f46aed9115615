"""/labels"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, LabelRunOut, Limit, Page
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import common, labels
from server.services.labels import LabelBody
from server.store.models import LabelRun

router = APIRouter(prefix="/labels", tags=["labels"])


@router.post("", status_code=202, response_model=LabelRunOut)
def create_labels(
    body: LabelBody,  # type: ignore[valid-type] # made from the stage's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.LABEL_CREATE),
) -> JSONResponse:
    """Queue structured labels of a released export, named by id in `deid`; `model` is a folder below a weights root."""

    def create() -> LabelRunOut:
        row = labels.create(session, caller, settings, body)
        return LabelRunOut.of(row, common.latest_job(session, "label", row.id))

    return once(body, create, 202)


@router.get("", dependencies=[allow(Permission.LABEL_READ)])
def list_labels(
    session: SessionDep,
    state: str | None = None,
    export: str | None = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Page[LabelRunOut]:
    rows = common.page(session, LabelRun, after, limit, state=state, export_id=export)
    return Page[LabelRunOut].of(rows, LabelRunOut.of)


@router.get("/{label_id}", dependencies=[allow(Permission.LABEL_READ)])
def get_labels(label_id: str, session: SessionDep) -> LabelRunOut:
    """With counts for each source and label, and the comparison of the sources, in `result`."""
    return LabelRunOut.of(common.get(session, LabelRun, label_id), common.latest_job(session, "label", label_id))
