"""Policies by name: those that come with the product, and those an administrator put into the folder of policies.

A server takes no policy by path from anybody: what data was released under is installed.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from server.errors import Invalid
from server.settings import Settings

DEFAULT = "longitudinal-research"


def presets() -> list[str]:
    """Names of the policies that come with the product."""
    folder = resources.files("pipelines.deidentify") / "policies"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def own(settings: Settings) -> dict[str, Path]:
    """The site's own policies by name. A preset's name stays the preset's; a house list beside them is no policy."""
    found = sorted(settings.policies.resolve().glob("*.toml")) if settings.policies else []
    return {p.stem: p for p in found if p.stem not in presets() and _is_policy(p)}


def installed(settings: Settings) -> list[str]:
    """Names of all policies that can be chosen."""
    return [*presets(), *own(settings)]


def check(name: str, settings: Settings) -> str:
    """`name` when it is installed; Invalid lists what is."""
    if name not in (known := installed(settings)):
        raise Invalid(f"There is no such policy; choose one of {', '.join(known)}.")
    return name


def place(name: str, settings: Settings) -> str:
    """What the stage is told: the name of a preset, the path of the site's own."""
    return str(own(settings).get(name, name))


def _is_policy(path: Path) -> bool:
    try:
        return any(line.split("=")[0].strip() == "name" for line in path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError):
        return False
