"""Commands of the privacy officer: review and release a folder, look into the quarantine, verify the audit log."""

from __future__ import annotations

import csv
import getpass
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.contract import BadInput, read_json, write_atomic
from pipelines.deidentify.reasons import REASONS
from pipelines.keys import load_vault_key
from pipelines.release import folder_digest
from server.cli import keyring
from server.settings import Settings
from server.store.models import now

console = Console(stderr=True)
Folder = Annotated[Path, typer.Argument(help="De-identified folder.")]
Data = Annotated[Path | None, typer.Option(help="Data root; none takes INTRAMURAL_DATA or ./data.")]


def review(
    out: Folder,
    release: Annotated[bool, typer.Option("--release", help="Sign the release.")] = False,
    reviewer: Annotated[str, typer.Option(help="Who releases.")] = "",
    purpose: Annotated[str, typer.Option(help="What the data may be used for.")] = "",
    approval: Annotated[str, typer.Option(help="Approval number.")] = "",
) -> None:
    """Show what a privacy officer looks at; with --release, sign the verdict.

    For a folder outside a control plane. What a server holds is released there, by a person with that role.
    """
    result = read_json(out / "result.json")
    _show(out, result)
    if not release:
        return
    if not (reviewer and purpose and approval):
        raise BadInput("A release needs --reviewer, --purpose and --approval; give all three.")
    from server.security import signing

    settings = Settings(secrets=keyring.folder(), release_key=keyring.folder() / "release.key")
    signing.ensure_key_pair(settings)
    body = {
        "verdict": "released",
        "digest": folder_digest(out),
        "policy": result["policy"],
        "purpose": purpose,
        "approval": approval,
        "reviewer": reviewer,
        "time": now().isoformat(timespec="seconds") + "Z",
    }
    write_atomic(out / "release.json", json.dumps(signing.sign(body, settings), ensure_ascii=False, indent=1) + "\n")
    _note("export:release", out, f"approval {approval}")
    console.print(f"Released and signed: {out / 'release.json'}", highlight=False)


def _show(out: Path, result: dict[str, Any]) -> None:
    counts = result["counts"]
    table = Table("Inputs", "Count", title=None)
    for label, key in (("files read", "files"), ("images written", "images_written"), ("patients", "patients")):
        table.add_row(label, f"{counts[key]:,}")
    table.add_row("reports", f"{counts['reports']:,}")
    table.add_row("duplicates, counted once", f"{counts['duplicates']:,}")
    for reason, number in sorted(counts["quarantined"].items()):
        table.add_row(f"quarantined: {reason}", f"{number:,}")
    console.print(table)
    console.print(f"Images to look at: {out / 'dicom'}. Report texts: {out / 'reports.parquet'}.", highlight=False)


def quarantine_list(
    out: Folder,
    reason: Annotated[str, typer.Option(help="Why you need to know; it is recorded.")],
    secret: Annotated[Path | None, typer.Option(help="File of the site's derivation secret.")] = None,
    vault_key: Annotated[Path | None, typer.Option(help="Vault key; none takes the one beside the secret.")] = None,
) -> None:
    """List the quarantine with the real path of each input. Needs the vault key and a reason."""
    from pipelines.deidentify.vault import resolve_sources

    if not reason.strip():
        raise BadInput("Give a reason: it is recorded with your name.")
    key = load_vault_key(vault_key or keyring.vault_key(keyring.derivation_secret(secret)))
    paths = resolve_sources(out, key)
    _note("quarantine:resolve", out, reason)
    with (out / "quarantine.csv").open(newline="", encoding="utf-8") as f:
        for row in csv.DictReader(f):
            means = REASONS.get(row["reason"], row["reason"])
            print(f"{paths.get(row['source_id'], row['source_id'])}\t{row['reason']}\t{means}")  # noqa: T201


def _note(action: str, folder: Path, reason: str) -> None:
    """One line in the key folder's own log: who asked what of which folder, and why."""
    keyring.folder().mkdir(parents=True, exist_ok=True)
    record = {
        "time": now().isoformat(timespec="seconds") + "Z",
        "who": getpass.getuser(),
        "action": action,
        "folder": folder_digest(folder),
        "reason": reason,
    }
    with (keyring.folder() / "audit.jsonl").open("a", encoding="utf-8") as f:
        f.write(json.dumps(record, ensure_ascii=False) + "\n")


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
    app.command()(review)
    quarantine = typer.Typer(help="What could not be processed safely.", no_args_is_help=True)
    quarantine.callback()(lambda: None)
    quarantine.command("list")(quarantine_list)
    app.add_typer(quarantine, name="quarantine")
    audit = typer.Typer(help="The audit log.", no_args_is_help=True)
    audit.callback()(lambda: None)
    audit.command("verify")(audit_verify)
    app.add_typer(audit, name="audit")
