"""The signed head of the chain, kept outside the database: who can write the one cannot forge the other."""

from __future__ import annotations

import base64
import fcntl
import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from sqlalchemy import select

from pipelines.contract import BadInput, write_atomic
from pipelines.release import signed_bytes
from server.security import signing
from server.settings import Settings
from server.store.db import Database
from server.store.models import Audit

KIND = "audit-head"


def advance(db: Database, settings: Settings) -> None:
    """Sign the last committed row as the head. A lock on the folder keeps a slower writer from putting an older one.

    Who waited for the lock often finds its row covered by the writer before it: a burst of requests costs few writes,
    which matters where a sync takes long.
    """
    path = settings.audit_head
    with path.with_suffix(".lock").open("w") as lock, db.reading() as session:
        fcntl.flock(lock, fcntl.LOCK_EX)  # before the first read, which fixes what the session sees
        last = session.scalar(select(Audit).order_by(Audit.id.desc()).limit(1))
        if last is not None and not _is_head(path, last):
            head = {"kind": KIND, "id": last.id, "hash": last.hash, "time": last.time.isoformat()}
            write_atomic(path, json.dumps(signing.sign(head, settings)) + "\n")


def _is_head(path: Path, row: Audit) -> bool:
    try:
        head = json.loads(path.read_text())
        return bool((head["id"], head["hash"]) == (row.id, row.hash))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read(settings: Settings) -> dict[str, Any] | None:
    """The head, None when there is none yet; BadInput when its signature is not ours."""
    if not settings.audit_head.exists():
        return None
    try:
        head: dict[str, Any] = json.loads(settings.audit_head.read_text())
        signing.public_key(settings).verify(base64.b64decode(head["signature"]), signed_bytes(head))
        if head["kind"] != KIND:
            raise ValueError
    except (InvalidSignature, ValueError, KeyError, TypeError):
        raise BadInput("The head of the audit log is not signed by this control plane; it was altered.") from None
    return head
