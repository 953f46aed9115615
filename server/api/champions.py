"""/sites/ID/champions"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, ChampionOut, Limit, Page
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import champions, common
from server.services.champions import ChampionIn
from server.store.models import Champion, Site

router = APIRouter(prefix="/sites/{site_id}/champions", tags=["champions"])


@router.post("", status_code=201, response_model=ChampionOut)
def promote_model(
    site_id: str,
    body: ChampionIn,
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.MODEL_PROMOTE),
) -> JSONResponse:
    """Name the champion of a task, by an evaluation against the one before; 409 with the reason where that fails."""

    def create() -> ChampionOut:
        site = common.get(session, Site, site_id)
        row = champions.promote(session, caller, settings, site, body)
        session.flush()
        return ChampionOut.model_validate(row)

    return once(body, create, 201)


@router.get("", dependencies=[allow(Permission.MODEL_READ)])
def list_champions(
    site_id: str, session: SessionDep, task: str | None = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[ChampionOut]:
    """Champions of a site and those before them, newest first: the first of a task is the one in use."""
    common.get(session, Site, site_id)
    rows = common.page(session, Champion, after, limit, site_id=site_id, task=task)
    return Page[ChampionOut].of(rows, ChampionOut.model_validate)
