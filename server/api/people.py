"""/users, /tokens and /audit."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select

from server.access import Caller, Permission, Role
from server.api.schemas import DEFAULT_LIMIT, AuditOut, Limit, NewTokenOut, TokenOut, UserOut
from server.audit import head
from server.audit.log import verify
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import people
from server.specs import Body, Id, Named
from server.store.models import Audit

router = APIRouter(tags=["people"])


class UserIn(Named):
    roles: list[Role]
    password: str | None = None
    """None makes a service account, which can only use tokens."""


class UserChange(Body):
    roles: list[Role] | None = None
    active: bool | None = None


class TokenIn(Named):
    roles: list[Role]
    expires_at: AwareDatetime | None = None
    """At most a year from now, which is also the default."""
    user: Id | None = None
    """A service account, for administrators; none takes the caller."""


class AuditPage(BaseModel):
    items: list[AuditOut]
    next: int | None


class Verified(BaseModel):
    ok: bool
    rows: int
    reason: str
    broken: int | None


@router.post("/users", status_code=201, response_model=UserOut)
def create_user(
    body: UserIn, session: SessionDep, once: OnceDep, caller: Caller = allow(Permission.USER_MANAGE)
) -> Response:
    return once(body, lambda: UserOut.model_validate(people.create_user(session, caller, **body.model_dump())))


@router.get("/users", dependencies=[allow(Permission.USER_MANAGE)])
def list_users(session: SessionDep) -> list[UserOut]:
    return [UserOut.model_validate(u) for u in people.users(session)]


@router.patch("/users/{user_id}")
def change_user(
    user_id: str, body: UserChange, session: SessionDep, caller: Caller = allow(Permission.USER_MANAGE)
) -> UserOut:
    user = people.get_user(session, user_id)
    return UserOut.model_validate(people.update_user(session, caller, user, **body.model_dump()))


@router.post("/tokens", status_code=201)
def create_token(body: TokenIn, session: SessionDep, caller: Caller = allow(Permission.SIGNED_IN)) -> NewTokenOut:
    """The token is shown this once, so the answer is never stored and a repeat makes another token."""
    owner = people.get_user(session, body.user) if body.user else None
    until = _naive(body.expires_at) if body.expires_at else None
    token, secret = people.create_token(session, caller, name=body.name, roles=body.roles, expires_at=until, user=owner)
    return NewTokenOut(**TokenOut.model_validate(token).model_dump(), token=secret)


@router.get("/tokens")
def list_tokens(session: SessionDep, caller: Caller = allow(Permission.SIGNED_IN)) -> list[TokenOut]:
    return [TokenOut.model_validate(t) for t in people.tokens(session, caller)]


@router.delete("/tokens/{token_id}", status_code=204)
def revoke_token(token_id: str, session: SessionDep, caller: Caller = allow(Permission.SIGNED_IN)) -> None:
    people.revoke_token(session, caller, token_id)


@router.get("/audit", dependencies=[allow(Permission.AUDIT_READ)])
def list_audit(session: SessionDep, after: int | None = None, limit: Limit = DEFAULT_LIMIT) -> AuditPage:
    """Newest first."""
    rows = select(Audit).order_by(Audit.id.desc()).limit(limit + 1)
    found = list(session.scalars(rows.where(Audit.id < after) if after is not None else rows))
    more = found[limit - 1].id if len(found) > limit else None
    return AuditPage(items=[AuditOut.model_validate(r) for r in found[:limit]], next=more)


@router.get("/audit/verify", dependencies=[allow(Permission.AUDIT_READ)])
def verify_audit(session: SessionDep, settings: SettingsDep) -> Verified:
    """Recompute the chain and compare it with the signed head."""
    return Verified.model_validate(verify(session, head.read(settings)), from_attributes=True)


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)
