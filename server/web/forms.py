"""Forms: a form that is refused comes back with what was typed and the sentence above it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from server.errors import Problem, invalid_fields
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


def body_of(model: type[BaseModel], form: BaseModel | dict[str, Any]) -> Any:
    """The API's body for a form or its values: what is empty takes the body's defaults. Invalid says what is wrong."""
    try:
        values = form if isinstance(form, dict) else form.model_dump()
        return model.model_validate({k: v for k, v in values.items() if v not in ("", [])})
    except ValidationError as error:
        raise invalid_fields(list(error.errors())) from None
