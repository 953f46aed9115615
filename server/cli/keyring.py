"""Key files of the command line, where no server keeps them: ~/.config/intramural, mode 0600, made at first use."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from pipelines.contract import BadInput
from pipelines.keys import DerivationSecret, create_vault_key, load_vault_key
from server.settings import Settings

console = Console(stderr=True)


def folder() -> Path:
    """XDG_CONFIG_HOME/intramural, or ~/.config/intramural."""
    return Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "intramural"


def derivation_secret(given: Path | None) -> Path:
    """The secret file to use; a missing one is made, and the person is told to keep it."""
    path = given or folder() / "derivation.key"
    if not path.exists():
        DerivationSecret.create(path)
        console.print(f"Made a new derivation secret, {path}. Every pseudonym follows from it: keep a copy in a safe.")
    return path.resolve()


def vault_key(secret: Path) -> Path:
    """The vault key that goes with a secret file: beside it, with the ending `.vault`."""
    path = secret.with_name(secret.name + ".vault")
    if not path.exists():
        create_vault_key(path)
        console.print(f"Made a new vault key, {path}. It opens the crosswalk: keep it apart from the data.")
    return path


def open_vault(out: Path, secret: Path | None, vault_key: Path | None) -> bytes:
    """The vault key for a finished folder: as given, the control plane's for a folder of its own, or the one beside
    the secret. Nothing is made here: a key that is not there yet opens nothing.
    """
    path = vault_key
    if path is None:
        plane = None if secret else control_plane(out)
        beside = secret or folder() / "derivation.key"
        path = plane.vault_key if plane else beside.with_name(beside.name + ".vault")
    if not path.exists():
        raise BadInput(f"The vault key {path.name} is not there; give --vault-key, or --secret beside which it lies.")
    return load_vault_key(path)


def control_plane(out: Path) -> Settings | None:
    """The settings of the control plane on this machine when `out` lies in its data root."""
    settings = Settings()
    holds = out.resolve().is_relative_to(settings.root)
    return settings if holds and (settings.database_url or (settings.root / "intramural.db").exists()) else None


def signing_settings() -> Settings:
    """Where the command line keeps the key pair it signs with, outside a control plane."""
    return Settings(secrets=folder(), release_key=folder() / "release.key")
