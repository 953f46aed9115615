"""What the API answers. Real paths and secrets have no field here, the path of an export aside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any, Generic, Self, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict, PlainSerializer

from pipelines.deidentify.review.verdicts import Review, Verdict
from server.access import Caller, Permission
from server.store import models
from server.store.paging import LIMIT, MAXIMUM
from server.store.paging import Page as Rows

Utc = Annotated[datetime, PlainSerializer(lambda t: t.isoformat(timespec="seconds") + "Z", when_used="json")]
T = TypeVar("T")
Row = TypeVar("Row")

After = Annotated[str | None, Query(description="The `next` of the page before.", max_length=40)]
Limit = Annotated[int, Query(ge=1, le=MAXIMUM)]
DEFAULT_LIMIT = LIMIT


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[T]):
    """A page of a list, newest first; give `next` as `after` for the next one."""

    items: list[T]
    next: str | None

    @classmethod
    def of(cls, rows: Rows[Row], shape: Callable[[Row], T]) -> Page[T]:
        return cls(items=[shape(r) for r in rows.items], next=rows.next)


class SiteOut(Out):
    id: str
    name: str
    issuer: str
    policy: str
    epoch: int
    created_at: Utc


class ExportOut(Out):
    id: str
    name: str
    site_id: str
    path: str | None
    """Only for who may register exports: folder names of a PACS can name people."""
    purpose: str
    approval: str
    retain_until: date | None
    opt_out: bool
    aliases: bool
    report_columns: dict[str, str] | None
    policy: str
    practice: bool
    state: str
    result: dict[str, Any] | None
    created_at: Utc
    job: str | None = None

    @classmethod
    def of(cls, row: models.Export, caller: Caller, job: models.Job | None = None) -> ExportOut:
        values = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        values["opt_out"], values["aliases"] = row.opt_out is not None, row.aliases is not None
        values["path"] = row.path if caller.may(Permission.EXPORT_REGISTER) else None
        return cls(**values, job=job.id if job else None)


class ReviewOut(Out):
    id: str
    export_id: str
    reviewer: str
    verdict: str
    comment: str
    digest: str
    policy_digest: str
    created_at: Utc


class TallyOut(Out):
    reviewed: int
    of: int
    random_reviewed: int
    random_of: int
    leaks: int
    unsure: int
    withdrawn: int
    open_leaks: list[int]
    bound: float
    """Upper 95 % bound on the leak rate of the instances (Clopper-Pearson), from the random sample."""
    reports_random_reviewed: int
    reports_random_of: int
    reports_bound: float
    """The same of the reports."""


class ItemOut(Out):
    """An instance or a report of the review, in pseudonyms."""

    what: str = "instance"
    """instance | report"""
    number: int
    drawn: str
    """random | risk"""
    score: int
    factors: list[str]
    patient: str
    instance: str | None = None
    sop_class: str | None = None
    actions: dict[str, int] = {}
    boxes: list[list[int]] = []
    """[frame, left, top, width, height] of what changed in the pixels."""
    accession: str | None = None
    """Of a report, as are those below."""
    language: str | None = None
    finds: dict[str, int] = {}
    """What was taken out, by recogniser."""
    words: int = 0
    """Ordinary words left that may be names."""
    verdict: str | None = None
    leak: str = ""
    reviewer: str = ""
    withdrawn: bool = False


class ReportPlanOut(Out):
    """The sampling plan of the reports."""

    of: int
    random: int
    risk: int
    aim: float


class SampleOut(Out):
    images: int
    random: int
    risk: int
    aim: float
    reports: ReportPlanOut | None
    """None where an earlier version made the pack."""
    tally: TallyOut
    items: list[ItemOut]

    @classmethod
    def of(cls, review: Review) -> Self:
        last = review.last
        items = [
            ItemOut.model_validate(item).model_copy(update=_said(last.get(item["number"]), item, review))
            for item in review.pack["items"]
        ]
        plan = {name: review.pack[name] for name in ("images", "random", "risk", "aim")}
        return cls(
            **plan, reports=review.pack.get("reports"), tally=TallyOut.model_validate(review.tally()), items=items
        )


def _said(verdict: Verdict | None, item: dict[str, Any], review: Review) -> dict[str, Any]:
    said = {"verdict": verdict.verdict, "leak": verdict.leak, "reviewer": verdict.reviewer} if verdict else {}
    return said | {"withdrawn": item["number"] in review.withdrawn}


class LineOut(Out):
    path: str
    name: str
    before: str | None
    action: str
    after: str | None
    rule: str


class MarkOut(Out):
    """A place in a text: characters `start` to `end`."""

    start: int
    end: int
    kind: str
    recogniser: str
    score: float
    """How sure the recogniser is, 0 to 1."""
    left: bool
    """Left in the text, as a word that may be a name."""


class TextOut(Out):
    place: str
    before: str
    after: str
    marks: dict[str, list[MarkOut]]
    """`before` and `after` -> marks in that text."""


class LookOut(Out):
    """PHI: the answer to a privacy officer."""

    item: ItemOut
    lines: list[LineOut]
    frames: dict[str, str]
    """Frame number -> PNG before de-identification, base64."""
    text: TextOut | None
    """Of a report."""


class QuarantineOut(Out):
    counts: dict[str, int]
    items: list[dict[str, str]]


class WorkOut(Out):
    """What a job makes. state: waiting | working | ready | failed."""

    id: str
    name: str
    state: str
    practice: bool
    spec: dict[str, Any]
    result: dict[str, Any] | None
    created_at: Utc
    job: str | None = None

    @classmethod
    def of(cls, row: Any, job: models.Job | None = None) -> Self:
        out = cls.model_validate(row)
        out.job = job.id if job else None
        return out


class LabelRunOut(WorkOut):
    export_id: str


class CohortOut(WorkOut):
    digest: str | None
    external: bool
    """Built from a labelled folder of elsewhere, to evaluate on."""
    public_set: str | None
    """Its name, when it is ready."""


class RunOut(WorkOut):
    cohort_id: str
    encoder: str


class ModelOut(WorkOut):
    kind: str
    encoder: str
    run_id: str | None
    digest: str | None


class EvaluationOut(WorkOut):
    cohort_id: str


class SimilarityOut(WorkOut):
    """`result` says which images and models it holds, and which pictures were drawn."""

    cohort_id: str


class MapOut(Out):
    """One depth: after the `block`-th of `blocks`."""

    block: int
    blocks: int
    patch: tuple[int, int]
    """Row and column of the chosen patch."""
    median: float
    values: list[list[float]]
    """Cosines, row by row."""


class ModelMapsOut(Out):
    model: str
    seen: tuple[float, float, float, float]
    """Left, top, right and bottom of what the encoder sees, as shares of the image."""
    depths: list[MapOut]
    """Early to late; none where the encoder does not see the point."""


class MapsOut(Out):
    image: int
    x: float
    y: float
    models: list[ModelMapsOut]


class ChampionOut(Out):
    id: str
    site_id: str
    task: str
    model_id: str
    evaluation_id: str
    before_id: str | None
    """The champion that it followed."""
    ruling: dict[str, Any]
    """Reason, difference to the one before with its interval, margin, looks at the test split."""
    comment: str
    practice: bool
    created_at: Utc


class StudyRunOut(Out):
    """A run of a study, at its place in the grid."""

    id: str
    name: str
    encoder: str
    samples: int
    seed: int
    state: str
    job: str | None


class StudyOut(Out):
    """A scaling study. `result` and `state` are those of the last judgement, `job` is the next or last one's."""

    id: str
    name: str
    state: str
    practice: bool
    spec: dict[str, Any]
    result: dict[str, Any] | None
    created_at: Utc
    job: str | None
    cohort_id: str
    runs: list[StudyRunOut]
    """Small sizes first."""
    left: list[dict[str, Any]]
    """What the runs that are not finished would take, by encoder and GPUs: hours and GPU hours in `cost`, which is
    null before a run of this encoder on as many GPUs has finished."""


class JobOut(Out):
    id: str
    stage: str
    resource_kind: str
    resource_id: str
    title: str
    state: str
    attempt: int
    max_attempts: int
    not_before: Utc | None
    """When a queued job that failed before is tried again."""
    parent_id: str | None
    """The job that this one helps with."""
    need_ids: list[str]
    """The jobs that must end before this one is taken."""
    message: str
    progress: dict[str, Any] | None
    gpus: int
    processes: int
    worker: str | None
    created_at: Utc
    started_at: Utc | None
    finished_at: Utc | None
    cancel_requested_at: Utc | None


class EventOut(Out):
    id: int
    time: Utc
    kind: str
    data: dict[str, Any]


class UserOut(Out):
    id: str
    name: str
    roles: list[str]
    active: bool
    created_at: Utc


class TokenOut(Out):
    id: str
    user_id: str
    name: str
    roles: list[str]
    created_at: Utc
    expires_at: Utc | None
    last_used_at: Utc | None


class NewTokenOut(TokenOut):
    token: str
    """Shown this once."""


class AuditOut(Out):
    id: int
    time: Utc
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    hash: str


class Me(BaseModel):
    name: str
    roles: list[str]
    permissions: list[str]
