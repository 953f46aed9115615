"""The control plane: settings in, an ASGI application out. `uvicorn --factory server.app:create_app`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from fastapi.telemetry import TelemetryConfig

from pipelines import __version__
from pipelines.contract import BadInput
from pipelines.keys import create_vault_key
from server import api, errors, health
from server.access import Permission
from server.security import identity, signing
from server.security.bodylimit import BodyLimit
from server.security.crosssite import CrossSiteCheck
from server.security.headers import SecurityHeaders
from server.services.sign_in import ensure_setup_link
from server.settings import Settings
from server.store import migrate
from server.store.db import Database
from server.web import render

logger = logging.getLogger("intramural")
# Off altogether: it would record the messages of exceptions, and an environment variable could export them.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def prepare(settings: Settings) -> str | None:
    """Everything a first start makes: data root, keys, database. Returns the set-up link while there is no user.

    BadInput when a folder cannot be written or the database does not answer.
    """
    try:
        settings.root.mkdir(parents=True, exist_ok=True)
        settings.secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        signing.ensure_key_pair(settings)
        _ensure_vault_key(settings)
    except OSError as error:
        raise BadInput(
            f"{error.filename or settings.root} cannot be written; check INTRAMURAL_DATA, INTRAMURAL_SECRETS, "
            "INTRAMURAL_RELEASE_KEY and who may write there."
        ) from None
    migrate.upgrade(settings.database)
    db = Database(settings.database)
    try:
        return ensure_setup_link(db, settings)
    finally:
        db.engine.dispose()


def _ensure_vault_key(settings: Settings) -> None:
    if not settings.vault_key.exists():
        try:
            create_vault_key(settings.vault_key)
        except BadInput:
            if not settings.vault_key.exists():  # else another process was first
                raise


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application, its data root prepared. Refuses to start when a route declares no permission."""
    settings = settings or Settings()
    link = prepare(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if link:
            logger.warning("First start: open %s to create the administrator. The link works once.", link)
        yield
        app.state.database.engine.dispose()

    app = FastAPI(
        title="Intramural",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
    )
    app.state.settings = settings
    app.state.database = Database(settings.database)
    app.include_router(health.router)
    app.include_router(api.router())
    render.install(app)
    errors.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(CrossSiteCheck, own=settings.url)
    app.add_middleware(SecurityHeaders, https=identity.secure(settings))
    require_permissions(app)
    return app


def require_permissions(app: FastAPI) -> None:
    """Raise unless every route declares who may call it; called again by whoever adds routes."""
    for route in iter_route_contexts(app.routes):
        if permission_of(route) is None:
            raise RuntimeError(f"The route {route.path} declares no permission; add `allow(...)` to it.")


def permission_of(route: RouteContext) -> Permission | None:
    """What a route declares through `dependencies.allow`. Mounted files are public: they hold no data."""
    if not hasattr(route, "dependant"):
        return Permission.PUBLIC if route.path == "/static" else None
    return _declared(route.dependant)


def _declared(dependant: Dependant) -> Permission | None:
    for child in dependant.dependencies:
        found = getattr(child.call, "permission", None) or _declared(child)
        if found is not None:
            return Permission(found)
    return None
