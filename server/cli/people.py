"""Commands of the administrator: people and tokens."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.contract import BadInput
from server.access import COMMAND_LINE, Role
from server.audit import head
from server.errors import Problem
from server.services import people
from server.settings import Settings
from server.store import Database
from server.store.models import now

console = Console(stderr=True)
Data = Annotated[Path | None, typer.Option(help="Data root; none takes INTRAMURAL_DATA or ./data.")]
Roles = Annotated[list[Role], typer.Option("--role", help="May be given several times.")]


def _settings(data: Path | None) -> Settings:
    return Settings() if data is None else Settings(data=data)


def user_add(
    name: Annotated[str, typer.Argument(help="Name to sign in with.")],
    role: Roles,
    service: Annotated[bool, typer.Option("--service", help="A service account: tokens only, no password.")] = False,
    data: Data = None,
) -> None:
    """Add a person, or a service account for scripts."""
    password = None
    if not service:
        password = typer.prompt("Password (at least 12 characters)", hide_input=True, confirmation_prompt=True)
    settings = _settings(data)
    db = Database(settings.database)
    try:
        with db.session() as session:
            people.create_user(session, COMMAND_LINE, name=name, roles=role, password=password)
    except Problem as problem:
        raise BadInput(problem.detail) from None
    head.advance(db, settings)
    console.print(f"Added {name}.", highlight=False)


def token_create(
    user: Annotated[str, typer.Argument(help="Whose token it is.")],
    role: Roles,
    name: Annotated[str, typer.Option(help="What the token is for.")] = "command line",
    days: Annotated[int, typer.Option(help="Days until it expires.", min=1, max=366)] = 90,
    data: Data = None,
) -> None:
    """Create a token for scripts; it is printed once."""
    settings = _settings(data)
    db = Database(settings.database)
    try:
        with db.session() as session:
            owner = people.find_user(session, user)
            if owner is None:
                raise BadInput(f"There is no user {user}; add it with: intramural user add {user}")
            until = now() + timedelta(days=days)
            _, secret = people.create_token(session, COMMAND_LINE, name=name, roles=role, expires_at=until, user=owner)
    except Problem as problem:
        raise BadInput(problem.detail) from None
    head.advance(db, settings)
    print(secret)  # noqa: T201 - the one output, for a script to keep


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    user = typer.Typer(help="People and service accounts.", no_args_is_help=True)
    user.callback()(lambda: None)
    user.command("add")(user_add)
    app.add_typer(user, name="user")
    token = typer.Typer(help="Tokens for scripts.", no_args_is_help=True)
    token.callback()(lambda: None)
    token.command("create")(token_create)
    app.add_typer(token, name="token")
