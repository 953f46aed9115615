"""Appending to the chain, and verifying it.

Each row's hash covers its content and the hash of the row before, so a row changed, removed or slipped in breaks every
hash behind it. Cutting rows off the end is seen by the signed head (audit.head), which lies outside the database.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from server.access import Caller
from server.audit.actions import Action
from server.store.models import Audit, now

GENESIS = "0" * 64
# Any constant: the advisory lock that serialises appends on PostgreSQL.
_LOCK = 0x1A7D17
_QUEUE = "audit"


def record(session: Session, caller: Caller, action: Action, subject: str, **detail: Any) -> None:
    """Note what `caller` does, in the transaction that does it.

    The row is chained just before the commit, so that the lock on the chain is held for one insert and is always the
    last lock a transaction takes. `detail` holds ids, names of settings and reasons; never PHI.
    """
    row = {"actor": caller.name, "action": action.value, "subject": subject, "detail": _with_token(caller, detail)}
    queue = session.info.setdefault(_QUEUE, [])
    if not queue:
        event.listen(session, "before_commit", _append, once=True)
    queue.append(row)


def recorded(session: Session) -> bool:
    """Whether this session has noted anything."""
    return _QUEUE in session.info


def _with_token(caller: Caller, detail: dict[str, Any]) -> dict[str, Any]:
    return detail | ({"token": caller.token_id} if caller.token_id else {})


def _append(session: Session) -> None:
    queue, session.info[_QUEUE] = session.info.get(_QUEUE, []), []
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        # Released at the commit; without it two transactions would both follow the same row. SQLite has one writer.
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    previous = session.scalar(select(Audit.hash).order_by(Audit.id.desc()).limit(1)) or GENESIS
    for values in queue:
        row = Audit(time=now(), previous=previous, hash="", **values)
        row.hash = previous = digest(row)
        session.add(row)
        session.flush([row])


def digest(row: Audit) -> str:
    """SHA-256 over a row's content and the hash before it, in canonical JSON."""
    content = {
        "time": row.time.isoformat(timespec="microseconds"),
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "detail": row.detail,
        "previous": row.previous,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Verdict:
    """What verifying found. `broken` is the id of the first row that does not fit, `reason` says how."""

    rows: int
    ok: bool
    reason: str
    broken: int | None = None


def verify(session: Session, head: dict[str, Any] | None) -> Verdict:
    """Recompute the whole chain and compare it with the signed head (`audit.head.read`)."""
    previous, count, found = GENESIS, 0, head is None
    for row in session.scalars(select(Audit).order_by(Audit.id).execution_options(yield_per=1000)):
        count += 1
        if row.previous != previous:
            return Verdict(count, False, "A row before this one was removed or slipped in.", row.id)
        if digest(row) != row.hash:
            return Verdict(count, False, "This row was changed.", row.id)
        previous = row.hash
        found = found or (head is not None and row.hash == head["hash"])
    if not found:
        return Verdict(count, False, "Rows were cut off the end: the signed head is not in the chain.")
    if head is None and count:
        return Verdict(count, False, "The signed head is missing; restore audit.head from the last backup.")
    return Verdict(count, True, "The chain is whole and holds the signed head.")
