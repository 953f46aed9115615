"""Models: list, import of open weights, detail with lineage."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from pipelines.weights.baselines import BASELINES
from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import Problem
from server.services import common, models
from server.settings import Settings
from server.store.models import Job, Model, Run
from server.web.forms import FormData, Typed, again_on_problem, body_of
from server.web.render import may, page, see

router = APIRouter(prefix="/models")
STATES = {
    "waiting": "Waits for a free worker.",
    "working": "Is being verified and copied.",
    "ready": "Ready: runs can start from it and evaluations can use it.",
    "failed": "Was not imported; the job below says why.",
}
# What a card says of a model's making, in the order it is shown.
LINEAGE = {
    "samples": "Samples",
    "studies": "Studies",
    "patients": "Patients",
    "budget": "Image forwards",
    "seed": "Seed",
    "cohort": "Cohort digest",
    "start": "Started from",
    "baseline": "Imported as",
    "licence": "Licence of the weights",
    "seen": "Public sets trained on",
}


class ImportForm(FormData):
    name: str = ""
    source: str = ""
    family: str = ""


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.MODEL_READ)
) -> HTMLResponse:
    rows = common.page(session, Model, after).items
    own = sum(m.kind == "run" for m in rows)
    return page(
        request, session, caller, "models.html", "Models", models=rows, may=may(caller, create=P.MODEL_IMPORT),
        state=f"{own} made here, {len(rows) - own} to compare with." if rows else "No model is here yet.",
    )  # fmt: skip


def _form(
    request: Request, caller: Caller, settings: Settings, session: Session, typed: Typed, problem: Problem | None
) -> HTMLResponse:
    return page(
        request, session, caller, "model_new.html", "Import open weights", form=typed,
        roots=[str(r) for r in settings.weights_roots], baselines=BASELINES.values(),
        problem=problem.detail if problem else None, status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(
    request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.MODEL_IMPORT)
) -> HTMLResponse:
    return _form(request, caller, settings, session, Typed(), None)


@router.post("")
def create(
    form: Annotated[ImportForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.MODEL_IMPORT),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, settings, s, typed, p))
    body = body_of(models.ModelBody, form)
    return see(f"/models/{models.import_weights(session, caller, settings, body).id}")


@router.get("/{id_}")
def detail(id_: str, request: Request, session: SessionDep, caller: Caller = allow(P.MODEL_READ)) -> HTMLResponse:
    model = common.get(session, Model, id_)
    run = session.get(Run, model.run_id) if model.run_id else None
    return page(
        request, session, caller, "model.html", model.name, model=model, state=STATES[model.state],
        run_name=run.name if run else "", card=_lineage(model.result or {}),
        jobs=common.page(session, Job, resource_kind="model", resource_id=id_).items,
    )  # fmt: skip


def _lineage(card: dict[str, Any]) -> list[tuple[str, str]]:
    shown = [(word, card[key]) for key, word in LINEAGE.items() if card.get(key) is not None]
    return [(word, _in_words(value)) for word, value in shown if value not in ("", [])]


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
