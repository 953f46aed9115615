"""Exports: registered by path, de-identified by a job, then reviewed (services.review)."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.deidentify.spec import ReportField, Spec
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict, Invalid
from server.services import common, policies
from server.settings import Settings
from server.specs import Body, below, body_model, resolve
from server.store.models import Export, Job, Site, new_id, now

# The policy is the export's own, kept with it; a body may name another, which the export then keeps.
DeidentifyBody = body_model(Spec, Body, frozenset({"export", "policy"}))


@dataclass(frozen=True)
class Registration:
    """What is known of an export when it is registered. Purpose and approval may follow, before the release."""

    site: str
    path: str
    name: str
    purpose: str = ""
    approval: str = ""
    retain_until: date | None = None
    opt_out: str | None = None
    aliases: str | None = None
    report_columns: dict[ReportField, str] = field(default_factory=dict)
    """What the columns of the site's report tables hold."""
    policy: str | None = None


def register(session: Session, caller: Caller, settings: Settings, given: Registration) -> Export:
    """Register a PACS export that lies below an export root."""
    site = common.get(session, Site, given.site)
    path = str(below(given.path, settings.export_roots, "export"))
    if session.scalar(select(Export.id).where(Export.site_id == site.id, Export.path == path)):
        raise Conflict("This folder is registered at the site already; use that export.")
    _require_future(given.retain_until)
    opt_out = _list(given.opt_out, settings, "The opt-out list must be a text file with one patient ID a line.")
    aliases = _list(given.aliases, settings, "The aliases must be a CSV file with the columns old and current.")
    export = Export(
        id=new_id(),
        name=given.name,
        site=site,
        path=path,
        purpose=given.purpose.strip(),
        approval=given.approval.strip(),
        retain_until=given.retain_until,
        opt_out=opt_out,
        aliases=aliases,
        report_columns=dict(given.report_columns),
        policy=policies.check(given.policy or site.policy, settings),
        state="registered",
        created_by=caller.user_id,
    )
    session.add(export)
    session.flush()
    record(session, caller, Action.EXPORT_REGISTER, f"export:{export.id}", site=site.id, policy=export.policy)
    return export


def describe(
    session: Session,
    caller: Caller,
    export: Export,
    *,
    purpose: str | None = None,
    approval: str | None = None,
    retain_until: date | None = None,
) -> Export:
    """Give purpose, approval number or retention date later than at registration; never after the release."""
    session.refresh(export, with_for_update=True)
    if export.state == "released":
        raise Conflict("The export is released; what it was released for can no longer be changed.")
    _require_future(retain_until)
    given = {"purpose": purpose, "approval": approval, "retain_until": retain_until}
    changed = {key: value for key, value in given.items() if value is not None}
    for key, value in changed.items():
        setattr(export, key, value.strip() if isinstance(value, str) else value)
    record(session, caller, Action.EXPORT_DESCRIBE, f"export:{export.id}", changed=sorted(changed))
    return export


def deidentify(
    session: Session, caller: Caller, settings: Settings, export: Export, body: Body, policy: str | None = None
) -> Job:
    """Queue the de-identification. A failed one goes on in its folder; another spec or a send-back begins anew."""
    session.refresh(export, with_for_update=True)  # two callers must not both find it idle
    common.require_idle(session, "export", export.id)
    if export.state not in ("registered", "failed", "sent_back"):
        raise Conflict("The export is de-identified already; send it back before doing it again.")
    export.policy = policies.check(policy or export.policy, settings)
    below(export.path, settings.export_roots, "export")
    site = export.site
    internal = {
        "export": export.path,
        "policy": policies.place(export.policy, settings),
        "secret": settings.derivation_secret(site.id, site.epoch),
        "vault_key": settings.vault_key,
        "issuer": site.issuer,
        "opt_out": export.opt_out,
        "aliases": export.aliases,
        "report_columns": export.report_columns or {},
    }
    spec = resolve(session, Spec, body, caller, settings, internal)
    last = common.latest_job(session, "export", export.id)
    if export.folder is None or last is None:
        export.folder = f"deid/{export.id}"
    elif export.state == "sent_back" or last.spec != spec:
        export.folder = _next_folder(last.folder)
    export.state, export.result = "working", None
    job = common.queue(session, caller, settings, export, "deidentify", spec)
    record(session, caller, Action.EXPORT_DEIDENTIFY, f"export:{export.id}", job=job.id, policy=export.policy)
    return job


def _next_folder(folder: str) -> str:
    """deid/abc, deid/abc-2, deid/abc-3: what was sent back stays as it was reviewed."""
    base, _, number = folder.partition("-")
    return f"{base}-{int(number or 1) + 1}"


def _list(path: str | None, settings: Settings, wanted: str) -> str | None:
    """The real path of a list that goes with an export; Invalid says what is `wanted` when it is no file."""
    if not path:
        return None
    real = below(path, settings.export_roots, "export", directory=False)
    if not real.is_file():
        raise Invalid(wanted)
    return str(real)


def _require_future(day: date | None) -> None:
    if day is not None and day <= now().date():
        raise Invalid("The retention date has passed; give the day until which the data may be kept.")


@dataclass(frozen=True)
class Quarantine:
    """What could not be processed safely. `items` holds source id, reason and detail; real paths are in the vault."""

    counts: dict[str, int]
    items: list[dict[str, str]]


def quarantine(settings: Settings, export: Export, limit: int = 1000) -> Quarantine:
    """Counts by reason and the first `limit` entries of an export that was de-identified."""
    path = deid_folder(settings, export) / "quarantine.csv"
    if not path.exists():
        return Quarantine({}, [])
    counts: Counter[str] = Counter()
    items: list[dict[str, str]] = []
    with path.open(newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            counts[row["reason"]] += 1
            if len(items) < limit:
                items.append({key: row.get(key) or "" for key in ("source_id", "reason", "detail")})
    return Quarantine(dict(sorted(counts.items())), items)


def deid_folder(settings: Settings, export: Export) -> Path:
    """The de-identified folder; Conflict before there is one."""
    if export.folder is None or export.result is None:
        raise Conflict("The export is not de-identified yet; wait for its job to finish.")
    return settings.root / export.folder
