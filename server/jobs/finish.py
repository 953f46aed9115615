"""What a job does to the resource it was queued for: states, results and the models that a run made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.store.models import Cohort, Evaluation, Export, Job, LabelRun, Model, Run, Similarity, Study

Resource = Export | LabelRun | Cohort | Run | Model | Evaluation | Similarity | Study
RESOURCES: dict[str, type[Resource]] = {
    "export": Export,
    "label": LabelRun,
    "cohort": Cohort,
    "run": Run,
    "model": Model,
    "evaluation": Evaluation,
    "similarity": Similarity,
    "study": Study,
}
CARD = "card.json"
# Folder of a run -> kind of the model in it. Tiny forms also export their seeded start.
RUN_MODELS = {"model": "run", "start": "untrained"}


def resource(session: Session, job: Job) -> Resource | None:
    """The thing that `job` makes."""
    return cast(Resource | None, session.get(RESOURCES[job.resource_kind], job.resource_id))


def _made(session: Session, job: Job) -> Resource | None:
    """What `job` makes or breaks; nothing for a share, whose end is not that of the job it helps with."""
    return None if job.parent_id else resource(session, job)


def wait(session: Session, job: Job) -> None:
    """The job is queued again."""
    if thing := _made(session, job):
        _become(thing, "registered" if isinstance(thing, Export) else "waiting")


def prepare(session: Session, job: Job) -> bool:
    """Settle what a job that is about to be taken works on; False when nothing of it stands.

    A judgement of a study is of the runs that have finished by now: some may have failed, and none is waited for twice.
    """
    study = _made(session, job)
    if not isinstance(study, Study):
        return True
    runs = [run.id for run in study.runs]
    stand = select(Model.folder).where(Model.run_id.in_(runs), Model.kind == "run", Model.state == "ready")
    folders = tuple(f"/{folder}" for folder in session.scalars(stand))
    models = [path for path in job.spec["models"] if path.endswith(folders)]
    job.spec = job.spec | {"models": models}
    return bool(models)


def begin(session: Session, job: Job) -> None:
    """A worker took the job."""
    if thing := _made(session, job):
        _become(thing, "working")


def _become(thing: Resource, state: str) -> None:
    """A study that was judged once stays ready: its last answer stands."""
    thing.state = "ready" if isinstance(thing, Study) and thing.result is not None else state


def fail(session: Session, job: Job) -> None:
    """The job failed or was canceled."""
    if thing := _made(session, job):
        _become(thing, "failed")


def apply(session: Session, job: Job, result: dict[str, Any], root: Path) -> None:
    """Register what a finished stage made. `root` is the data root, `result` the run folder's result.json."""
    thing = _made(session, job)
    if thing is None:
        return
    thing.result = result
    thing.practice = bool(result.get("practice", thing.practice))
    thing.folder = job.folder
    if isinstance(thing, Export):
        thing.state = "waiting"
        return
    thing.state = "ready"
    if isinstance(thing, Cohort):
        thing.digest = result["digest"]
    elif isinstance(thing, Model):
        thing.folder = _imported(job.folder, root)
        thing.digest = _card(root / thing.folder)["weights_sha256"]
    elif isinstance(thing, Run):
        _register_models(session, job, thing, root)


def _register_models(session: Session, job: Job, run: Run, root: Path) -> None:
    for name, kind in RUN_MODELS.items():
        folder = f"{job.folder}/{name}"
        if not (root / folder / CARD).exists():
            continue
        card = _card(root / folder)
        model = Model(kind=kind, encoder=run.encoder, run_id=run.id, folder=folder, digest=card["weights_sha256"])
        model.name = run.name if kind == "run" else f"{run.name}: untrained start"
        model.created_by, model.spec, model.practice = run.created_by, run.spec, run.practice
        model.state, model.result = "ready", card
        session.add(model)


def _imported(folder: str, root: Path) -> str:
    """The model folder that `import` made: the run folder or `model` in it."""
    inner = f"{folder}/model"
    return inner if (root / inner / CARD).exists() else folder


def _card(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    return card
