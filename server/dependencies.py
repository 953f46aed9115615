"""What routes ask for: the settings, one unit of work, the caller, and answers that can be repeated safely.

A route reads `def register(body: ExportIn, caller: Caller = allow(P.EXPORT_REGISTER), session: Session = WRITE)`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from server.access import Caller, Permission
from server.audit import head, recorded
from server.errors import Conflict, Invalid, Problem, Unauthenticated
from server.security import identity
from server.security.crosssite import SAFE
from server.settings import Settings
from server.store.db import Database
from server.store.models import IdempotencyKey, now

logger = logging.getLogger("intramural")
KEPT = timedelta(hours=24)


def get_settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def get_database(request: Request) -> Database:
    return cast(Database, request.app.state.database)


SettingsDep = Annotated[Settings, Depends(get_settings)]
DatabaseDep = Annotated[Database, Depends(get_database)]


def get_session(request: Request, settings: SettingsDep, db: DatabaseDep) -> Iterator[Session]:
    """One unit of work per request: committed once, after the route and before the response is sent.

    A write that left no audit row is a mistake in the program and is rolled back. A problem with `keep` set commits
    what it noted (a refused sign-in) although it is an error.
    """
    if request.method in SAFE:
        with db.reading() as session:
            yield session
        return
    problem: Problem | None = None
    with db.session() as session:
        try:
            yield session
        except Problem as error:
            if not error.keep:
                raise
            problem = error
        if not recorded(session) and not session.info.get("repeated"):
            raise RuntimeError(f"{request.method} {request.url.path} left no audit row")
    if recorded(session):
        try:
            head.advance(db, settings)
        except OSError as error:  # the chain itself is committed; the next write signs it
            logger.error("The head of the audit log could not be written (%s).", type(error).__name__)
    if problem:
        raise problem


# Function scope: otherwise FastAPI would commit only after the response was sent.
SessionDep = Annotated[Session, Depends(get_session, scope="function")]


def get_caller(request: Request, settings: SettingsDep, db: DatabaseDep) -> Caller:
    """Who sent the request, from a unit of work of its own, so that no lock is held between here and the route."""
    with db.reading() as session:
        caller, stale = identity.authenticate(session, request, settings)
    if stale:
        with db.session() as session:
            identity.touch(session, caller)
    return caller


def allow(permission: Permission) -> Any:
    """The dependency that lets a route be called by who has `permission`, and hands it the Caller."""

    def check(caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
        if caller.anonymous and permission is not Permission.PUBLIC:
            raise Unauthenticated("Sign in, or send a token.", headers={"WWW-Authenticate": "Bearer"})
        caller.require(permission)
        return caller

    check.permission = permission  # type: ignore[attr-defined] # read by server.app and the tests
    return Depends(check)


class Once:
    """Answers a repeated POST with the same Idempotency-Key as the first one, without doing it again."""

    def __init__(self, request: Request, session: Session, caller: Caller, key: str | None) -> None:
        self._request, self._session, self._caller, self._key = request, session, caller, key

    def __call__(self, body: BaseModel | None, create: Callable[[], BaseModel], status: int = 201) -> JSONResponse:
        """The response to `create()`, or the stored one. Conflict while the first is still at work."""
        if self._key is None:
            return JSONResponse(create().model_dump(mode="json"), status)
        row = self._stored(self._digest(body))
        if row.status is None:
            answer = create().model_dump(mode="json")
            row.status, row.body = status, answer
        return JSONResponse(row.body, row.status)

    def _stored(self, digest: str) -> IdempotencyKey:
        who = self._caller.token_id or self._caller.user_id or ""
        self._session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now() - KEPT))
        row = self._session.scalar(
            select(IdempotencyKey).where(IdempotencyKey.caller == who, IdempotencyKey.key == self._key)
        )
        if row is None:
            row = IdempotencyKey(caller=who, key=self._key, request=digest)
            try:
                with self._session.begin_nested():
                    self._session.add(row)
            except IntegrityError:
                raise Conflict("The same request is being answered now; wait for that answer.") from None
        elif row.request != digest:
            raise Invalid("This Idempotency-Key was used for another request; take a new one.")
        else:
            self._session.info["repeated"] = True
        return row

    def _digest(self, body: BaseModel | None) -> str:
        content = [self._request.method, self._request.url.path, body.model_dump(mode="json") if body else None]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def get_once(
    request: Request,
    session: SessionDep,
    caller: Annotated[Caller, Depends(get_caller)],
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Once:
    return Once(request, session, caller, idempotency_key)


OnceDep = Annotated[Once, Depends(get_once, scope="function")]
