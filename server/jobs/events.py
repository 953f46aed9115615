"""What a stage says while it works: lines of its events.jsonl into rows, for the pages and the API."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.jobs.clock import epoch
from server.store.models import Job, JobEvent, now

KINDS = frozenset({"progress", "metric", "log", "artifact", "checkpoint"})


def parse(line: bytes) -> dict[str, Any] | None:
    """One event; None for what is none, such as a line that a killed stage left half-written."""
    try:
        # Databases refuse NaN and infinity in JSON; a diverged loss shows as missing.
        event = json.loads(line, parse_constant=lambda _: None)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("kind") in KINDS else None


def append(session: Session, job: Job, events: list[dict[str, Any]], offset: int) -> None:
    """Add a batch, and the byte offset behind it, to a job that `lease.hold` returned in this transaction.

    Progress becomes the job's own; as rows only the ends of steps are kept, else they would outgrow everything.
    """
    for event in events:
        if event["kind"] == "progress":
            job.progress = {key: event.get(key) for key in ("done", "total", "what")}
            if event.get("done") != event.get("total"):
                continue
        data = {key: value for key, value in event.items() if key not in ("time", "kind")}
        session.add(JobEvent(job_id=job.id, time=_time(event.get("time")), kind=event["kind"], data=data))
    job.events_offset = offset


def since(session: Session, job_id: str, after: int = 0, limit: int = 500) -> list[JobEvent]:
    """The events of a job behind the row `after`, oldest first."""
    rows = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after)
    return list(session.scalars(rows.order_by(JobEvent.id).limit(limit)))


def _time(value: object) -> datetime:
    if isinstance(value, int | float) and math.isfinite(value) and 0 <= value < 1e11:
        return epoch(value)
    return now()
