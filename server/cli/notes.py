"""Who asked what and why: in the audit log of the control plane that holds a folder, else in the key folder's own log.

A note is written before anything is shown or changed; where it cannot be written, nothing is.
"""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import replace
from pathlib import Path

from pipelines.contract import BadInput
from pipelines.release import folder_digest
from server.access import COMMAND_LINE
from server.audit import Action, head, record
from server.cli import keyring
from server.settings import Settings
from server.store import Database
from server.store.models import now


def require_reason(reason: str) -> str:
    """The reason without blanks around it; BadInput when there is none."""
    if not reason.strip():
        raise BadInput("Give a reason: it is recorded with your name.")
    return reason.strip()


def note(action: Action, folder: Path, reason: str, *, plane: Settings | None = None, **detail: object) -> None:
    """Note an act on a run folder; `plane` is the control plane that holds it, when the caller knows."""
    plane = plane or keyring.control_plane(folder)
    if plane is not None:
        subject = f"folder:{folder.resolve().relative_to(plane.root).as_posix()}"
        in_control_plane(plane, action, subject, reason, **detail)
    else:
        in_own_log(action, reason, folder=folder_digest(folder), **detail)


def in_control_plane(settings: Settings, action: Action, subject: str, reason: str, **detail: object) -> None:
    """A row of the audit log, signed at once."""
    database = Database(settings.database)
    caller = replace(COMMAND_LINE, name=f"command line: {getpass.getuser()}")
    with database.session() as session:
        record(session, caller, action, subject, reason=reason, **detail)
    head.advance(database, settings)


def in_own_log(action: Action, reason: str, **detail: object) -> None:
    """A line of `audit.jsonl` in the key folder, for work outside a control plane."""
    keyring.folder().mkdir(parents=True, exist_ok=True)
    time = now().isoformat(timespec="seconds") + "Z"
    line = {"time": time, "who": getpass.getuser(), "action": action.value, "reason": reason, **detail}
    handle = os.open(keyring.folder() / "audit.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as f:
        f.write(json.dumps(line, ensure_ascii=False) + "\n")
        f.flush()
        os.fsync(f.fileno())
