"""Review: what waits for a verdict, and the pack that a privacy officer looks at."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import Field
from sqlalchemy import select

from pipelines.deidentify.review.marks import reading
from pipelines.deidentify.review.sampling import FACTORS
from pipelines.deidentify.review.verdicts import LEAKS, kind_of_item
from pipelines.tables import REPORTS, read_table
from server.access import Caller
from server.access import Permission as P
from server.dependencies import DatabaseDep, SessionDep, SettingsDep, allow
from server.errors import Invalid, NotFound
from server.services import common, exports, items
from server.services import review as verdicts
from server.settings import Settings
from server.store.models import Export, Review
from server.web.forms import FormData
from server.web.render import may, page, see

router = APIRouter(prefix="/review")
SAMPLE = 8
# Attribute rows: what became something else first, what stayed last.
FATES = ("changed", "emptied", "removed", "added", "kept", "")
STATES = {
    "waiting": "Look at the samples, then give a verdict. The signature covers exactly these files.",
    "released": "Released. These are samples of what the signature covers.",
    "sent_back": "Sent back. These are samples of what was refused.",
}


class Verdict(FormData):
    verdict: str = ""
    comment: str = ""


class ItemVerdict(FormData):
    verdict: str = ""
    leak: str = ""
    comment: str = Field("", max_length=2000)


@router.get("")
def list_page(request: Request, session: SessionDep, caller: Caller = allow(P.EXPORT_READ)) -> HTMLResponse:
    waiting = list(session.scalars(select(Export).where(Export.state == "waiting").order_by(Export.created_at)))
    past = list(session.scalars(select(Review).order_by(Review.created_at.desc()).limit(50)))
    state = {0: "No export waits for review.", 1: "One export waits for review."}
    return page(
        request, session, caller, "reviews.html", "Review", exports=waiting, past=past,
        state=state.get(len(waiting), f"{len(waiting)} exports wait for review."),
    )  # fmt: skip


@router.get("/{id_}")
def detail(
    id_: str, request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.EXPORT_READ)
) -> HTMLResponse:
    export = common.get(session, Export, id_)
    exports.deid_folder(settings, export)
    return page(
        request, session, caller, "review.html", f"Review {export.name}", export=export,
        state=STATES.get(export.state, "There is nothing to decide on this export now."),
        images=_images(settings, export), reports=_reports(settings, export), sample=_sample(settings, export),
        may=may(caller, release=P.EXPORT_REVIEW),
    )  # fmt: skip


@router.post("/{id_}")
def decide(
    id_: str,
    form: Annotated[Verdict, Form()],
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.EXPORT_REVIEW),
) -> Response:
    export = common.get(session, Export, id_)
    if form.verdict == "released":
        verdicts.release(session, caller, settings, export, comment=form.comment)
    elif form.verdict == "sent_back" and form.comment:
        verdicts.send_back(session, caller, settings, export, comment=form.comment)
    else:
        raise Invalid("To send an export back, write in the comment what has to be mended.")
    return see(f"/exports/{id_}")


@router.get("/{id_}/image/{name}", dependencies=[allow(P.EXPORT_READ)])
def image(id_: str, name: str, session: SessionDep, settings: SettingsDep) -> FileResponse:
    """One preview of a de-identified image."""
    folder = exports.deid_folder(settings, common.get(session, Export, id_)) / "preview"
    if not re.fullmatch(r"[A-Za-z0-9._-]+\.png", name) or not (folder / name).is_file():
        raise NotFound("There is no such preview; open the review again.")
    return FileResponse(folder / name, media_type="image/png")


@router.get("/{id_}/items/{number}")
def item(
    id_: str,
    number: int,
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    database: DatabaseDep,
    caller: Caller = allow(P.EXPORT_REVIEW),
) -> HTMLResponse:
    """One instance or report before and after. The pictures from before are in the page: one look, one audit row."""
    export = common.get(session, Export, id_)
    look = items.look(database, caller, settings, export, number)
    review = items.open_review(settings, export)
    last = len(review.pack["items"])
    return page(
        request, session, caller, "item.html", f"Number {number}", export=export, look=look,
        is_report=kind_of_item(look.item) == "report", text=reading(look.text) if look.text else None,
        lines=sorted(look.lines, key=lambda line: FATES.index(line["action"])), review=review, tally=review.tally(),
        verdict=review.last.get(number), withdrawn=number in review.withdrawn, leaks=LEAKS, factors=FACTORS,
        previous=number - 1 if number > 1 else None, next=number + 1 if number < last else None,
    )  # fmt: skip


@router.post("/{id_}/items/{number}")
def judge(
    id_: str,
    number: int,
    form: Annotated[ItemVerdict, Form()],
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.EXPORT_REVIEW),
) -> Response:
    """Note the verdict and go on to the next item without one."""
    export = common.get(session, Export, id_)
    given = form.model_dump() | ({} if form.verdict == "leak" else {"leak": ""})
    review = items.give(session, caller, settings, export, number, **given)
    if form.verdict == "leak":
        return see(f"/review/{id_}/items/{number}")
    following = review.next_open(number)
    return see(f"/review/{id_}/items/{following}" if following else f"/review/{id_}")


@router.post("/{id_}/items/{number}/withdraw")
def withdraw(
    id_: str, number: int, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.EXPORT_REVIEW)
) -> Response:
    review = items.take_out(session, caller, settings, common.get(session, Export, id_), number)
    following = review.next_open(number)
    return see(f"/review/{id_}/items/{following}" if following else f"/review/{id_}")


def _sample(settings: Settings, export: Export) -> SimpleNamespace | None:
    """The pack for the overview: items with their verdicts, and where the review stands."""
    if not items.has_pack(settings, export):
        return None
    review = items.open_review(settings, export)
    last = review.last

    def state(number: int) -> str:
        return "withdrawn" if number in review.withdrawn else last[number].verdict if number in last else ""

    rows = [item | {"verdict": state(item["number"])} for item in review.pack["items"]]
    things = "instances and reports" if any(kind_of_item(row) == "report" for row in rows) else "instances"
    return SimpleNamespace(
        things=things,
        rows=rows,
        plan=review.pack,
        tally=review.tally(),
        next=review.next_open(),
        factors=FACTORS,
        leaks=LEAKS,
    )


def _images(settings: Settings, export: Export) -> list[dict[str, Any]]:
    folder = exports.deid_folder(settings, export) / "preview"
    return [{"name": p.name, "view": "preview"} for p in sorted(folder.glob("*.png"))[:SAMPLE]]


def _reports(settings: Settings, export: Export) -> list[dict[str, Any]]:
    """The first reports by pseudonym: a keyed, so in effect random, order."""
    table = read_table(exports.deid_folder(settings, export) / "reports.parquet", REPORTS)
    rows: list[dict[str, Any]] = table.sort_by("accession").slice(0, SAMPLE // 2).to_pylist()
    return rows
