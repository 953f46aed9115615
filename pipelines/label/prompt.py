"""The prompt of the language model: text as data, with a digest that every label carries."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines import tables
from pipelines.contract import BadInput
from pipelines.label.answers import Answers, Refused
from pipelines.label.phrases import DATA
from pipelines.label.sitefile import digest_of, read_toml

TABLES = ("findings", "lines")
Message = dict[str, str]


class Example(BaseModel):
    model_config = ConfigDict(extra="forbid")
    report: str
    answer: str


class Content(BaseModel):
    """What a prompt file holds."""

    model_config = ConfigDict(extra="forbid")
    version: str = Field(pattern=r"^[\w.-]{1,40}$")
    task: str
    ask: str
    again: str
    findings: dict[str, str]
    lines: dict[str, str]
    examples: list[Example] = []


@dataclass(frozen=True)
class Prompt:
    """The prompt in force. `digest` names its content, so that a label can say what made it."""

    content: Content
    digest: str

    @property
    def answers(self) -> Answers:
        """Reads what the model answers to this prompt."""
        return Answers(self.content.findings, self.content.lines)

    def messages(self, report: str, refused: tuple[str, str] | None = None) -> list[Message]:
        """The conversation for a report; `refused` is the last answer and what was wrong with it.

        The task stands in front of the first question and not in a message of the system, which not every chat
        template has.
        """
        said: list[Message] = []
        for example in self.content.examples:
            said += [_user(self._ask(example.report)), _assistant(example.answer)]
        said.append(_user(self._ask(report)))
        said[0] = _user(f"{self._task()}\n\n{said[0]['content']}")
        if refused:
            answer, error = refused
            said += [_assistant(answer), _user(self.content.again.replace("{error}", error))]
        return said

    def _ask(self, report: str) -> str:
        return self.content.ask.replace("{report}", report.strip())

    def _task(self) -> str:
        task = self.content.task.strip()
        for name in TABLES:
            listed = (f'- "{label}": {meaning}' for label, meaning in getattr(self.content, name).items())
            task = task.replace(f"{{{name}}}", "\n".join(listed))
        return task


def load_prompt(site: Path | None = None) -> Prompt:
    """The prompt of this version, or with what the site's own TOML file adds and replaces. BadInput names a mistake."""
    values = tomllib.loads((DATA / "prompt.toml").read_text(encoding="utf-8"))
    if site is not None:
        own = read_toml(site, "prompt")
        for name in TABLES:
            if isinstance(own.get(name), dict):
                own[name] = values[name] | own[name]
        values |= own
    try:
        content = Content.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"'{'.'.join(map(str, e['loc']))}': {e['msg'].lower()}" for e in error.errors())
        raise BadInput(f"The prompt {_name(site)} is not valid: {wrong}.") from None
    _require_use(content, _name(site))
    return Prompt(content, digest_of(values))


def _require_use(content: Content, name: str) -> None:
    """BadInput when a prompt does not ask what it must, or when its own examples would be refused."""
    for key, wanted in (("ask", "{report}"), ("again", "{error}"), ("task", "{findings}"), ("task", "{lines}")):
        if wanted not in getattr(content, key):
            raise BadInput(f"The prompt {name} must have {wanted} in '{key}'.")
    if unknown := sorted(content.lines.keys() - set(tables.LINES)):
        known = ", ".join(tables.LINES)
        raise BadInput(f"The prompt {name} names '{unknown[0]}' under lines; choose among {known}.")
    for number, example in enumerate(content.examples, 1):
        try:
            Answers(content.findings, content.lines).read(example.answer)
        except Refused as refused:
            raise BadInput(f"The answer of example {number} of the prompt {name} is not one: {refused}") from None


def _name(site: Path | None) -> str:
    return site.name if site else "of this version"


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
