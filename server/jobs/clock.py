"""The clock that all workers share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from server.store.models import now


def clock(session: Session) -> datetime:
    """UTC now, naive, by the database server; SQLite lies on the one host there is."""
    if session.get_bind().dialect.name != "postgresql":
        return now()
    return cast(datetime, session.scalar(select(func.timezone("UTC", func.clock_timestamp()))))


def epoch(seconds: float) -> datetime:
    """UTC, naive, of a POSIX time."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
