"""/setup, /session and /me: who is at the keyboard."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import Field

from server.access import Caller, Permission
from server.api.schemas import Me, UserOut
from server.dependencies import SessionDep, SettingsDep, allow
from server.security import identity
from server.services import people, sign_in
from server.specs import Body, Name

router = APIRouter(tags=["session"])


class SetupIn(Body):
    secret: str = Field(max_length=200)
    """The last part of the set-up link."""
    name: Name
    password: str = Field(max_length=1000)


class SignInIn(Body):
    name: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class PasswordIn(Body):
    old: str = Field(max_length=1000)
    new: str = Field(max_length=1000)


@router.post("/setup", status_code=201, dependencies=[allow(Permission.PUBLIC)])
def setup(body: SetupIn, session: SessionDep, settings: SettingsDep) -> UserOut:
    """Create the first administrator with the one-time link that the first start prints."""
    user = sign_in.setup(session, settings, secret=body.secret, name=body.name, password=body.password)
    return UserOut.model_validate(user)


@router.post("/session", status_code=201, dependencies=[allow(Permission.PUBLIC)])
def create_session(
    body: SignInIn, request: Request, response: Response, session: SessionDep, settings: SettingsDep
) -> UserOut:
    """Sign in; the answer sets the session cookie."""
    address = request.client.host if request.client else ""
    user, cookie = sign_in.sign_in(session, name=body.name, password=body.password, address=address)
    identity.set_cookie(response, cookie, settings)
    return UserOut.model_validate(user)


@router.delete("/session", status_code=204)
def end_session(
    response: Response,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(Permission.SIGNED_IN),
) -> None:
    """Sign out."""
    sign_in.sign_out(session, caller)
    identity.clear_cookie(response, settings)


@router.get("/me")
def me(caller: Caller = allow(Permission.SIGNED_IN)) -> Me:
    """Who is asking, and what they may do."""
    permissions = sorted(p.value for p in Permission if caller.may(p))
    return Me(name=caller.name, roles=sorted(caller.roles), permissions=permissions)


@router.put("/me/password", status_code=204)
def change_password(body: PasswordIn, session: SessionDep, caller: Caller = allow(Permission.SIGNED_IN)) -> None:
    """Change one's own password; other sessions end."""
    people.change_password(session, caller, old=body.old, new=body.new)
