"""/exports: register, de-identify, review."""

from __future__ import annotations

from datetime import date
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import Field

from pipelines.deidentify.spec import ReportField
from server.access import Caller, Permission
from server.api.schemas import (
    DEFAULT_LIMIT,
    After,
    ExportOut,
    JobOut,
    Limit,
    LookOut,
    Page,
    QuarantineOut,
    ReviewOut,
    SampleOut,
)
from server.dependencies import DatabaseDep, OnceDep, SessionDep, SettingsDep, allow
from server.services import common, exports, items, review
from server.services.exports import Registration
from server.specs import Body, Id, Named
from server.store.models import Export

router = APIRouter(prefix="/exports", tags=["exports"])


class ExportIn(Named):
    site: Id
    path: str
    """Absolute, below one of the configured export roots."""
    purpose: str = Field("", max_length=2000)
    approval: str = Field("", max_length=200)
    """Number of the ethics or privacy approval."""
    retain_until: date | None = None
    opt_out: str | None = None
    """Text file below an export root, one patient ID a line."""
    aliases: str | None = None
    """CSV file below an export root, columns old and current: patient IDs that were merged."""
    report_columns: dict[ReportField, str] = Field(default_factory=dict)
    """What the columns of the site's report tables hold; those with usual names need no entry."""
    policy: str | None = None


class Description(Body):
    purpose: str | None = Field(None, max_length=2000)
    approval: str | None = Field(None, max_length=200)
    retain_until: date | None = None


class DeidentifyIn(exports.DeidentifyBody):  # type: ignore[misc,valid-type] # made from the stage's spec
    policy: str | None = None
    """Another preset than the export's own, which it then keeps."""


class ReleaseIn(Body):
    comment: str = Field("", max_length=2000)
    digest: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """What was reviewed; the release is refused when the folder has changed since."""


class SendBackIn(Body):
    comment: str = Field(min_length=1, max_length=2000)
    """Why, without naming anyone."""


class VerdictIn(Body):
    verdict: Literal["clean", "leak", "unsure"]
    leak: Literal["", "name", "number", "date", "contact", "institution", "uid", "face", "other"] = ""
    """What was found, for a verdict of `leak`; never the value."""
    comment: str = Field("", max_length=2000)
    """Without naming anyone: it is not encrypted."""


@router.post("", status_code=201, response_model=ExportOut)
def register_export(
    body: ExportIn,
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.EXPORT_REGISTER),
) -> JSONResponse:
    """Register a PACS export that lies below an export root."""
    given = Registration(**body.model_dump())
    return once(body, lambda: ExportOut.of(exports.register(session, caller, settings, given), caller))


@router.get("")
def list_exports(
    session: SessionDep,
    state: str | None = None,
    site: str | None = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    caller: Caller = allow(Permission.EXPORT_READ),
) -> Page[ExportOut]:
    rows = common.page(session, Export, after, limit, state=state, site_id=site)
    return Page[ExportOut].of(rows, lambda row: ExportOut.of(row, caller))


@router.get("/{export_id}")
def get_export(export_id: str, session: SessionDep, caller: Caller = allow(Permission.EXPORT_READ)) -> ExportOut:
    row = common.get(session, Export, export_id)
    return ExportOut.of(row, caller, common.latest_job(session, "export", export_id))


@router.patch("/{export_id}")
def describe_export(
    export_id: str, body: Description, session: SessionDep, caller: Caller = allow(Permission.EXPORT_REGISTER)
) -> ExportOut:
    """Give purpose, approval number or retention date after the registration."""
    row = exports.describe(session, caller, common.get(session, Export, export_id), **body.model_dump())
    return ExportOut.of(row, caller)


@router.post("/{export_id}/deidentify", status_code=202, response_model=JobOut)
def deidentify_export(
    export_id: str,
    body: DeidentifyIn,
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.EXPORT_DEIDENTIFY),
) -> JSONResponse:
    """Queue the de-identification; answers the job."""

    def create() -> JobOut:
        export = common.get(session, Export, export_id)
        return JobOut.model_validate(exports.deidentify(session, caller, settings, export, body, body.policy))

    return once(body, create, 202)


@router.get("/{export_id}/quarantine", dependencies=[allow(Permission.QUARANTINE_READ)])
def get_quarantine(
    export_id: str, session: SessionDep, settings: SettingsDep, limit: Limit = DEFAULT_LIMIT
) -> QuarantineOut:
    """Counts by reason, and source ids; the real paths are in the vault."""
    found = exports.quarantine(settings, common.get(session, Export, export_id), limit)
    return QuarantineOut.model_validate(found)


@router.get("/{export_id}/reviews", dependencies=[allow(Permission.EXPORT_READ)])
def list_reviews(export_id: str, session: SessionDep) -> list[ReviewOut]:
    common.get(session, Export, export_id)
    return [ReviewOut.model_validate(r) for r in review.reviews(session, export_id)]


@router.get("/{export_id}/sample", dependencies=[allow(Permission.EXPORT_READ)])
def get_sample(export_id: str, session: SessionDep, settings: SettingsDep) -> SampleOut:
    """The sampling plan, its items with their verdicts, and where the review stands."""
    return SampleOut.of(items.open_review(settings, common.get(session, Export, export_id)))


@router.get("/{export_id}/sample/{number}")
def look_at_item(
    export_id: str,
    number: int,
    session: SessionDep,
    settings: SettingsDep,
    database: DatabaseDep,
    caller: Caller = allow(Permission.EXPORT_REVIEW),
) -> LookOut:
    """One instance or report before and after, decrypted for this answer. Every look goes into the audit log."""
    export = common.get(session, Export, export_id)
    return LookOut.model_validate(items.look(database, caller, settings, export, number))


@router.post("/{export_id}/sample/{number}/verdict", status_code=201)
def judge_item(
    export_id: str,
    number: int,
    body: VerdictIn,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(Permission.EXPORT_REVIEW),
) -> SampleOut:
    """Note a verdict; the last one on an item counts."""
    export = common.get(session, Export, export_id)
    return SampleOut.of(items.give(session, caller, settings, export, number, **body.model_dump()))


@router.post("/{export_id}/sample/{number}/withdraw", status_code=201)
def withdraw_item(
    export_id: str,
    number: int,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(Permission.EXPORT_REVIEW),
) -> SampleOut:
    """Put an item with a confirmed leak into the quarantine, so that the rest can be released."""
    export = common.get(session, Export, export_id)
    return SampleOut.of(items.take_out(session, caller, settings, export, number))


@router.post("/{export_id}/release", status_code=201, response_model=ReviewOut)
def release_export(
    export_id: str,
    body: ReleaseIn,
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.EXPORT_REVIEW),
) -> JSONResponse:
    """Release the de-identified export for training, signed."""

    def create() -> ReviewOut:
        export = common.get(session, Export, export_id)
        done = review.release(session, caller, settings, export, comment=body.comment, digest=body.digest)
        return ReviewOut.model_validate(done)

    return once(body, create)


@router.post("/{export_id}/send-back", status_code=201, response_model=ReviewOut)
def send_back_export(
    export_id: str,
    body: SendBackIn,
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.EXPORT_REVIEW),
) -> JSONResponse:
    """Refuse the de-identified export, or take its release back."""

    def create() -> ReviewOut:
        export = common.get(session, Export, export_id)
        return ReviewOut.model_validate(review.send_back(session, caller, settings, export, comment=body.comment))

    return once(body, create)
