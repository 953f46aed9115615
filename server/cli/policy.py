"""Commands on policies: what one does with each attribute, what is wrong with a file, how two differ."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from pipelines.contract import EXIT_CODES, Outcome
from pipelines.deidentify.policy import Policy, load_policy, mistakes, read_policy
from pipelines.deidentify.table import Action, Ruling, rulings

Name = Annotated[str, typer.Argument(help="Preset or TOML file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
MEANINGS = {
    Action.KEEP: "keep", Action.REMOVE: "remove", Action.ZERO: "empty", Action.DUMMY: "dummy", Action.CLEAN: "clean",
    Action.UID: "replace UID",
}  # fmt: skip


def show(
    name: Name = "longitudinal-research",
    find: Annotated[str, typer.Option(help="Only attributes whose tag or name holds this.")] = "",
    as_json: Json = False,
) -> None:
    """Show a policy: its settings, and for each attribute the action and the rule it follows from."""
    policy = load_policy(name)
    found = [r for r in rulings(policy) if find.casefold() in f"{r.tag} {r.name}".casefold()]
    if as_json:
        _say(json.dumps({"digest": policy.digest, **_settings(policy), "attributes": [asdict(r) for r in found]}))
        return
    _say(f"{policy.name}: {policy.summary}\ndigest {policy.digest}\n")
    for key, value in _settings(policy).items():
        _say(f"  {key} = {json.dumps(value)}")
    _say("")
    for ruling in found:
        _say(_line(ruling))
    if not find:
        _say(
            "\nOther attributes of the data dictionary: numbers and defined terms are kept, sequences entered, UIDs\n"
            "and dates treated as above, texts removed. Attributes of no dictionary and other private ones are removed."
        )


def check(file: Name) -> None:
    """Check a policy file: every mistake at once, exit code 2; nothing wrong, exit code 0."""
    found = mistakes(read_policy(file))
    for mistake in found:
        print(mistake, file=sys.stderr)  # noqa: T201
    if found:
        raise typer.Exit(EXIT_CODES[Outcome.BAD_INPUT])
    policy = load_policy(file)
    _say(f"The policy {policy.name} is valid; its digest is {policy.digest}.")


def diff(one: Name, other: Name, as_json: Json = False) -> None:
    """Compare two policies: settings and attributes that they treat differently."""
    a, b = load_policy(one), load_policy(other)
    before, after = _settings(a), _settings(b)
    settings = {key: [before.get(key), after.get(key)] for key in before | after if before.get(key) != after.get(key)}
    old, new = ({(r.tag, r.name): r for r in rulings(p)} for p in (a, b))
    changed = [(old.get(k), new.get(k)) for k in old | new if _action(old.get(k)) != _action(new.get(k))]
    if as_json:
        pairs = [[asdict(r) if r else None for r in pair] for pair in changed]
        _say(json.dumps({"settings": settings, "attributes": pairs}))
        return
    for key, (left, right) in settings.items():
        _say(f"  {key}: {json.dumps(left)} -> {json.dumps(right)}")
    if changed:
        _say("")
    for left_ruling, right_ruling in changed:
        known = left_ruling or right_ruling
        if known:
            change = f"{_action(left_ruling)} -> {_action(right_ruling)}"
            _say(f"{known.tag:13} {change:24} {known.name}")
    _say(f"\n{len(settings)} settings and {len(changed)} attributes differ.")


def _line(ruling: Ruling) -> str:
    return f"{ruling.tag:13} {_action(ruling):12} {ruling.rule:40} {ruling.name}"


def _action(ruling: Ruling | None) -> str:
    if ruling and "Modified Dates" in ruling.rule:
        return "shift"
    return MEANINGS[ruling.action if ruling else Action.REMOVE]


def _settings(policy: Policy) -> dict[str, Any]:
    """What a policy file may say, flat: `options.dates` and the like."""
    flat: dict[str, Any] = {}
    for key, value in policy.model_dump(mode="json", exclude={"name", "summary"}).items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _say(text: str) -> None:
    print(text)  # noqa: T201


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    policy = typer.Typer(help="De-identification policies.", no_args_is_help=True)
    for command in (show, check, diff):
        policy.command()(command)
    app.add_typer(policy, name="policy")
