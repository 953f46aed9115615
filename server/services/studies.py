"""Scaling studies: runs at nested sizes as jobs, and after every size a judgement of all that stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pydantic import Field, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.scale.hours import Speed
from pipelines.scale.plan import PlannedRun, Study, judgement, planned_runs
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict, invalid_fields
from server.jobs import service as job_service
from server.jobs.states import ENDED, State
from server.services import champions, common, external, runs
from server.settings import Settings
from server.specs import Body, Launch, body_model, resolve
from server.store.models import Cohort, Job, Model, Run, new_id
from server.store.models import Study as Row

StudyBody = body_model(Study, Launch)
LATELY = 50
"""Runs of an encoder among which one on as many GPUs is looked for."""


class StudyMore(Body):
    """Sizes and seeds to add to a study."""

    sizes: tuple[int, ...] = ()
    everything: bool | None = None
    seeds: tuple[int, ...] = ()
    gpus: int = Field(0, ge=0, le=64)
    processes: int = Field(1, ge=1, le=64)


@dataclass(frozen=True)
class Cell:
    """A run of a study and its last job."""

    run: Run
    job: Job | None

    @property
    def place(self) -> tuple[int, int, str]:
        """N, seed, encoder."""
        return self.run.spec["samples"], self.run.spec["seed"], self.run.encoder


def create(session: Session, caller: Caller, settings: Settings, body: Any) -> Row:
    """Queue the runs of a study and its judgements. A run that stands already is taken, not made again."""
    resolve(session, Study, body, caller, settings)
    cohort = common.get(session, Cohort, body.cohort)
    external.require_own(cohort)
    named = [common.get(session, Model, id_) for id_ in (*body.starts, *body.baselines)]
    id_ = new_id()
    study = Row(
        id=id_,
        name=body.name,
        spec=body.model_dump(mode="json", exclude=runs.ENVELOPE),
        folder=f"studies/{id_}",
        practice=cohort.practice or any(m.practice for m in named),
        cohort=cohort,
        created_by=caller.user_id,
    )
    session.add(study)
    made = _queue(session, caller, settings, study, body)
    record(session, caller, Action.STUDY_CREATE, f"study:{id_}", cohort=cohort.id, runs=made)
    return study


def extend(session: Session, caller: Caller, settings: Settings, study: Row, more: StudyMore) -> Row:
    """Add sizes or seeds: the runs that are missing are queued, and a judgement after each new size."""
    given = study.spec | {
        "sizes": sorted({*study.spec["sizes"], *more.sizes}),
        "everything": study.spec["everything"] if more.everything is None else more.everything,
        "seeds": list(dict.fromkeys([*study.spec["seeds"], *more.seeds])),
    }
    body = _again(study, given, gpus=more.gpus, processes=more.processes)
    study.spec = given
    made = _queue(session, caller, settings, study, body)
    if not made:
        raise Conflict("The study has these sizes and seeds already; name others.")
    record(session, caller, Action.STUDY_EXTEND, f"study:{study.id}", runs=made)
    return study


def judge(session: Session, caller: Caller, settings: Settings, study: Row) -> Job:
    """Judge now what stands, beside the judgements that wait for more."""
    if not any(run.state == "ready" for run in study.runs):
        raise Conflict("No run of the study has finished yet; wait for the first.")
    last = next((job for job in judgements(session, study) if job.started_at is not None), None)
    if last is not None and last.state not in ENDED:
        raise Conflict(f"The job {last.id} judges the study now; wait for it.")
    job = _judge(session, caller, settings, study, study.runs, (), last.gpus if last else 0)
    record(session, caller, Action.STUDY_JUDGE, f"study:{study.id}", job=job.id)
    return job


def cancel(session: Session, caller: Caller, study: Row) -> Row:
    """Cancel what is queued, and ask what is running to stop; it saves what it has and can be resumed."""
    live = [job for job in _jobs(session, study) if job.state not in ENDED]
    if not live:
        raise Conflict("Nothing of the study is queued or running.")
    for job in live:
        job_service.cancel(session, job)
    record(session, caller, Action.STUDY_CANCEL, f"study:{study.id}", jobs=[job.id for job in live])
    return study


def resume(session: Session, caller: Caller, settings: Settings, study: Row) -> Row:
    """Queue again what failed or was canceled, each run from where it was, and a judgement of all."""
    stopped = [c.job for c in cells(session, study) if c.job and c.job.state in (State.FAILED, State.CANCELED)]
    if not stopped:
        raise Conflict("No run of the study has failed or was canceled.")
    for job in stopped:
        job_service.resume(session, job)
    gpus = max(job.gpus for job in stopped)
    _judge(session, caller, settings, study, study.runs, _open(judgements(session, study)), gpus)
    record(session, caller, Action.STUDY_RESUME, f"study:{study.id}", jobs=[job.id for job in stopped])
    return study


def cells(session: Session, study: Row) -> list[Cell]:
    """The runs of a study, small sizes first."""
    found = [Cell(run, common.latest_job(session, "run", run.id)) for run in study.runs]
    return sorted(found, key=lambda cell: cell.place)


def costs(session: Session, cells: list[Cell]) -> list[dict[str, Any]]:
    """What the runs that are left would take, an encoder and number of GPUs at a time: by the newest run of the same
    encoder on as many GPUs, of any study, that has told its speed. `cost` is None where none has."""
    left: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        if cell.run.state != "ready":
            left.setdefault((cell.run.encoder, cell.job.gpus if cell.job else 0), []).append(cell)
    rows = []
    for (encoder, gpus), own in left.items():
        speed = _speed(session, encoder, gpus)
        cost = speed.cost(own[0].run.spec["budget"], len(own)) if speed else None
        rows.append({"encoder": encoder, "gpus": gpus, "left": len(own), "cost": cost})
    return rows


def _speed(session: Session, encoder: str, gpus: int) -> Speed | None:
    finished = select(Run).where(Run.encoder == encoder, Run.state == "ready").order_by(Run.created_at.desc())
    speeds = (Speed.read(run.result) for run in session.scalars(finished.limit(LATELY)))
    return next((speed for speed in speeds if speed and speed.gpus == gpus), None)


def judgements(session: Session, study: Row) -> list[Job]:
    """The jobs that judge a study, newest first."""
    own = select(Job).where(Job.resource_kind == "study", Job.resource_id == study.id)
    return list(session.scalars(own.order_by(Job.created_at.desc(), Job.id.desc())))


def _jobs(session: Session, study: Row) -> list[Job]:
    """What the study still lacks first, so that no worker takes a run while the one before it is being canceled."""
    return [*judgements(session, study), *(c.job for c in reversed(cells(session, study)) if c.job)]


def _again(study: Row, given: dict[str, Any], **launch: int) -> Any:
    return _checked(StudyBody, given | launch | {"name": study.name})


def _checked(model: type[Body], values: dict[str, Any]) -> Any:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid_fields(list(error.errors())) from None


# ---- queueing --------------------------------------------------------------------------------------------------


def _queue(session: Session, caller: Caller, settings: Settings, study: Row, body: Any) -> list[str]:
    """Queue the runs that are missing, small sizes first, and a judgement behind each size; ids of the runs made."""
    made: list[str] = []
    standing = list(_reusable(session, study, body.cohort))
    waiting = _open(judgements(session, study))
    for _, planned in groupby(planned_runs(_plan(study), _available(study.cohort)), key=lambda p: p.samples):
        new = 0
        for plan in planned:
            wanted = _run_body(session, study, plan, body)
            run = _same(standing, wanted)
            if run is None:
                run = runs.create(session, caller, settings, wanted)
                made.append(run.id)
                new += 1
            if run not in study.runs:
                study.runs.append(run)
        if new:
            waiting.append(_judge(session, caller, settings, study, study.runs, waiting, body.gpus))
    if not made and study.result is None:
        _judge(session, caller, settings, study, study.runs, waiting, body.gpus)
    return made


def _plan(study: Row) -> Study:
    """The study as the planner reads it; ids stand where it has paths, which it does not look at."""
    return Study.model_validate(study.spec)


def _available(cohort: Cohort) -> int:
    """Train samples of a cohort."""
    return int((cohort.result or {})["counts"]["splits"]["train"]["images"])


def _run_body(session: Session, study: Row, plan: PlannedRun, body: Any) -> Any:
    """The body of POST /runs for a planned run."""
    starts = {common.get(session, Model, id_).encoder: id_ for id_ in body.starts}
    values = plan.settings | {"cohort": study.cohort_id, "start": starts.get(plan.encoder)}
    launch = {"gpus": body.gpus, "processes": body.processes}
    return _checked(runs.RunBody, values | launch | {"name": f"{plan.name} ({study.name})"[:200]})


def _reusable(session: Session, study: Row, cohort: str) -> Iterator[Run]:
    """The study's own runs, and finished ones of others on its cohort."""
    yield from study.runs
    yield from session.scalars(
        select(Run).where(Run.cohort_id == cohort, Run.state == "ready").order_by(Run.created_at)
    )


def _same(standing: list[Run], wanted: Any) -> Run | None:
    spec = wanted.model_dump(mode="json", exclude=runs.ENVELOPE)
    return next((run for run in standing if run.spec == spec), None)


def _open(jobs: Iterable[Job]) -> list[Job]:
    return [job for job in jobs if job.state not in ENDED]


def _judge(
    session: Session,
    caller: Caller,
    settings: Settings,
    study: Row,
    of: list[Run],
    after: Iterable[Job],
    gpus: int,
) -> Job:
    """Queue a judgement of those of the runs that will stand when all have ended. One at a time, so that the last one
    to end is the one of most runs."""
    session.flush()
    latest = [common.latest_job(session, "run", run.id) for run in of]
    folder = f"studies/{study.id}/judged/{new_id()}"
    body = _again(study, study.spec)
    plan = Study.model_validate(resolve(session, Study, body, caller, settings))
    counted = {"looks": champions.looks(session, study.cohort) + 1}
    models = [str(settings.root / "runs" / run.id / "model") for run in of]
    return common.queue(
        session,
        caller,
        settings,
        study,
        "scale",
        judgement(plan, models, settings.root / "studies" / study.id / "store") | counted,
        gpus=min(gpus, 1),
        folder=folder,
        needs=[job for job in (*latest, *after) if job and job.state not in ENDED],
    )
