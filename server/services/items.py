"""The review of single instances and reports, the items of a pack: the sample, one look, a verdict, a withdrawal.

Who may look, and that every look is noted, is decided here; what verdicts mean is decided in
pipelines.deidentify.review.

The signed `verdicts.json` beside the data is the one place of the verdicts. Its digest goes into the audit log with
every write, so that a file that was removed or put back to an older state is noticed before a release.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.contract import write_atomic
from pipelines.deidentify.review.verdicts import (
    FILE,
    Review,
    Verdict,
    numbered,
    read_review,
    require_no_leak,
    signed_record,
    summary,
)
from pipelines.deidentify.review.withdraw import withdraw
from pipelines.deidentify.vault import sealed_item, unseal
from pipelines.keys import load_vault_key
from server.access import Caller, Permission
from server.audit import Action, head, record
from server.errors import Conflict, NotFound
from server.security import signing
from server.services.exports import deid_folder
from server.settings import Settings
from server.store.db import Database
from server.store.models import Audit, Export, now


@dataclass(frozen=True)
class Look:
    """One instance or report with what was there before. PHI: shown to a privacy officer, held by nobody."""

    item: dict[str, Any]
    lines: list[dict[str, Any]]
    """Rows of the attribute table (compare.Line)."""
    frames: dict[str, str]
    """Frame number -> PNG before de-identification, base64."""
    text: dict[str, Any] | None = None
    """Of a report: `before`, `after`, `marks` in each of them (marks.Mark), and its `place` in the source."""


def open_review(settings: Settings, export: Export) -> Review:
    """The pack of a de-identified export and the verdicts on it; BadInput when there is none or it was forged."""
    return read_review(deid_folder(settings, export), settings.release_public_key)


def has_pack(settings: Settings, export: Export) -> bool:
    """Whether the folder holds a review pack; those of the first version do not."""
    return (deid_folder(settings, export) / "review" / "pack.json").exists()


def look(database: Database, caller: Caller, settings: Settings, export: Export, number: int) -> Look:
    """Decrypt what one instance or report was before, after the audit log has noted who looks."""
    caller.require(Permission.EXPORT_REVIEW)
    folder, item = deid_folder(settings, export), _item(open_review(settings, export), number)
    with database.session() as session:
        record(session, caller, Action.REVIEW_LOOK, f"export:{export.id}", **numbered(item))
    head.advance(database, settings)
    sealed = unseal(sealed_item(folder, number), load_vault_key(settings.vault_key))
    return Look(item, sealed.get("lines", []), sealed.get("frames", {}), sealed.get("text"))


def give(
    session: Session,
    caller: Caller,
    settings: Settings,
    export: Export,
    number: int,
    *,
    verdict: str,
    leak: str = "",
    comment: str = "",
) -> Review:
    """Note a verdict on one item; an earlier one on it is kept in the file and no longer counts."""
    review = _waiting(session, settings, export)
    item = _item(review, number)
    time = now().isoformat(timespec="seconds") + "Z"
    given = Verdict(number, verdict, leak, comment, caller.name, time)  # type: ignore[arg-type] # checked there
    review = replace(review, verdicts=(*review.verdicts, given))
    digest = _write(settings, export, review)
    about = numbered(item) | {"verdict": verdict, "leak": leak or None, "verdicts": digest}
    record(session, caller, Action.REVIEW_VERDICT, f"export:{export.id}", folder=export.folder, **about)
    return review


def take_out(session: Session, caller: Caller, settings: Settings, export: Export, number: int) -> Review:
    """Withdraw an instance or report that was found to leak into the quarantine."""
    review = _waiting(session, settings, export)
    item = _item(review, number)
    if number not in review.tally().open_leaks:
        raise Conflict("Only what was confirmed to leak is withdrawn; give that verdict first.")
    export.result = withdraw(deid_folder(settings, export), [item])
    review = replace(review, withdrawn=review.withdrawn | {number})
    digest = _write(settings, export, review)
    about = numbered(item) | {"verdicts": digest, "digest": export.result["digest"]}
    record(session, caller, Action.REVIEW_WITHDRAW, f"export:{export.id}", folder=export.folder, **about)
    return review


def require_settled(session: Session, settings: Settings, export: Export) -> None:
    """Before a release: Conflict when verdicts went missing, BadInput while a confirmed leak is in the folder."""
    digest, noted = _digest(deid_folder(settings, export) / FILE), _noted(session, export)
    if noted is not None and noted != digest:
        raise Conflict("The verdicts are not the ones that were last given; judge one item of the review again.")
    if has_pack(settings, export):
        require_no_leak(open_review(settings, export))


def told(settings: Settings, export: Export) -> dict[str, Any] | None:
    """What a release says of the review behind it; None for a folder without a pack."""
    if not has_pack(settings, export):
        return None
    return summary(deid_folder(settings, export), open_review(settings, export))


def _waiting(session: Session, settings: Settings, export: Export) -> Review:
    session.refresh(export, with_for_update=True)  # two officers judge one after the other
    if export.state != "waiting":
        raise Conflict(f"Only an export that waits for review can be judged; this one is {export.state}.")
    return open_review(settings, export)


def _item(review: Review, number: int) -> dict[str, Any]:
    item = review.item(number)
    if item is None:
        raise NotFound(f"The review has no number {number}; it ends with {len(review.pack['items'])}.")
    return item


def _write(settings: Settings, export: Export, review: Review) -> str:
    folder = deid_folder(settings, export)
    body = signed_record(folder, review, lambda r: signing.sign(r, settings))
    write_atomic(folder / FILE, json.dumps(body, ensure_ascii=False, indent=1) + "\n")
    return str(_digest(folder / FILE))


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def _noted(session: Session, export: Export) -> str | None:
    """Digest of the verdicts as last written for the export's present folder, by the audit log."""
    actions = [Action.REVIEW_VERDICT.value, Action.REVIEW_WITHDRAW.value]
    rows = select(Audit).where(Audit.subject == f"export:{export.id}", Audit.action.in_(actions))
    last = session.scalar(rows.order_by(Audit.id.desc()).limit(1))
    return last.detail["verdicts"] if last is not None and last.detail.get("folder") == export.folder else None
