"""The privacy officer's verdict: released or sent back, signed, in the database and beside the data.

A release is committed before its file is written, a send-back is written before it is committed: whenever the process
dies, no file releases what the database does not. A release whose file is missing is written again from its row, to
the same bytes, since Ed25519 is deterministic.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from pipelines import tables
from pipelines.contract import write_atomic
from pipelines.release import folder_digest
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict
from server.security import signing
from server.services import items
from server.services.exports import deid_folder
from server.settings import Settings
from server.store.models import Export, Review, now

logger = logging.getLogger("intramural")


def release(
    session: Session,
    caller: Caller,
    settings: Settings,
    export: Export,
    *,
    comment: str = "",
    digest: str | None = None,
) -> Review:
    """Release a de-identified export for training. `digest` is what was reviewed, when the caller kept it.

    Conflict without purpose and approval number, before the de-identification, or when the folder has changed;
    BadInput while an item that was found to leak is in it.
    """
    session.refresh(export, with_for_update=True)
    if export.state != "waiting":
        raise Conflict(f"Only an export that waits for review can be released; this one is {export.state}.")
    if not export.purpose or not export.approval:
        raise Conflict("The export has no purpose or no approval number; give both, then release it.")
    items.require_settled(session, settings, export)
    review = _verdict(session, caller, settings, export, "released", comment)
    event.listen(session, "after_commit", partial(_write_after_commit, review, export, settings), once=True)
    if digest is not None and digest != review.digest:
        raise Conflict("The de-identified export is not the one that was reviewed; review it again.")
    record(session, caller, Action.EXPORT_RELEASE, f"export:{export.id}", digest=review.digest, review=review.id)
    return review


def send_back(session: Session, caller: Caller, settings: Settings, export: Export, *, comment: str) -> Review:
    """Refuse a de-identified export, or take a release back: cohorts can no longer be built from it."""
    session.refresh(export, with_for_update=True)
    if export.state not in ("waiting", "released"):
        raise Conflict(f"Only an export that waits for review or is released can be sent back; it is {export.state}.")
    review = _verdict(session, caller, settings, export, "sent_back", comment)
    write_atomic(_path(settings, export), _signed(review, export, settings))
    record(session, caller, Action.EXPORT_SEND_BACK, f"export:{export.id}", digest=review.digest, review=review.id)
    return review


def reviews(session: Session, export_id: str) -> list[Review]:
    """All verdicts on an export, newest first."""
    rows = select(Review).where(Review.export_id == export_id)
    return list(session.scalars(rows.order_by(Review.created_at.desc(), Review.id.desc())))


def ensure_release_file(session: Session, settings: Settings, export: Export) -> None:
    """Write `release.json` of a released export again where the process died before it was written."""
    text = _signed(reviews(session, export.id)[0], export, settings)
    path = _path(settings, export)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def _verdict(
    session: Session, caller: Caller, settings: Settings, export: Export, verdict: str, comment: str
) -> Review:
    folder = deid_folder(settings, export)
    review = Review(
        export_id=export.id,
        reviewer=caller.name,
        verdict=verdict,
        comment=comment,
        digest=folder_digest(folder),
        policy_digest=policy_digest(folder),
        created_at=now(),
    )
    session.add(review)
    session.flush()
    export.state = verdict
    return review


def _write_after_commit(review: Review, export: Export, settings: Settings, _: Session) -> None:
    try:
        write_atomic(_path(settings, export), _signed(review, export, settings))
    except OSError as error:  # the release stands; building a cohort writes the file
        logger.error("The release of export %s could not be written (%s).", export.id, type(error).__name__)


def _path(settings: Settings, export: Export) -> Path:
    return settings.root / str(export.folder) / "release.json"


def _signed(review: Review, export: Export, settings: Settings) -> str:
    """The signed verdict as `release.json` holds it (read by pipelines.release)."""
    body = {
        "export": export.id,
        "verdict": review.verdict,
        "digest": review.digest,
        "policy": review.policy_digest,
        "approval": export.approval,
        "review": items.told(settings, export),
        "reviewer": review.reviewer,
        "time": review.created_at.isoformat(timespec="seconds") + "Z",
    }
    return json.dumps(signing.sign(body, settings), ensure_ascii=False, indent=1) + "\n"


def policy_digest(folder: Path) -> str:
    """Digest of the policy that made every file of the folder; Conflict when files differ in it."""
    column = tables.read_table(folder / "manifest.parquet", tables.MANIFEST, ["policy"]).column("policy")
    digests = sorted(d for d in pc.unique(column).to_pylist() if d)
    if len(digests) > 1:
        raise Conflict("The files of this export were made under different policies; de-identify it anew.")
    return str(digests[0]) if digests else ""
