"""Champions: which model is in use for what, and how it came to that."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse

from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.services import champions, common
from server.store.models import Champion, Evaluation, Site
from server.web.forms import FormData, again_on_problem, body_of
from server.web.pages import evaluations
from server.web.render import page, see

router = APIRouter()


class PromoteForm(FormData):
    site: str = ""
    task: str = ""
    model: str = ""
    comment: str = ""


@router.get("/champions")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.MODEL_READ)
) -> HTMLResponse:
    rows = common.page(session, Champion, after).items
    followed = {row.before_id for row in rows}
    used = sum(row.id not in followed for row in rows)
    return page(
        request, session, caller, "champions.html", "Champions", champions=rows, followed=followed,
        state=f"{used} in use." if rows else "No champion has been named yet.",
    )  # fmt: skip


@router.post("/evaluations/{id_}/promote")
def promote(
    id_: str,
    form: Annotated[PromoteForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.MODEL_PROMOTE),
) -> Response:
    """The form on an evaluation's page; a refusal comes back there with its reason."""
    again_on_problem(
        request, form, lambda s, _, p: evaluations.detail_of(request, caller, s, common.get(s, Evaluation, id_), p)
    )
    values = form.model_dump(exclude={"site"}) | {"evaluation": id_}
    site = common.get(session, Site, form.site)
    champions.promote(session, caller, settings, site, body_of(champions.ChampionIn, values))
    return see("/champions")
