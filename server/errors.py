"""Every error of the control plane as application/problem+json (RFC 9457): typed, one sentence, no PHI."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError, OperationalError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.contract import NO_SPACE, BadInput
from server.jobs.states import IllegalTransition

logger = logging.getLogger("intramural")


class Problem(Exception):
    """An error that the caller can act on. `detail` is one sentence that says what to do."""

    status = 400
    code = "bad_request"

    def __init__(
        self, detail: str, *, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}
        self.keep = False  # whether what was noted before the error is committed all the same


class Unauthenticated(Problem):
    status, code = 401, "not_signed_in"


class Forbidden(Problem):
    status, code = 403, "not_allowed"


class NotFound(Problem):
    status, code = 404, "not_found"


class Conflict(Problem):
    status, code = 409, "conflict"


class Invalid(Problem):
    status, code = 422, "invalid"


class TooMany(Problem):
    status, code = 429, "too_many_attempts"


class Unavailable(Problem):
    status, code = 503, "unavailable"


class NoSpace(Problem):
    status, code = 507, "no_space"


class Unexpected(Problem):
    status, code = 500, "unexpected"


def invalid_fields(errors: list[Any]) -> Invalid:
    """The problem for pydantic's errors; values are left out, since a wrong value may be anything."""
    fields = [
        {"field": ".".join(str(p) for p in e["loc"] if p != "body") or "body", "message": e["msg"]} for e in errors
    ]
    names = ", ".join(sorted({f["field"] for f in fields}))
    return Invalid(f"The request is not valid: correct {names} and send it again.", errors=fields)


def translate(error: Exception) -> Problem | None:
    """The problem that stands for an error of another layer, or None when nobody foresaw it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BadInput):
        return Invalid(str(error))
    if isinstance(error, IllegalTransition):
        return Conflict(str(error))
    if isinstance(error, RequestValidationError | ValidationError):
        return invalid_fields(list(error.errors()))
    if isinstance(error, HTTPException):
        return _from_http(error)
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return NoSpace("No space is left in the data root; free some and try again.")
    if isinstance(error, IntegrityError):
        return Conflict("Somebody else did the same at this moment; look at what is there and try again.")
    if isinstance(error, OperationalError):
        return Unavailable("The database does not answer; try again in a moment.", headers={"Retry-After": "5"})
    return None


def _from_http(error: HTTPException) -> Problem:
    sentences = {
        404: "There is nothing at this address; check it.",
        405: "This address does not take this method; see /openapi.json for what it takes.",
        413: "The request is too large; exports and weights are named by their path, never uploaded.",
    }
    problem = Problem(sentences.get(error.status_code, str(error.detail)), headers=dict(error.headers or {}))
    problem.status = error.status_code
    problem.code = HTTPStatus(error.status_code).name.lower()
    return problem


def to_response(request: Request, problem: Problem) -> Response:
    """Problem+json; a page where the web UI registered a renderer and a browser asks for HTML."""
    render: Callable[[Request, Problem], Response] | None = getattr(request.app.state, "render_problem", None)
    if render and not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", ""):
        return render(request, problem)
    return JSONResponse(body_of(problem, request.url.path), problem.status, problem.headers, "application/problem+json")


def body_of(problem: Problem, path: str) -> dict[str, Any]:
    """The members of a problem document."""
    return {
        "type": f"urn:intramural:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "instance": path,
        "code": problem.code,
        "errors": problem.errors,
    }


class CatchUnexpected:
    """Innermost middleware: what nobody foresaw becomes a 500 problem.

    Exception texts may quote what a person sent or a database row, so only the type and the places in the code are
    logged, and Starlette's own handler, which logs the whole traceback, never sees it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            if scope["type"] != "http":
                raise
            places = " < ".join(f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)[:-9:-1])
            logger.error("%s at %s", type(error).__name__, places)
            if not started:
                problem = Unexpected("Something went wrong in the server; tell your administrator, the log says where.")
                await to_response(Request(scope), problem)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Register the one handler for every error that has a meaning for the caller."""

    async def handle(request: Request, error: Exception) -> Response:
        problem = translate(error)
        if problem is None:
            raise error
        return to_response(request, problem)

    for kind in (
        Problem,
        BadInput,
        IllegalTransition,
        RequestValidationError,
        HTTPException,
        OSError,
        IntegrityError,
        OperationalError,
    ):
        app.add_exception_handler(kind, handle)
    app.add_middleware(CatchUnexpected)
