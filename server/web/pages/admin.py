"""Administration: sites, people and tokens, the audit log."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from server.access import Caller, Role
from server.access import Permission as P
from server.audit import head
from server.audit.log import verify
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import Invalid, Problem
from server.services import people, policies, sites
from server.settings import Settings
from server.store.models import Audit, Site, now
from server.web.forms import FormData, Typed, again_on_problem
from server.web.render import page, see

router = APIRouter()
ROWS = 200


class SiteForm(FormData):
    name: str = ""
    issuer: str = ""
    policy: str = ""


class PersonForm(FormData):
    name: str = ""
    password: str = ""
    roles: list[Role] = []  # noqa: RUF012 - a pydantic field


class TokenForm(FormData):
    name: str = ""
    days: int = 90
    roles: list[Role] = []  # noqa: RUF012


def _sites(
    request: Request,
    caller: Caller,
    settings: Settings,
    session: Session,
    typed: Typed,
    problem: Problem | None = None,
) -> HTMLResponse:
    rows = list(session.scalars(select(Site).order_by(Site.name)))
    return page(
        request, session, caller, "sites.html", "Sites", sites=rows, form=typed, policies=policies.installed(settings),
        default=policies.DEFAULT, problem=problem.detail if problem else None,
        state="Every pseudonym follows from a site's own secret.", status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/sites")
def sites_page(
    request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.SITE_CREATE)
) -> HTMLResponse:
    return _sites(request, caller, settings, session, Typed())


@router.post("/sites")
def add_site(
    form: Annotated[SiteForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.SITE_CREATE),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _sites(request, caller, settings, s, typed, p))
    if not form.name:
        raise Invalid("The site needs a name; give one.")
    sites.create(session, caller, settings, name=form.name, issuer=form.issuer, policy=form.policy or None)
    return see("/sites")


def _people(
    request: Request, caller: Caller, session: Session, problem: Problem | None = None, fresh: str | None = None
) -> HTMLResponse:
    users = people.users(session)
    return page(
        request, session, caller, "people.html", "People", users=users, tokens=people.tokens(session, caller),
        roles=list(Role), own_roles=sorted(caller.roles), fresh_token=fresh,
        state=f"{len(users)} may sign in or hold tokens.", problem=problem.detail if problem else None,
        status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/people")
def people_page(request: Request, session: SessionDep, caller: Caller = allow(P.USER_MANAGE)) -> HTMLResponse:
    return _people(request, caller, session)


@router.post("/people")
def add_person(
    form: Annotated[PersonForm, Form()], request: Request, session: SessionDep, caller: Caller = allow(P.USER_MANAGE)
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _people(request, caller, s, p))
    if not form.name or not form.roles:
        raise Invalid("A person needs a name and at least one role; give both.")
    people.create_user(session, caller, name=form.name, roles=form.roles, password=form.password)
    return see("/people")


@router.post("/tokens")
def add_token(
    form: Annotated[TokenForm, Form()], request: Request, session: SessionDep, caller: Caller = allow(P.USER_MANAGE)
) -> HTMLResponse:
    again_on_problem(request, form, lambda s, typed, p: _people(request, caller, s, p))
    if not form.name or not form.roles:
        raise Invalid("A token needs a name and at least one role; give both.")
    until = now() + timedelta(days=form.days)
    _, secret = people.create_token(session, caller, name=form.name, roles=form.roles, expires_at=until)
    return _people(request, caller, session, fresh=secret)


@router.get("/audit")
def audit_page(
    request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.AUDIT_READ)
) -> HTMLResponse:
    verdict = verify(session, head.read(settings))
    rows = list(session.scalars(select(Audit).order_by(Audit.id.desc()).limit(ROWS)))
    return page(
        request, session, caller, "audit.html", "Audit log", rows=rows, state=f"{verdict.rows} rows. {verdict.reason}"
    )
