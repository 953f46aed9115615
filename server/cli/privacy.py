"""Commands of the privacy officer: look into the quarantine, verify the audit log."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.contract import BadInput
from pipelines.deidentify.reasons import REASONS
from server.audit import Action
from server.cli import keyring, notes
from server.settings import Settings

console = Console(stderr=True)
Folder = Annotated[Path, typer.Argument(help="De-identified folder.")]
Data = Annotated[Path | None, typer.Option(help="Data root; none takes INTRAMURAL_DATA or ./data.")]


def quarantine_list(
    out: Folder,
    reason: Annotated[str, typer.Option(help="Why you need to know; it is recorded.")],
    secret: Annotated[Path | None, typer.Option(help="File of the site's derivation secret.")] = None,
    vault_key: Annotated[Path | None, typer.Option(help="Vault key; none takes the one beside the secret.")] = None,
) -> None:
    """List the quarantine with the real path of each input. Needs the vault key and a reason."""
    from pipelines.deidentify.vault import resolve_sources

    why = notes.require_reason(reason)
    paths = resolve_sources(out, keyring.open_vault(out, secret, vault_key))
    notes.note(Action.QUARANTINE_RESOLVE, out, why)
    with (out / "quarantine.csv").open(newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            means = REASONS.get(row["reason"], row["reason"])
            print(f"{paths.get(row['source_id'], row['source_id'])}\t{row['reason']}\t{means}")  # noqa: T201


def audit_verify(data: Data = None) -> None:
    """Check the hash chain of the audit log against its signed head."""
    from server.audit import head
    from server.audit.log import verify
    from server.store import Database

    settings = Settings() if data is None else Settings(data=data)
    with Database(settings.database).session() as session:
        verdict = verify(session, head.read(settings))
    if not verdict.ok:
        raise BadInput(f"{verdict.reason} (row {verdict.broken or 'unknown'} of the audit log)")
    console.print(f"{verdict.rows} rows. {verdict.reason}", highlight=False)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    quarantine = typer.Typer(help="What could not be processed safely.", no_args_is_help=True)
    quarantine.callback()(lambda: None)
    quarantine.command("list")(quarantine_list)
    app.add_typer(quarantine, name="quarantine")
    audit = typer.Typer(help="The audit log.", no_args_is_help=True)
    audit.callback()(lambda: None)
    audit.command("verify")(audit_verify)
    app.add_typer(audit, name="audit")
