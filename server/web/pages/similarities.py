"""Similarity maps: list, form, and the page on which a person points at a patch of an image."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.similarity import folder, picture
from pipelines.similarity.maps import Map, ModelMaps, Seen
from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import Problem
from server.services import common, similarities
from server.store.models import Cohort, Job, Model, Similarity
from server.web.forms import FormData, Typed, again_on_problem, body_of
from server.web.render import may, page, see

router = APIRouter(prefix="/similarities")
STATES = {
    "waiting": "Waits for a free worker.",
    "working": "The models look at the images.",
    "ready": "Point at a patch: the maps show what each model finds alike to it.",
    "failed": "Ended without maps; the job below says why.",
}
SHOWN = 320
"""Width in pixels at which an image is pointed at; the browser answers in these."""
Percent = Annotated[float | None, Query(ge=0, le=100)]


def _places(typed: Any) -> list[dict[str, int]]:
    """`3, 17` as places."""
    words = re.findall(r"[^\s,]+", " ".join(typed) if isinstance(typed, list) else typed)
    return [{"image": int(w) if w.isdigit() else -1} for w in words]


class SimilarityForm(FormData):
    name: str = ""
    cohort: str = ""
    models: list[str] = []  # noqa: RUF012 - pydantic fields
    images: str = ""
    label: str = ""


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.SIMILARITY_READ)
) -> HTMLResponse:
    rows = common.page(session, Similarity, after).items
    ready = sum(s.state == "ready" for s in rows)
    return page(
        request, session, caller, "similarities.html", "Similarity maps", similarities=rows,
        may=may(caller, create=P.SIMILARITY_CREATE),
        state=f"{ready} of {len(rows)} are ready." if rows else "A map shows what a model finds alike in an image.",
    )  # fmt: skip


def _form(request: Request, caller: Caller, session: Session, typed: Typed, problem: Problem | None) -> HTMLResponse:
    def ready(kind: Any) -> list[Any]:
        return list(session.scalars(select(kind).where(kind.state == "ready").order_by(kind.created_at.desc())))

    return page(
        request, session, caller, "similarity_new.html", "Make similarity maps", form=typed, cohorts=ready(Cohort),
        models=ready(Model), chosen_cohort=typed.cohort or request.query_params.get("cohort"),
        chosen=typed.models or request.query_params.getlist("models"),
        problem=problem.detail if problem else None, status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(request: Request, session: SessionDep, caller: Caller = allow(P.SIMILARITY_CREATE)) -> HTMLResponse:
    return _form(request, caller, session, Typed(), None)


@router.post("")
def create(
    form: Annotated[SimilarityForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.SIMILARITY_CREATE),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, s, typed, p))
    values = form.model_dump(exclude={"images"}) | {"places": _places(form.images)}
    body = body_of(similarities.SimilarityBody, values)
    return see(f"/similarities/{similarities.create(session, caller, settings, body).id}")


@router.get("/{id_}")
def detail(
    id_: str,
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    image: int | None = None,
    x: Percent = None,
    y: Percent = None,
    across: Annotated[float | None, Query(alias="at.x", ge=0)] = None,
    down: Annotated[float | None, Query(alias="at.y", ge=0)] = None,
    caller: Caller = allow(P.SIMILARITY_READ),
) -> HTMLResponse:
    """A point comes typed, in per cent, or in pixels of the shown image, as a browser sends a click on it."""
    row = common.get(session, Similarity, id_)
    jobs = common.page(session, Job, resource_kind="similarity", resource_id=row.id).items
    models = [m for m in (session.get(Model, m) for m in row.spec.get("models", [])) if m]
    view = None
    if row.state == "ready":
        _, root, result = similarities.opened(session, settings, id_)
        chosen = similarities.image_of(result, image)
        size = (SHOWN, round(SHOWN * chosen["height"] / chosen["width"]))
        point = _point(chosen, size, (x, y), (across, down))
        found = similarities.at_point(root, result, chosen["image"], *point)
        view = _view(found, folder.palette(root), size) | {"chosen": chosen, "images": result["images"]}
        view |= {"x": point[0], "y": point[1]}
    return page(
        request, session, caller, "similarity.html", row.name, row=row, jobs=jobs, job=jobs[0] if jobs else None,
        models=models, view=view, state=STATES[row.state],
    )  # fmt: skip


def _point(
    chosen: dict[str, Any], size: tuple[int, int], typed: tuple[Any, Any], clicked: tuple[Any, Any]
) -> tuple[float, float]:
    """Shares of width and height: of a click, else of what was typed, else the first point given, else the middle."""
    if None not in clicked:
        return min(clicked[0] / size[0], 1.0), min(clicked[1] / size[1], 1.0)
    if None not in typed:
        return typed[0] / 100, typed[1] / 100
    first = chosen["points"][0] if chosen["points"] else {"x": 0.5, "y": 0.5}
    return first["x"], first["y"]


def _view(found: list[ModelMaps], palette: list[int], size: tuple[int, int]) -> dict[str, Any]:
    """What the template draws: every map as a picture in the frame of the image, and the scale."""
    scale = picture.map_png(np.linspace(0, 1, 256)[None], palette)
    models = [{"name": m.model, "maps": [_drawn(one, m.seen, palette, size) for one in m.maps]} for m in found]
    return {"width": size[0], "height": size[1], "models": models, "scale": _data(scale)}


def _drawn(one: Map, seen: Seen, palette: list[int], size: tuple[int, int]) -> dict[str, Any]:
    rows, columns = one.values.shape
    width, height = (seen.right - seen.left) * size[0], (seen.bottom - seen.top) * size[1]
    frame = {"x": seen.left * size[0], "y": seen.top * size[1], "width": width, "height": height}
    patch = {"width": width / columns, "height": height / rows}
    patch |= {"x": frame["x"] + one.patch[1] * patch["width"], "y": frame["y"] + one.patch[0] * patch["height"]}
    words = f"depth {one.block} of {one.blocks}"
    median = f"{np.median(one.values):.2f}"
    return {
        "words": words, "median": median, "frame": frame, "patch": patch,
        "data": _data(picture.map_png(one.values, palette)),
    }  # fmt: skip


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
