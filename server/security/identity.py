"""From a request to its caller: a bearer token or a session cookie, else nobody."""

from __future__ import annotations

from datetime import datetime, timedelta

from fastapi import Request, Response
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from server.access import ANONYMOUS, Caller, parse_roles
from server.errors import Unauthenticated
from server.security.secrets import fingerprint, new_secret
from server.settings import Settings
from server.store.models import LoginSession, Token, User, now

IDLE = timedelta(minutes=30)
ABSOLUTE = timedelta(hours=12)
# "Last used" is kept to the minute, so that reading does not become writing.
_RESOLUTION = timedelta(minutes=1)


def authenticate(session: Session, request: Request, settings: Settings) -> tuple[Caller, bool]:
    """Who sent the request, and whether "last seen" should be noted anew (`touch`).

    Unauthenticated when the request shows a token that is not, or no longer, valid.
    """
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "bearer":
            raise _refused("Send the token as 'Authorization: Bearer TOKEN'.")
        return _by_token(session, value.strip())
    cookie = request.cookies.get(cookie_name(settings))
    return _by_cookie(session, cookie) if cookie else (ANONYMOUS, False)


def _by_token(session: Session, value: str) -> tuple[Caller, bool]:
    token = session.scalar(select(Token).where(Token.hash == fingerprint(value)))
    time = now()
    if token is None or not token.user.active or (token.expires_at and token.expires_at <= time):
        raise _refused("The token is unknown, expired or revoked; create a new one.")
    roles = parse_roles(token.roles) & parse_roles(token.user.roles)
    stale = token.last_used_at is None or time - token.last_used_at > _RESOLUTION
    return Caller(token.user.name, roles, token.user_id, token_id=token.id), stale


def _by_cookie(session: Session, value: str) -> tuple[Caller, bool]:
    row = session.get(LoginSession, fingerprint(value))
    time = now()
    if row is None or not row.user.active or expired(row, time):
        return ANONYMOUS, False
    caller = Caller(row.user.name, parse_roles(row.user.roles), row.user_id, session_hash=row.hash)
    return caller, time - row.seen_at > _RESOLUTION


def touch(session: Session, caller: Caller) -> None:
    """Note that a token or session is in use."""
    if caller.token_id:
        session.execute(update(Token).where(Token.id == caller.token_id).values(last_used_at=now()))
    if caller.session_hash:
        session.execute(update(LoginSession).where(LoginSession.hash == caller.session_hash).values(seen_at=now()))


def expired(row: LoginSession, time: datetime) -> bool:
    """Whether a session was idle too long or is too old."""
    return time - row.seen_at > IDLE or time - row.created_at > ABSOLUTE


def _refused(detail: str) -> Unauthenticated:
    return Unauthenticated(detail, headers={"WWW-Authenticate": 'Bearer realm="intramural"'})


def cookie_name(settings: Settings) -> str:
    """`__Host-` binds the cookie to this host, but browsers take it over https only."""
    return "__Host-intramural" if secure(settings) else "intramural"


def secure(settings: Settings) -> bool:
    return settings.url.startswith("https://")


def start_session(session: Session, user: User) -> str:
    """A new server-side session of `user`; returns the value for the cookie."""
    value = new_secret()
    session.add(LoginSession(hash=fingerprint(value), user_id=user.id))
    return value


def set_cookie(response: Response, value: str, settings: Settings) -> None:
    """Give the browser its session."""
    response.set_cookie(
        cookie_name(settings),
        value,
        max_age=int(ABSOLUTE.total_seconds()),
        path="/",
        secure=secure(settings),
        httponly=True,
        samesite="lax",
    )


def clear_cookie(response: Response, settings: Settings) -> None:
    response.delete_cookie(cookie_name(settings), path="/", secure=secure(settings), httponly=True, samesite="lax")
