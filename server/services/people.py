"""Users, service accounts and their tokens."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from server.access import Caller, Permission, Role
from server.audit import Action, record
from server.errors import Conflict, Forbidden, Invalid, NotFound
from server.security.passwords import hash_password, verify_password
from server.security.secrets import fingerprint, new_token
from server.store.models import LoginSession, Token, User, now

LONGEST = timedelta(days=366)


def create_user(session: Session, caller: Caller, *, name: str, roles: list[Role], password: str | None = None) -> User:
    """A person, or a service account when there is no password: it can only use tokens."""
    if find_user(session, name):
        raise Conflict("There is a user of this name already; take another name.")
    user = User(name=name, roles=_values(roles), password_hash=hash_password(password) if password else None)
    session.add(user)
    session.flush()
    record(session, caller, Action.USER_CREATE, f"user:{user.id}", name=name, roles=user.roles)
    return user


def find_user(session: Session, name: str) -> User | None:
    return session.scalar(select(User).where(User.name == name))


def get_user(session: Session, id_: str) -> User:
    """The user, or NotFound."""
    user = session.get(User, id_)
    if user is None:
        raise NotFound(f"There is no user {id_}; check the id.")
    return user


def users(session: Session) -> list[User]:
    return list(session.scalars(select(User).order_by(User.name)))


def update_user(
    session: Session, caller: Caller, user: User, *, roles: list[Role] | None = None, active: bool | None = None
) -> User:
    """Change roles, or close an account; its sessions end at once. The last administrator stays."""
    if roles is not None:
        user.roles = _values(roles)
    if active is not None:
        user.active = active
    session.flush()
    everyone = session.scalars(select(User).with_for_update())  # two must not close each other's accounts
    if not any(Role.ADMIN in u.roles and u.active for u in everyone):
        raise Conflict("The last administrator cannot be removed; make another one first.")
    if not user.active:
        end_sessions(session, user)
    record(session, caller, Action.USER_UPDATE, f"user:{user.id}", roles=user.roles, active=user.active)
    return user


def change_password(session: Session, caller: Caller, *, old: str, new: str) -> None:
    """Change one's own password; every other session of the person ends."""
    user = get_user(session, caller.user_id or "")
    if not verify_password(user.password_hash, old):
        raise Forbidden("The old password is not right; type it again.")
    user.password_hash = hash_password(new)
    end_sessions(session, user, keep=caller.session_hash)
    record(session, caller, Action.USER_PASSWORD, f"user:{user.id}")


def set_password(session: Session, caller: Caller, user: User, password: str) -> None:
    """Set a password from the command line of the machine, when nobody can sign in any more."""
    user.password_hash = hash_password(password)
    end_sessions(session, user)
    record(session, caller, Action.USER_PASSWORD, f"user:{user.id}")


def end_sessions(session: Session, user: User, keep: str | None = None) -> None:
    """Sign a user out everywhere, but for the session `keep`."""
    session.execute(delete(LoginSession).where(LoginSession.user_id == user.id, LoginSession.hash != (keep or "")))


def create_token(
    session: Session,
    caller: Caller,
    *,
    name: str,
    roles: list[Role],
    expires_at: datetime | None = None,
    user: User | None = None,
) -> tuple[Token, str]:
    """A token and its secret, which is shown this once. Roles are some of the owner's.

    An administrator may make tokens for service accounts, never for another person, whom they could then pass for.
    """
    owner = user or get_user(session, caller.user_id or "")
    if owner.id != caller.user_id and not (caller.may(Permission.USER_MANAGE) and owner.password_hash is None):
        raise Forbidden("A token is made by its own user, or by an administrator for a service account.")
    # A token's own rights bound what it may hand on.
    allowed = set(owner.roles) & set(caller.roles) if owner.id == caller.user_id else set(owner.roles)
    if not roles or not set(_values(roles)) <= allowed:
        raise Invalid(f"A token takes at least one of these roles: {', '.join(sorted(allowed)) or 'none'}.")
    until = expires_at or now() + LONGEST
    if not now() < until <= now() + LONGEST:
        raise Invalid("A token expires in the future and within a year; give such a date.")
    secret = new_token()
    token = Token(user_id=owner.id, name=name, hash=fingerprint(secret), roles=_values(roles), expires_at=until)
    session.add(token)
    session.flush()
    record(session, caller, Action.TOKEN_CREATE, f"token:{token.id}", user=owner.id, roles=token.roles)
    return token, secret


def tokens(session: Session, caller: Caller) -> list[Token]:
    """The caller's own tokens; an administrator sees those of service accounts as well."""
    rows = select(Token).join(User).order_by(Token.created_at.desc())
    mine = Token.user_id == caller.user_id
    if caller.may(Permission.USER_MANAGE):
        mine = or_(mine, User.password_hash.is_(None))
    return list(session.scalars(rows.where(mine)))


def revoke_token(session: Session, caller: Caller, id_: str) -> None:
    """Remove a token: one's own, or any of them for an administrator."""
    token = session.get(Token, id_)
    if token is None or (token.user_id != caller.user_id and not caller.may(Permission.USER_MANAGE)):
        raise NotFound(f"There is no token {id_}; check the id.")
    session.delete(token)
    record(session, caller, Action.TOKEN_REVOKE, f"token:{id_}", user=token.user_id)


def _values(roles: list[Role]) -> list[str]:
    return sorted({Role(r).value for r in roles})
