"""The tables of the control plane. Times are UTC, naive. Paths are relative to the data root, export roots aside."""

from __future__ import annotations

import secrets
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Index, MetaData, String, Table, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def now() -> datetime:
    """UTC without a zone, as stored."""
    return datetime.now(UTC).replace(tzinfo=None)


def new_id() -> str:
    """A resource id: 12 letters and digits, unguessable enough to be no enumeration."""
    return secrets.token_hex(6)


class Base(DeclarativeBase):
    # Names are fixed so that a later migration can drop what an earlier one made, on both databases.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's own form


class Resource:
    """Columns that every named thing has."""

    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str | None] = mapped_column(String(12))


class Site(Resource, Base):
    """A hospital or campus; owns its derivation secret, default issuer and policy."""

    __tablename__ = "site"
    issuer: Mapped[str] = mapped_column(String(200), default="")
    policy: Mapped[str] = mapped_column(String(200), default="longitudinal-research")
    epoch: Mapped[int] = mapped_column(default=1)


class Export(Resource, Base):
    """A PACS export registered at a site. state: registered | working | waiting | released | sent_back | failed."""

    __tablename__ = "export"
    site_id: Mapped[str] = mapped_column(ForeignKey("site.id"))
    path: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text, default="")
    approval: Mapped[str] = mapped_column(String(200), default="")
    retain_until: Mapped[date | None]
    opt_out: Mapped[str | None] = mapped_column(Text)
    aliases: Mapped[str | None] = mapped_column(Text)
    report_columns: Mapped[dict[str, Any] | None]
    policy: Mapped[str] = mapped_column(String(200))
    practice: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(String(20), default="registered")
    result: Mapped[dict[str, Any] | None]
    folder: Mapped[str | None] = mapped_column(Text)
    site: Mapped[Site] = relationship()


class Review(Base):
    """A privacy officer's verdict on a de-identified export. verdict: released | sent_back."""

    __tablename__ = "review"
    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    export_id: Mapped[str] = mapped_column(ForeignKey("export.id"))
    reviewer: Mapped[str] = mapped_column(String(200))
    verdict: Mapped[str] = mapped_column(String(20))
    comment: Mapped[str] = mapped_column(Text, default="")
    digest: Mapped[str] = mapped_column(String(64))
    policy_digest: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    export: Mapped[Export] = relationship()


cohort_export = Table(
    "cohort_export",
    Base.metadata,
    Column("cohort_id", ForeignKey("cohort.id"), primary_key=True),
    Column("export_id", ForeignKey("export.id"), primary_key=True),
)


class Work(Resource):
    """A resource that a job makes. state: waiting | working | ready | failed."""

    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20), default="waiting")
    result: Mapped[dict[str, Any] | None]
    folder: Mapped[str] = mapped_column(Text)
    practice: Mapped[bool] = mapped_column(default=False)


class LabelRun(Work, Base):
    """Structured labels of one released export, from each source that was asked."""

    __tablename__ = "label"
    export_id: Mapped[str] = mapped_column(ForeignKey("export.id"))
    export: Mapped[Export] = relationship()


class Cohort(Work, Base):
    """A versioned dataset built from released exports, or of an external set to evaluate on."""

    __tablename__ = "cohort"
    digest: Mapped[str | None] = mapped_column(String(64))
    exports: Mapped[list[Export]] = relationship(secondary=cohort_export)

    @property
    def external(self) -> bool:
        """Whether it is an external set: its spec is that of the stage `external`, which says a layout."""
        return "layout" in self.spec

    @property
    def public_set(self) -> str | None:
        """Name of an external set that is ready, by which models that were trained on it are known."""
        return (self.result or {}).get("public_set")


class Run(Work, Base):
    """One continual pretraining of an encoder on N samples of a cohort."""

    __tablename__ = "run"
    cohort_id: Mapped[str] = mapped_column(ForeignKey("cohort.id"))
    encoder: Mapped[str] = mapped_column(String(40))
    cohort: Mapped[Cohort] = relationship()


class Model(Work, Base):
    """Weights with a lineage. kind: open-weight | untrained | run. `folder` holds the model folder."""

    __tablename__ = "model"
    kind: Mapped[str] = mapped_column(String(20))
    encoder: Mapped[str] = mapped_column(String(40))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("run.id"))
    digest: Mapped[str | None] = mapped_column(String(64))


class Evaluation(Work, Base):
    """Models x tasks on one cohort's test split."""

    __tablename__ = "evaluation"
    cohort_id: Mapped[str] = mapped_column(ForeignKey("cohort.id"))
    cohort: Mapped[Cohort] = relationship()


class Similarity(Work, Base):
    """Maps of which patches of a cohort's images several models find alike."""

    __tablename__ = "similarity"
    cohort_id: Mapped[str] = mapped_column(ForeignKey("cohort.id"))
    cohort: Mapped[Cohort] = relationship()


class Champion(Base):
    """The model in use for a task of a site, from its evaluation until another follows it (`before_id`)."""

    __tablename__ = "champion"
    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    site_id: Mapped[str] = mapped_column(ForeignKey("site.id"))
    task: Mapped[str] = mapped_column(String(20))
    model_id: Mapped[str] = mapped_column(ForeignKey("model.id"))
    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluation.id"))
    before_id: Mapped[str | None] = mapped_column(ForeignKey("champion.id"), unique=True)
    ruling: Mapped[dict[str, Any]]
    comment: Mapped[str] = mapped_column(Text, default="")
    practice: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str | None] = mapped_column(String(12))
    site: Mapped[Site] = relationship()
    model: Mapped[Model] = relationship()
    evaluation: Mapped[Evaluation] = relationship()


study_run = Table(
    "study_run",
    Base.metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("run_id", ForeignKey("run.id"), primary_key=True),
)


class Study(Work, Base):
    """A scaling study: runs at nested sizes, and one judgement of all that stand. `folder` is that of the last one."""

    __tablename__ = "study"
    cohort_id: Mapped[str] = mapped_column(ForeignKey("cohort.id"))
    cohort: Mapped[Cohort] = relationship()
    runs: Mapped[list[Run]] = relationship(secondary=study_run)
    """Another study's as well, where that one made the same run already."""


job_need = Table(
    "job_need",
    Base.metadata,
    Column("job_id", ForeignKey("job.id"), primary_key=True),
    Column("need_id", ForeignKey("job.id"), primary_key=True, index=True),
)


class Job(Base):
    """A unit of queued work. The row decides who works on it; `lease_token` fences every later write."""

    __tablename__ = "job"
    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    stage: Mapped[str] = mapped_column(String(20))
    resource_kind: Mapped[str] = mapped_column(String(20))
    resource_id: Mapped[str] = mapped_column(String(12), index=True)
    title: Mapped[str] = mapped_column(String(200))
    spec: Mapped[dict[str, Any]]
    folder: Mapped[str] = mapped_column(Text)
    gpus: Mapped[int] = mapped_column(default=0)
    processes: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(String(20), default="queued")
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    not_before: Mapped[datetime | None]
    """A queued job that was tried already waits until then."""
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"), index=True)
    """The job that this one is a share of (server.jobs.shares)."""
    message: Mapped[str] = mapped_column(Text, default="")
    progress: Mapped[dict[str, Any] | None]
    events_offset: Mapped[int] = mapped_column(default=0)
    lease_token: Mapped[str | None] = mapped_column(String(36))
    lease_expires_at: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(String(200))
    host: Mapped[str | None] = mapped_column(String(200))
    boot_id: Mapped[str | None] = mapped_column(String(40))
    pid: Mapped[int | None]
    cancel_requested_at: Mapped[datetime | None]
    created_by: Mapped[str | None] = mapped_column(String(12))
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    needs: Mapped[list[Job]] = relationship(
        secondary=job_need,
        primaryjoin=lambda: Job.id == job_need.c.job_id,
        secondaryjoin=lambda: Job.id == job_need.c.need_id,
    )
    """It is taken only when these have ended, well or badly."""
    __table_args__ = (Index("ix_job_state_created", "state", "created_at"),)

    @property
    def need_ids(self) -> list[str]:
        """Ids of the jobs that must end before this one."""
        return [need.id for need in self.needs]


class Outbox(Base):
    """A bell still to be rung for a job; written in the job's own transaction."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"))


class JobEvent(Base):
    """One line of a stage's events.jsonl."""

    __tablename__ = "job_event"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("job.id"), index=True)
    time: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(20))
    data: Mapped[dict[str, Any]]


class GpuSlot(Base):
    """A GPU of a worker's host; leased to a job in the claim's own transaction."""

    __tablename__ = "gpu_slot"
    uuid: Mapped[str] = mapped_column(String(80), primary_key=True)
    host: Mapped[str] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(200))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"))
    seen_at: Mapped[datetime] = mapped_column(default=now)


class User(Base):
    """A person or a service account. role: admin | privacy_officer | researcher | auditor."""

    __tablename__ = "user"
    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(200))
    roles: Mapped[list[str]]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class Token(Base):
    """A bearer token for scripts; only its hash is kept."""

    __tablename__ = "token"
    id: Mapped[str] = mapped_column(String(12), primary_key=True, default=new_id)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    name: Mapped[str] = mapped_column(String(100))
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    roles: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    user: Mapped[User] = relationship()


class LoginSession(Base):
    """A signed-in browser; the cookie holds a random value, this row its hash."""

    __tablename__ = "login_session"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
    user: Mapped[User] = relationship()


class SetupLink(Base):
    """The one-time link of the first start; only its hash is kept."""

    __tablename__ = "setup_link"
    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    used_at: Mapped[datetime | None]


class Audit(Base):
    """Append-only, hash-chained. `detail` holds ids and reasons, never PHI."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    time: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(200))
    detail: Mapped[dict[str, Any]]
    # Unique, so that the database itself refuses a fork of the chain.
    previous: Mapped[str] = mapped_column(String(64), unique=True)
    hash: Mapped[str] = mapped_column(String(64))


class SignInAttempt(Base):
    """A refused sign-in, counted by name and by address to slow guessing down."""

    __tablename__ = "sign_in_attempt"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String(64), index=True)
    time: Mapped[datetime] = mapped_column(default=now)


class IdempotencyKey(Base):
    """What a POST with an Idempotency-Key answered, so that a repeat answers the same and does nothing."""

    __tablename__ = "idempotency_key"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    caller: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(200))
    request: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    body: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    __table_args__ = (UniqueConstraint("caller", "key"),)
