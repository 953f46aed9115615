"""From a stage's spec to the body of its REST call and back: ids where the spec has paths.

`body_model(Spec)` makes the body: a field marked `Ref("cohort")` carries an id, `Ref("internal")` fields are left out,
everything else stays as it is. `resolve` turns the ids into absolute paths, and nothing else in a body can become one.
"""

from __future__ import annotations

import typing
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model
from pydantic.fields import FieldInfo
from sqlalchemy.orm import Session

from pipelines.contract import Ref
from server.access import REFERENCES, Caller
from server.errors import Conflict, Forbidden, Invalid, NotFound, invalid_fields
from server.settings import Settings
from server.store.models import Base, Cohort, Export, LabelRun, Model

Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
RESOURCES: dict[str, type[Base]] = {
    "export": Export,
    "deid": Export,
    "labels": LabelRun,
    "cohort": Cohort,
    "model": Model,
}
_WORDS = {"deid": "export", "labels": "label run"}
# A body field that is not a reference may name a preset or a label, never a place on disk.
_PATH_LIKE = ("/", "\\", "..", "~")


class Body(BaseModel):
    """Base of every request body: unknown keys are problems."""

    model_config = ConfigDict(extra="forbid")


class Named(Body):
    """Envelope of what makes a resource."""

    name: Name


class Launch(Named):
    """Envelope of what may run on GPUs: how many to lease, and ranks to start (torchrun above 1)."""

    gpus: int = Field(0, ge=0, le=64)
    processes: int = Field(1, ge=1, le=64)


@cache
def body_model(
    spec: type[BaseModel], envelope: type[Body] = Named, leave_out: frozenset[str] = frozenset()
) -> type[Body]:
    """The request body of a stage: `envelope` plus the spec's fields that a caller may give.

    `leave_out` names fields that the address of the call already gives. A bare path in a spec is a mistake of whoever
    wrote the stage and raises TypeError.
    """
    fields: dict[str, Any] = {}
    for name, info in spec.model_fields.items():
        kind = reference(info)
        if kind == "internal" or name in leave_out:
            continue
        if kind is None and _mentions_path(info.annotation):
            raise TypeError(f"{spec.__module__}: the field '{name}' is a path without a Ref")
        fields[name] = (
            _annotation(info, kind),
            ... if info.is_required() else info.get_default(call_default_factory=True),
        )
    stage = spec.__module__.removesuffix(".spec").rpartition(".")[2].capitalize()
    title = f"{stage if spec.__name__ == 'Spec' else spec.__name__}Body"
    return create_model(title, __base__=envelope, **fields)


def reference(info: FieldInfo) -> str | None:
    """The kind of resource that a spec field refers to."""
    return next((m.kind for m in info.metadata if isinstance(m, Ref)), None)


def _annotation(info: FieldInfo, kind: str | None) -> Any:
    others = tuple(m for m in info.metadata if not isinstance(m, Ref))
    annotation: Any = info.annotation
    if kind is not None:
        single: Any = Name if kind == "weights" else Id
        if typing.get_origin(annotation) is tuple:
            annotation = GenericAlias(tuple, (single, ...))
        else:
            annotation = single | None if type(None) in typing.get_args(annotation) else single
    return Annotated[annotation, *others] if others else annotation


def _mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(_mentions_path(a) for a in typing.get_args(annotation))


def resolve(
    session: Session,
    spec: type[BaseModel],
    body: Body,
    caller: Caller,
    settings: Settings,
    internal: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The stage's full spec as JSON: ids become absolute paths after existence, state and role are checked.

    `internal` gives the fields that only the server fills. Raises NotFound, Conflict (not ready, not released),
    Forbidden or Invalid (a path where none may be, a value the stage refuses).
    """
    values: dict[str, Any] = dict(internal or {})
    for name, info in spec.model_fields.items():
        kind = reference(info)
        if name in values or name not in type(body).model_fields:
            continue
        value = getattr(body, name)
        if kind is None:
            _refuse_paths(name, value)
        elif kind == "weights" and value is not None:
            value = below(value, settings.weights_roots, "weights", directory=False)
        elif value is not None:
            value = _paths(session, kind, value, caller, settings)
        values[name] = value
    if "workers" in type(body).model_fields and "workers" not in body.model_fields_set:
        values["workers"] = settings.stage_workers
    try:
        return spec.model_validate(values).model_dump(mode="json")
    except ValidationError as error:  # what no single field shows: two that do not go together
        raise invalid_fields(list(error.errors())) from None


def _paths(session: Session, kind: str, value: Any, caller: Caller, settings: Settings) -> Any:
    if isinstance(value, tuple | list):
        if len(set(value)) != len(value):
            raise Invalid(f"The same {kind} is named twice; name it once.")
        return [_path(session, kind, v, caller, settings) for v in value]
    return _path(session, kind, value, caller, settings)


def _path(session: Session, kind: str, id_: str, caller: Caller, settings: Settings) -> Path:
    """The absolute path of a resource that the caller may use now."""
    caller.require(REFERENCES[kind])
    row: Any = session.get(RESOURCES[kind], id_)
    if row is None:
        raise NotFound(f"There is no {_WORDS.get(kind, kind)} {id_}; check the id.")
    if kind == "export":
        return below(row.path, settings.export_roots, "export")
    wanted = "released" if kind == "deid" else "ready"
    if row.state != wanted:
        if kind == "deid":
            raise Conflict(f"The export {id_} is not released; a privacy officer must review and release it first.")
        raise Conflict(f"The {_WORDS.get(kind, kind)} {id_} is not ready; wait for its job to finish.")
    return settings.root / str(row.folder)


def _refuse_paths(name: str, value: Any) -> None:
    for item in value if isinstance(value, tuple | list) else (value,):
        if isinstance(item, str) and any(mark in item for mark in _PATH_LIKE):
            raise Invalid(f"'{name}' may not be a path; give a name or an id.", errors=[_field(name)])


def _field(name: str) -> dict[str, str]:
    return {"field": name, "message": "A path is not allowed here."}


def below(value: str | Path, roots: list[Path], what: str, *, directory: bool = True) -> Path:
    """The real path of `value` when it exists below one of the configured roots; links are followed first."""
    if not roots:
        raise Forbidden(f"No {what} roots are configured; an administrator sets INTRAMURAL_{what.upper()}_ROOTS.")
    # The same sentence for "elsewhere" and "does not exist", so that nothing outside the roots can be probed.
    refused = Invalid(f"The {what} path must exist below one of the configured {what} roots; check it.")
    try:
        path = Path(value)
        real = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise refused from None
    if not path.is_absolute() or not any(real.is_relative_to(root.resolve()) for root in roots):
        raise refused
    if directory and not real.is_dir():
        raise Invalid(f"The {what} path must be a folder.")
    return real
