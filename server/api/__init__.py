"""REST under /api/v1. Routes are thin: declare a permission, call a service, shape the answer."""

from __future__ import annotations

from fastapi import APIRouter

from server.api import (
    champions,
    cohorts,
    evaluations,
    exports,
    jobs,
    labels,
    models,
    people,
    runs,
    session,
    similarities,
    sites,
    studies,
)

PREFIX = "/api/v1"


def router() -> APIRouter:
    """All routes of the API."""
    api = APIRouter(prefix=PREFIX)
    for module in (
        sites,
        champions,
        exports,
        labels,
        cohorts,
        runs,
        models,
        evaluations,
        similarities,
        studies,
        jobs,
        people,
        session,
    ):
        api.include_router(module.router)
    return api
