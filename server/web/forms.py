"""Forms: a form that is refused comes back with what was typed and the sentence above it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from server.errors import Problem
from server.store.db import Database


class FormData(BaseModel):
    """Base of a form's fields, all text as a browser sends it."""

    model_config = ConfigDict(extra="ignore", str_strip_whitespace=True)


class Typed(dict[str, Any]):
    """What was typed, for the template: a missing field is empty."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name, "")


def again_on_problem(request: Request, form: BaseModel, show: Callable[..., Response]) -> None:
    """Should this request end in a problem, answer with `show(session, typed, problem)` instead of a bare page."""

    def again(problem: Problem) -> Response:
        database: Database = request.app.state.database
        with database.reading() as session:
            return show(session, Typed(form.model_dump()), problem)

    request.state.form_again = again


def whole(text: str) -> int | None:
    """A number field: empty is None, anything but digits is left for the spec to refuse."""
    return int(text) if text.lstrip("-").isdigit() else None


Show = Callable[[Session, Typed, Problem | None], Response]
