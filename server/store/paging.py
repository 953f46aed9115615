"""Lists by key, never by offset: a page costs the same however far in, and rows added meanwhile shift nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from server.errors import Invalid

T = TypeVar("T")
LIMIT = 50
MAXIMUM = 500


@dataclass(frozen=True)
class Page(Generic[T]):
    """Some rows, newest first, and the id to give as `after` for the next ones; none at the end."""

    items: list[T]
    next: str | None


def newest(session: Session, rows: Select[T], model: Any, after: str | None = None, limit: int = LIMIT) -> Page[T]:
    """A page of `rows` (a select of `model`, which has `id` and `created_at`), newest first."""
    if after is not None:
        at = session.scalar(select(model.created_at).where(model.id == after))
        if at is None:
            raise Invalid("The list has no such place; give the `next` of the page before as `after`.")
        rows = rows.where(tuple_(model.created_at, model.id) < tuple_(at, after))
    found = list(session.scalars(rows.order_by(model.created_at.desc(), model.id.desc()).limit(limit + 1)))
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)  # type: ignore[attr-defined]
