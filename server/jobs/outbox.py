"""Bells to be rung: rows written in the job's own transaction and sent afterwards.

A message lost or sent twice does no harm: it holds a job id only, and workers also look into the database unasked.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from server.jobs.clock import clock
from server.store.db import Database
from server.store.models import Job, Outbox

QUEUES = ("cpu", "gpu")
BATCH = 200


def queue_of(gpus: int) -> str:
    """The queue of a job that needs so many GPUs."""
    return "gpu" if gpus else "cpu"


def add(session: Session, job: Job) -> None:
    """Have the bell rung for `job` once this transaction is committed."""
    session.flush([job])
    session.add(Outbox(job_id=job.id))


def publish(db: Database, ring: Callable[[str, str], None]) -> int:
    """Call `ring(queue, job_id)` for the waiting rows that are due, then forget them; returns how many.

    Rows are removed only after they were sent: a crash between the two rings twice, never not at all.
    """
    waiting = select(Outbox.id, Job.id, Job.gpus).join(Job, Job.id == Outbox.job_id).order_by(Outbox.id).limit(BATCH)
    with db.reading() as session:
        due = or_(Job.not_before.is_(None), Job.not_before <= clock(session))
        rows = session.execute(waiting.where(due)).all()
    for _, job_id, gpus in rows:
        ring(queue_of(gpus), job_id)
    if rows:
        with db.session() as session:
            session.execute(delete(Outbox).where(Outbox.id.in_([row[0] for row in rows])))
    return len(rows)
