"""The first administrator by the one-time set-up link, and signing in and out."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from server.access import ANONYMOUS, Caller, Role, parse_roles
from server.audit import Action, record
from server.errors import Forbidden, Problem, Unauthenticated
from server.security import identity, passwords, ratelimit
from server.security.secrets import fingerprint, new_secret
from server.security.signing import write_private
from server.services import people
from server.settings import Settings
from server.store.db import Database
from server.store.models import LoginSession, SetupLink, User, now


def ensure_setup_link(db: Database, settings: Settings) -> str | None:
    """The one-time link that creates the first administrator; None once there is a user.

    Until it is used it is the same at every start: its secret lies in the folder of secrets, its hash in the database.
    """
    with db.session() as session:
        if session.scalar(select(User.id).limit(1)):
            settings.setup_secret.unlink(missing_ok=True)
            return None
        if not settings.setup_secret.exists():
            write_private(settings.setup_secret, new_secret() + "\n")
        secret = settings.setup_secret.read_text().strip()
        if session.get(SetupLink, fingerprint(secret)) is None:
            session.add(SetupLink(hash=fingerprint(secret)))
    return f"{settings.url}/setup/{secret}"


def setup_open(session: Session, secret: str) -> bool:
    """Whether a set-up link still works."""
    link = session.get(SetupLink, fingerprint(secret))
    return link is not None and link.used_at is None and session.scalar(select(User.id).limit(1)) is None


def setup(session: Session, settings: Settings, *, secret: str, name: str, password: str) -> User:
    """Create the first administrator. The link works once, and only while there is no user.

    Its 256 random bits cannot be guessed, so refusals are neither counted nor noted.
    """
    link = session.get(SetupLink, fingerprint(secret), with_for_update=True)
    if link is None or not setup_open(session, secret):
        raise Forbidden("This set-up link is not valid or was used; sign in, or ask an administrator.")
    link.used_at = now()
    caller = Caller(name, frozenset({Role.ADMIN}))
    user = people.create_user(session, caller, name=name, roles=[Role.ADMIN], password=password)
    record(session, caller, Action.SETUP, f"user:{user.id}")
    settings.setup_secret.unlink(missing_ok=True)
    return user


def sign_in(session: Session, *, name: str, password: str, address: str) -> tuple[User, str]:
    """The user and the value for the session cookie; a refusal is counted and noted, and says not which was wrong."""
    ratelimit.check(session, name=name, address=address)
    user = people.find_user(session, name)
    good = passwords.verify_password(user.password_hash if user else None, password)
    if user is None or not good or not user.active:
        ratelimit.count(session, name=name, address=address)
        # The name may be a password typed into the wrong field, so it is noted only when it is a user's.
        record(session, ANONYMOUS, Action.SIGN_IN_REFUSED, f"user:{user.id}" if user else "user:unknown")
        problem: Problem = Unauthenticated("The name or the password is not right; type them again.")
        problem.keep = True
        raise problem
    ratelimit.forget(session, name=name)
    session.execute(delete(LoginSession).where(LoginSession.created_at < now() - identity.ABSOLUTE - timedelta(days=1)))
    cookie = identity.start_session(session, user)
    caller = Caller(user.name, parse_roles(user.roles), user.id)
    record(session, caller, Action.SIGN_IN, f"user:{user.id}")
    return user, cookie


def sign_out(session: Session, caller: Caller) -> None:
    """End the caller's session."""
    session.execute(delete(LoginSession).where(LoginSession.hash == (caller.session_hash or "")))
    record(session, caller, Action.SIGN_OUT, f"user:{caller.user_id}")
