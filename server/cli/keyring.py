"""Key files of the command line, where no server keeps them: ~/.config/intramural, mode 0600, made at first use."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from pipelines.keys import DerivationSecret, create_vault_key

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
