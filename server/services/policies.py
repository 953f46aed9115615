"""Policies by the name of their preset. A server takes no policy by path: what data was released under is installed."""

from __future__ import annotations

from importlib import resources

from server.errors import Invalid

DEFAULT = "longitudinal-research"


def presets() -> list[str]:
    """Names of the installed policies."""
    folder = resources.files("pipelines.deidentify") / "policies"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def check(name: str) -> str:
    """`name` when it is installed; Invalid lists what is."""
    if name not in presets():
        raise Invalid(f"There is no such policy; choose one of {', '.join(presets())}.")
    return name
