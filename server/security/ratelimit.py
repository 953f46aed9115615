"""Guessing passwords is slowed down by counting refusals in the database, per name and address."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from server.errors import TooMany
from server.security.secrets import fingerprint
from server.store.models import SignInAttempt, now

WINDOW = timedelta(minutes=15)
# An address may stand for a whole hospital behind one proxy, so it gets more than a name does.
LIMITS = {"name": 10, "address": 50}


def check(session: Session, *, name: str, address: str) -> None:
    """TooMany when this name or address was refused too often of late."""
    for kind, value in (("name", name.strip().lower()), ("address", address)):
        since = now() - WINDOW
        count = select(func.count()).where(SignInAttempt.key == _key(kind, value), SignInAttempt.time > since)
        if (session.scalar(count) or 0) >= LIMITS[kind]:
            minutes = int(WINDOW.total_seconds() // 60)
            raise TooMany(
                f"Too many refused sign-ins; wait {minutes} minutes and try again.",
                headers={"Retry-After": str(int(WINDOW.total_seconds()))},
            )


def count(session: Session, *, name: str, address: str) -> None:
    """Note one refusal, and forget those that no longer count."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.time <= now() - WINDOW))
    for kind, value in (("name", name.strip().lower()), ("address", address)):
        session.add(SignInAttempt(key=_key(kind, value)))


def forget(session: Session, *, name: str) -> None:
    """A success clears what was counted for the name."""
    session.execute(delete(SignInAttempt).where(SignInAttempt.key == _key("name", name.strip().lower())))


def _key(kind: str, value: str) -> str:
    return fingerprint(f"{kind}:{value}")
