"""Runs: list, form, detail with the live loss curve."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.pretrain.spec import ENCODERS
from server.access import Caller
from server.access import Permission as P
from server.dependencies import SessionDep, SettingsDep, allow
from server.errors import NotFound, Problem
from server.jobs.states import ENDED
from server.services import common, runs
from server.settings import Settings
from server.store.models import Cohort, Job, JobEvent, Model, Run
from server.web.forms import FormData, Typed, again_on_problem, body_of
from server.web.render import may, page, see

router = APIRouter(prefix="/runs")
POINTS = 1000
RECENT = 200
# Curves beside the loss, each where the run reports it.
CURVES = {
    "knn_auroc": "AUROC by nearest neighbours on validation images: rises while the encoder learns what they show",
    "rankme": "Feature rank (RankMe) on validation images: a fall tells of collapse",
    "teacher_entropy": "Entropy of the teacher's assignments: near zero or at its top the objective has collapsed",
    "logit_scale": "Logit scale of the contrast",
    "gradient_norm": "Gradient norm before clipping",
    "learning_rate": "Learning rate",
    "images_per_second": "Images a second, of all processes",
    "mfu": "Share of the GPUs' peak operations (MFU)",
    "data_wait": "Share of the time that waited for images",
    "gpu_memory_gb": "GPU memory at its peak, GB",
}
STATES = {
    "waiting": "Waits for a free worker.",
    "working": "Is training.",
    "ready": "Finished: its model can be evaluated.",
    "failed": "Ended without a model; the job below says why, and can be resumed.",
}


class RunForm(FormData):
    name: str = ""
    cohort: str = ""
    encoder: str = ""
    start: str = ""
    samples: str = ""
    supervision: str = ""
    budget: str = ""
    batch: str = ""
    seed: str = ""
    gpus: str = ""


@router.get("")
def list_page(
    request: Request, session: SessionDep, after: str | None = None, caller: Caller = allow(P.RUN_READ)
) -> HTMLResponse:
    rows = common.page(session, Run, after).items
    at_work = sum(r.state == "working" for r in rows)
    return page(
        request, session, caller, "runs.html", "Runs", runs=rows, may=may(caller, create=P.RUN_CREATE),
        state=f"{at_work} of {len(rows)} are training." if rows else "A run pretrains an encoder on a cohort.",
    )  # fmt: skip


def _form(request: Request, caller: Caller, session: Session, typed: Typed, problem: Problem | None) -> HTMLResponse:
    def ready(kind: Any) -> list[Any]:
        return list(session.scalars(select(kind).where(kind.state == "ready").order_by(kind.created_at.desc())))

    return page(
        request, session, caller, "run_new.html", "Start a run", form=typed,
        cohorts=[c for c in ready(Cohort) if not c.external],
        models=ready(Model), encoders=sorted(ENCODERS, key=lambda e: not e.endswith("-tiny")),
        chosen=typed.cohort or request.query_params.get("cohort"), problem=problem.detail if problem else None,
        status=problem.status if problem else 200,
    )  # fmt: skip


@router.get("/new")
def new_page(request: Request, session: SessionDep, caller: Caller = allow(P.RUN_CREATE)) -> HTMLResponse:
    return _form(request, caller, session, Typed(), None)


@router.post("")
def create(
    form: Annotated[RunForm, Form()],
    request: Request,
    session: SessionDep,
    settings: SettingsDep,
    caller: Caller = allow(P.RUN_CREATE),
) -> Response:
    again_on_problem(request, form, lambda s, typed, p: _form(request, caller, s, typed, p))
    body = body_of(runs.RunBody, form)
    return see(f"/runs/{runs.create(session, caller, settings, body).id}")


@router.get("/{id_}")
def detail(
    id_: str, request: Request, session: SessionDep, settings: SettingsDep, caller: Caller = allow(P.RUN_READ)
) -> HTMLResponse:
    run = common.get(session, Run, id_)
    jobs = common.page(session, Job, resource_kind="run", resource_id=id_).items
    job = common.latest_job(session, "run", id_)
    reported = _reported(session, job)
    return page(
        request, session, caller, "run.html", run.name, run=run, state=STATES[run.state], jobs=jobs, job=job,
        models=common.page(session, Model, run_id=id_).items, may=may(caller, evaluate=P.EVALUATION_CREATE),
        curves={key: caption for key, caption in CURVES.items() if key in reported},
        pictures=_pictures(settings, run), warnings=_warnings(session, job),
    )  # fmt: skip


def _reported(session: Session, job: Job | None) -> set[str]:
    """Names of what the run has reported lately."""
    rows = select(JobEvent.data).where(JobEvent.job_id == (job.id if job else ""), JobEvent.kind == "metric")
    found = session.scalars(rows.order_by(JobEvent.id.desc()).limit(RECENT))
    return {name for data in found for name in data.get("values", {})}


def _warnings(session: Session, job: Job | None) -> list[JobEvent]:
    """What went wrong on the way, such as a loss for which the run went back."""
    rows = select(JobEvent).where(JobEvent.job_id == (job.id if job else ""), JobEvent.kind == "log")
    return [row for row in session.scalars(rows.order_by(JobEvent.id)) if row.data.get("level") == "warning"]


def _pictures(settings: Settings, run: Run) -> list[int]:
    """Steps of the first and the newest picture."""
    paths = (settings.root / run.folder / "pictures").glob("step-*.png")
    steps = sorted(int(path.stem.removeprefix("step-")) for path in paths)
    return sorted({*steps[:1], *steps[-1:]})


@router.get("/{id_}/pictures/{step}.png", dependencies=[allow(P.RUN_READ)])
def picture(id_: str, step: int, session: SessionDep, settings: SettingsDep) -> FileResponse:
    """Patch features on fixed validation images, as they were after `step` steps."""
    path = settings.root / common.get(session, Run, id_).folder / "pictures" / f"step-{step:08d}.png"
    if not path.exists():
        raise NotFound("The run has no picture of this step.")
    return FileResponse(path, media_type="image/png")


@router.get("/{id_}/metrics.json", dependencies=[allow(P.RUN_READ)])
def metrics(id_: str, session: SessionDep, key: str = "loss") -> dict[str, Any]:
    """One metric by step, thinned to a thousand points; after a resume a step counts as it was trained last."""
    job = common.latest_job(session, "run", id_)
    points: dict[int, float] = {}
    if job is not None:
        rows = select(JobEvent.data).where(JobEvent.job_id == job.id, JobEvent.kind == "metric").order_by(JobEvent.id)
        for data in session.scalars(rows):
            value = data.get("values", {}).get(key)
            if isinstance(value, int | float):
                points[data["step"]] = value
    steps = sorted(points)
    steps = steps[:: max(1, len(steps) // POINTS)]
    live = job is not None and job.state not in ENDED
    return {"label": key, "steps": steps, "values": [points[s] for s in steps], "live": live}
