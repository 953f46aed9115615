"""Phrase lists as data: what names a finding, a line or a position in a report, and the cues around it.

A phrase is a row of words. `a|b` is either word, `word?` may be missing, `opacit*` is any ending, `...` is a gap of at
most GAP words within the sentence that holds no negation. Case does not matter.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput
from pipelines.label.sitefile import digest_of, read_toml
from pipelines.label.values import POSITIONS

DATA = Path(__file__).parent / "data"
FILES = ("findings.toml", "lines.toml", "cues.toml")
GAP = 6
# A gap never crosses these: the finding behind a "not" or a "but" is another statement.
BARRIERS = [".", ";", ":", "?", "!", "\n", "no", "not", "without", "nor", "but", "although", "however", "otherwise"]
STATES = ("present", "uncertain", "absent", "decoy")
OTHER = "Other"
ANY_LINE = "any"
CUES = ("negation", "uncertainty", "aside")
CUE_KEYS = ("before", "after", "pseudo", "stop")
_WORD = re.compile(r"[\w'/&+.-]+\*?")


@dataclass(frozen=True)
class Phrases:
    """The lists in force. `digest` names their content, so that a label can say what made it."""

    findings: dict[str, dict[str, list[str]]]
    """label -> `present` and `absent` -> phrases."""
    lines: dict[str, dict[str, list[str]]]
    """label -> `present` and `absent` -> phrases, and `normal`, `borderline`, `abnormal` -> phrases of position."""
    cues: dict[str, dict[str, list[str]]]
    """`negation`, `uncertainty`, `aside` -> `before`, `after`, `pseudo`, `stop` -> plain phrases."""
    version: str
    digest: str = field(default="")


def load_phrases(site: Path | None = None) -> Phrases:
    """The phrase lists of this version and, behind them, those of the site's own TOML file.

    The site's file has the same tables (`findings`, `lines`, `cues`); its phrases are added, and a label of its own
    becomes one more finding. BadInput names what is wrong in it.
    """
    values = _own() if site is None else _merged(_own(), read_toml(site, "phrase file"), site.name)
    return Phrases(values["findings"], values["lines"], values["cues"], str(values["version"]), digest_of(values))


@cache
def _own_text() -> str:
    merged: dict[str, Any] = {}
    for name in FILES:
        merged |= tomllib.loads((DATA / name).read_text(encoding="utf-8"))
    return json.dumps(merged)


def _own() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(_own_text())
    return values


def _merged(own: dict[str, Any], site: dict[str, Any], name: str) -> dict[str, Any]:
    """`own` with the lists of `site` appended, table by table."""
    allowed = {"findings": STATES, "lines": (*STATES, *POSITIONS), "cues": CUE_KEYS}
    if wrong := sorted(site.keys() - allowed.keys()):
        raise BadInput(f"The phrase file {name} has a table '{wrong[0]}'; it may have {', '.join(allowed)}.")
    for table, labels in site.items():
        if not isinstance(labels, dict) or not all(isinstance(lists, dict) for lists in labels.values()):
            raise BadInput(f"The phrase file {name}: '{table}' must hold a table for each label, as [{table}.LABEL].")
        for label, lists in labels.items():
            if table != "findings" and label not in own[table]:
                known = ", ".join(own[table])
                raise BadInput(f"The phrase file {name} names '{label}' under {table}; choose one of {known}.")
            mine = own[table].setdefault(label, {})
            for key, phrases in lists.items():
                _require_phrases(phrases, key, allowed[table], f"{table}.{label}", name)
                mine[key] = [*mine.get(key, []), *phrases]
    return own


def _require_phrases(phrases: Any, key: str, allowed: tuple[str, ...], where: str, name: str) -> None:
    if key not in allowed:
        raise BadInput(f"The phrase file {name} has '{key}' under {where}; it may have {', '.join(allowed)}.")
    if not isinstance(phrases, list) or not all(isinstance(p, str) and p.strip() for p in phrases):
        raise BadInput(f"The phrase file {name}: '{where}.{key}' must be a list of phrases.")
    if not where.startswith("cues"):
        for phrase in phrases:
            token_pattern(phrase)


def token_pattern(phrase: str) -> list[dict[str, Any]]:
    """spaCy's Matcher pattern of a phrase. BadInput when the phrase is not one."""
    pattern = [_token(word, phrase) for word in phrase.lower().split()]
    if not pattern or "LOWER" not in pattern[0] or pattern[0].get("OP") or phrase.endswith("..."):
        raise BadInput(f"The phrase '{phrase}' must begin with a word and end with one.")
    return pattern


def _token(word: str, phrase: str) -> dict[str, Any]:
    if word == "...":
        return {"LOWER": {"NOT_IN": BARRIERS}, "OP": f"{{0,{GAP}}}"}
    optional = word.endswith("?")
    choices = word.removesuffix("?").split("|")
    if not all(_WORD.fullmatch(c) for c in choices):
        raise BadInput(f"The phrase '{phrase}' holds '{word}', which is neither a word nor '...'.")
    if any(c.endswith("*") for c in choices):
        endings = "|".join(re.escape(c.removesuffix("*")) + r"\w*" * c.endswith("*") for c in choices)
        test: Any = {"REGEX": f"^(?:{endings})$"}
    else:
        test = {"IN": choices}
    return {"LOWER": test} | ({"OP": "?"} if optional else {})
