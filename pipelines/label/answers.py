"""What a language model may answer: one JSON object of a schema made from its prompt's names. All else is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, Protocol, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator

from pipelines.label.values import ABSENT, DEVICES, NO_FINDING, POSITIONS, WORDS, Label, strongest

VALUES = {word: value for value, word in WORDS.items()}
THOUGHT = "</think>"
MOST_ERRORS = 3


class Refused(Exception):
    """An answer that cannot be used. `reason` is a code for the table of studies; the message is for the model alone,
    because it may quote what the model wrote."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Answer(Protocol):
    """What the schema gives."""

    values: dict[str, str]
    positions: dict[str, str]


class Answers:
    """Reads answers about these findings and lines."""

    def __init__(self, findings: Iterable[str], lines: Iterable[str]) -> None:
        self.findings, self.lines = tuple(findings), tuple(lines)
        self.schema = _schema(self.findings, self.lines)

    def read(self, text: str) -> list[Label]:
        """The labels of an answer, in the order of the prompt; Refused says what is wrong with it.

        A fence or a word around the object is overlooked, a second object is not: which of the two is meant?
        """
        value = _only_object(text.rpartition(THOUGHT)[2])
        try:
            answer: Any = self.schema.model_validate(value)
        except ValidationError as error:
            raise Refused("answer_not_valid", _sentence(error)) from None
        return self._labels(answer)

    def _labels(self, answer: Answer) -> list[Label]:
        values = {name: VALUES[word] for name, word in answer.values.items()}
        if lines := [values[name] for name in self.lines if name in values]:
            values[DEVICES] = strongest((*lines, values.get(DEVICES, ABSENT)))
        return [Label(n, values[n], answer.positions.get(n)) for n in (*self.findings, *self.lines) if n in values]


def _schema(findings: tuple[str, ...], lines: tuple[str, ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "values": (_pairs((*findings, *lines), tuple(VALUES)), ...),
        "positions": (_pairs(lines, POSITIONS), {}),
    }

    def agrees(answer: Any) -> Any:
        _require_sense(answer, frozenset(lines))
        return answer

    return create_model(
        "Answer",
        __config__=ConfigDict(extra="forbid", strict=True),
        __validators__={"agrees": cast(Any, model_validator(mode="after")(agrees))},
        **fields,
    )


def _pairs(keys: tuple[str, ...], values: tuple[str, ...]) -> Any:
    """The type of an object that holds some of these keys, each with one of these values."""
    mapping: Any = dict
    one_of: Any = Literal
    return mapping[one_of[keys], one_of[values]]


def _require_sense(answer: Answer, lines: frozenset[str]) -> None:
    """ValueError where an answer contradicts itself."""
    if answer.values.get(NO_FINDING) not in ("present", "absent"):
        raise ValueError(f'"values" must say whether "{NO_FINDING}" is present or absent')
    others = {n for n, word in answer.values.items() if word != "absent"} - {NO_FINDING, DEVICES} - lines
    if others and answer.values[NO_FINDING] == "present":
        raise ValueError(f'"{NO_FINDING}" cannot be present beside "{min(others)}"')
    if misplaced := [n for n in answer.positions if answer.values.get(n) != "present"]:
        raise ValueError(f'"positions" names "{misplaced[0]}", which is not present in "values"')


def _only_object(text: str) -> Any:
    start = text.find("{")
    if start < 0:
        raise Refused("answer_not_json", "It holds no JSON object.")
    try:
        value, end = json.JSONDecoder(object_pairs_hook=_no_name_twice).raw_decode(text, start)
    except ValueError as error:
        raise Refused("answer_not_json", f"It is not valid JSON ({error}).") from None
    if "{" in text[end:]:
        raise Refused("answer_not_json", "It holds more than one JSON object.")
    return value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _sentence(error: ValidationError) -> str:
    """The first mistakes in one sentence."""
    found = error.errors(include_url=False, include_input=False)[:MOST_ERRORS]
    return "; ".join(f"{' '.join(map(str, e['loc'])) or 'the object'}: {e['msg']}" for e in found) + "."
