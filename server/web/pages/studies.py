"""Scaling studies: list, form, the grid of runs, the curves and the break-even."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BeforeValidator
from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.pretrain.spec import ENCODERS
from pipelines.scale.hours import words
from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import NotFound, Problem
from server.jobs.states import ENDED
from server.services import common, studies
from server.store.models import Cohort, Model, Study
from server.web import filters
from server.web.forms import FormData, Typed, again_on_problem, body_of
from server.web.pages.evaluations import REPORT_HEADERS
from server.web.render import may, page, see

router = APIRouter(prefix="/studies")
OF_PRETRAINING = {"budget", "batch", "supervision"}


def _words(typed: Any) -> list[str]:
    """`10000, 30000` of one field as its words."""
    return re.findall(r"[^\s,]+", " ".join(typed) if isinstance(typed, list) else typed)


Words = Annotated[list[str], BeforeValidator(_words)]


class StudyForm(FormData):
    name: str = ""
    cohort: str = ""
    encoders: list[str] = []  # noqa: RUF012 - pydantic fields
    starts: list[str] = []  # noqa: RUF012
    baselines: list[str] = []  # noqa: RUF012
    tasks: list[str] = []  # noqa: RUF012
    sizes: Words = []  # noqa: RUF012
    everything: str = ""
    seeds: Words = []  # noqa: RUF012
    budget: str = ""
    batch: str = ""
    supervision: str = ""
    minimum_positives: str = ""
    gpus: str = ""


class MoreForm(FormData):
    sizes: Words = []  # noqa: RUF012
    seeds: Words = []  # noqa: RUF012


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.STUDY_READ)
) -> HTMLResponse:
    rows = common.page(session, Study, after).items
    ready = sum(s.result is not None for s in rows)
    return page(
        request, session, caller, "studies.html", "Scaling studies", studies=rows, standing=_standing,
        may=may(caller, create=P.STUDY_CREATE),
        state=f"{ready} of {len(rows)} have an answer." if rows else "A scaling study says from how many samples on.",
    )  # fmt: skip


def _form(request: Request, caller: Caller, session: Session, typed: Typed, problem: Problem | None) -> HTMLResponse:
    def ready(kind: Any) -> list[Any]:
        return list(session.scalars(select(kind).where(kind.state == "ready").order_by(kind.created_at.desc())))

    return page(
        request, session, caller, "study_new.html", "Start a scaling study", form=typed,
        cohorts=[c for c in ready(Cohort) if not c.external],
        models=[m for m in ready(Model) if m.kind == "open-weight"],
        encoders=sorted(ENCODERS, key=lambda e: not e.endswith("-tiny")),
        tasks=filters.TASKS,
        chosen=typed.cohort or request.query_params.get("cohort"), problem=problem.detail if problem else None,
        status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(request: Request, session: SessionDep, caller: Caller = allow(P.STUDY_CREATE)) -> HTMLResponse:
    return _form(request, caller, session, Typed(), None)


@router.post("")
def create(
    form: Annotated[StudyForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.STUDY_CREATE),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, s, typed, p))
    return see(f"/studies/{studies.create(session, caller, settings, _body(form)).id}")


def _body(form: StudyForm) -> Any:
    """The API's body: what belongs to the runs stands in a table of its own."""
    values = form.model_dump(exclude=OF_PRETRAINING)
    given = {k: v for k in OF_PRETRAINING if (v := getattr(form, k))}
    values["pretrain"] = {k: int(v) if v.isdigit() else v for k, v in given.items()}
    values["everything"] = values["everything"] or "false"  # a box that is not ticked sends nothing
    return body_of(studies.StudyBody, values)


def _detail(request: Request, caller: Caller, session: Session, study: Study, problem: Problem | None) -> HTMLResponse:
    cells = studies.cells(session, study)
    jobs = studies.judgements(session, study)
    live = any(cell.job and cell.job.state not in ENDED for cell in cells) or any(j.state not in ENDED for j in jobs)
    return page(
        request, session, caller, "study.html", study.name, study=study, grid=_grid(cells), jobs=jobs,
        seeds=sorted({cell.run.spec["seed"] for cell in cells}), live=live,
        stopped=any(cell.run.state == "failed" for cell in cells), state=_state(study, live),
        stand=any(cell.run.state == "ready" for cell in cells), may=may(caller, control=P.STUDY_CREATE),
        curves=(study.result or {}).get("curves", []),
        doubling=_doublings(study), costs=studies.costs(session, cells), problem=problem.detail if problem else None,
        status=problem.status if problem else 200,
    )  # fmt: skip


def _doublings(study: Study) -> dict[str, str]:
    """Encoder -> what runs at twice its largest N would take, where that is known."""
    groups = (study.result or {}).get("groups", [])
    return {g["encoder"]: words(g["doubling_cost"]) for g in groups if g.get("doubling_cost")}


def _grid(cells: list[studies.Cell]) -> dict[tuple[str, int], dict[int, studies.Cell]]:
    """(encoder, N) -> seed -> run."""
    grid: dict[tuple[str, int], dict[int, studies.Cell]] = {}
    for cell in cells:
        samples, seed, encoder = cell.place
        grid.setdefault((encoder, samples), {})[seed] = cell
    return grid


def _standing(study: Study) -> str:
    """How many of a study's runs have finished."""
    return f"{sum(run.state == 'ready' for run in study.runs)} of {len(study.runs)}"


def _state(study: Study, live: bool) -> str:
    said = f"{_standing(study)} runs have finished"
    if study.result is not None:
        return f"{said}. {study.result['answer']}"
    return f"{said}; the first answer comes after the smallest size." if live else f"{said}; nothing is at work."


@router.get("/{id_}")
def detail(id_: str, request: Request, session: SessionDep, caller: Caller = allow(P.STUDY_READ)) -> HTMLResponse:
    return _detail(request, caller, session, common.get(session, Study, id_), None)


@router.post("/{id_}/extend")
def extend(
    id_: str,
    form: Annotated[MoreForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.STUDY_CREATE),
) -> Response:
    """Add sizes or seeds."""
    again_on_problem(request, form, lambda s, typed, p: _detail(request, caller, s, common.get(s, Study, id_), p))
    study = common.get(session, Study, id_)
    studies.extend(session, caller, settings, study, body_of(studies.StudyMore, form))
    return see(f"/studies/{id_}")


@router.post("/{id_}/{what}")
def control(
    id_: str,
    what: Literal["judge", "cancel", "resume"],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.STUDY_CREATE),
) -> Response:
    """The buttons of the study's page."""
    study = common.get(session, Study, id_)
    if what == "cancel":
        studies.cancel(session, caller, study)
    else:
        (studies.judge if what == "judge" else studies.resume)(session, caller, settings, study)
    return see(f"/studies/{id_}")


@router.get("/{id_}/report.html", dependencies=[allow(P.STUDY_READ)])
def report(id_: str, session: SessionDep, settings: SettingsDep) -> FileResponse:
    """The report of the last judgement, self-contained."""
    path = settings.root / common.get(session, Study, id_).folder / "report.html"
    if not path.exists():
        raise NotFound("The study has no report yet; wait for its first judgement.")
    return FileResponse(path, media_type="text/html", headers=REPORT_HEADERS)


@router.get("/{id_}/curves/{number}.json", dependencies=[allow(P.STUDY_READ)])
def curve(id_: str, number: int, session: SessionDep) -> dict[str, Any]:
    """One scaling curve: the macro of its metric, mean over seeds, by N."""
    curves = (common.get(session, Study, id_).result or {}).get("curves", [])
    if not 0 <= number < len(curves):
        raise NotFound("The study has no such curve.")
    points = curves[number]["points"]
    values = {"steps": [p["samples"] for p in points], "values": [p["value"] for p in points]}
    metric = filters.metric(curves[number].get("metric", "auroc"))  # studies judged before had AUROC only
    return values | {"label": f"macro {metric}", "axis": "samples", "live": False}
