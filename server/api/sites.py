"""/sites"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, Limit, Page, SiteOut
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import common, sites
from server.specs import Named
from server.store.models import Site

router = APIRouter(prefix="/sites", tags=["sites"])


class SiteIn(Named):
    issuer: str = ""
    """Issuer of patient IDs where a file names none."""
    policy: str | None = None


@router.post("", status_code=201, response_model=SiteOut)
def create_site(
    body: SiteIn,
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.SITE_CREATE),
) -> JSONResponse:
    """Create a site; its derivation secret is made with it."""
    return once(body, lambda: SiteOut.model_validate(sites.create(session, caller, settings, **body.model_dump())))


@router.get("", dependencies=[allow(Permission.SITE_READ)])
def list_sites(session: SessionDep, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Page[SiteOut]:
    return Page[SiteOut].of(common.page(session, Site, after, limit), SiteOut.model_validate)


@router.get("/{site_id}", dependencies=[allow(Permission.SITE_READ)])
def get_site(site_id: str, session: SessionDep) -> SiteOut:
    return SiteOut.model_validate(common.get(session, Site, site_id))
