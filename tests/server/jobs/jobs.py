"""Small makers for the tests of jobs."""

from datetime import timedelta

from server.jobs import service
from server.jobs.claim import Claimant
from server.store.db import Database
from server.store.models import Job, now

HERE = Claimant(worker="here:1", host="here", boot_id="boot", pid=1)
THERE = Claimant(worker="there:1", host="there", boot_id="boot", pid=1)


def queue(db: Database, **values) -> str:
    """A queued job; returns its id."""
    with db.session() as session:
        job = service.enqueue(
            session,
            **{
                "stage": "evaluate",
                "resource_kind": "evaluation",
                "resource_id": "none",
                "title": "A job",
                "spec": {},
                "folder": "jobs/one",
            }
            | values,
        )
        return job.id


def get(db: Database, job_id: str) -> Job:
    with db.reading() as session:
        return session.get_one(Job, job_id)


def expire(db: Database, job_id: str) -> None:
    """As if the lease had run out a minute ago."""
    with db.session() as session:
        job = session.get_one(Job, job_id)
        if job.lease_expires_at:
            job.lease_expires_at = now() - timedelta(minutes=1)
