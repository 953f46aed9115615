"""/livez, /readyz, /metrics and /openapi.json. Pages of documentation are not served: they load from elsewhere."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from server.access import Permission
from server.dependencies import DatabaseDep, SessionDep, allow
from server.errors import Unavailable
from server.jobs.states import State
from server.store import migrate
from server.store.models import Export, GpuSlot, Job

router = APIRouter(include_in_schema=False)


@router.get("/livez", dependencies=[allow(Permission.PUBLIC)])
def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", dependencies=[allow(Permission.PUBLIC)])
def readyz(db: DatabaseDep) -> dict[str, str]:
    """The database answers and has this version's schema."""
    if migrate.current(db) != migrate.newest():
        raise Unavailable("The database has another version's schema; run `intramural migrate`.")
    return {"status": "ok"}


@router.get("/metrics", dependencies=[allow(Permission.METRICS_READ)])
def metrics(session: SessionDep) -> PlainTextResponse:
    """Prometheus text format; the scraper shows a token."""
    jobs = _counts(session, Job.state)
    exports = _counts(session, Export.state)
    slots = select(func.count(), func.count(GpuSlot.job_id)).select_from(GpuSlot)
    total, leased = session.execute(slots).one()
    lines = ["# TYPE intramural_jobs gauge"]
    lines += [f'intramural_jobs{{state="{s}"}} {jobs.get(s, 0)}' for s in State]
    lines += ["# TYPE intramural_exports gauge"]
    lines += [f'intramural_exports{{state="{s}"}} {n}' for s, n in sorted(exports.items())]
    lines += ["# TYPE intramural_gpu_slots gauge", f"intramural_gpu_slots {total}"]
    lines += ["# TYPE intramural_gpu_slots_leased gauge", f"intramural_gpu_slots_leased {leased}"]
    return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")


def _counts(session: Session, column: InstrumentedAttribute[str]) -> dict[str, int]:
    return {row[0]: row[1] for row in session.execute(select(column, func.count()).group_by(column))}


@router.get("/openapi.json", dependencies=[allow(Permission.SIGNED_IN)])
def openapi(request: Request) -> dict[str, Any]:
    """The description of the API."""
    schema: dict[str, Any] = request.app.openapi()
    return schema
