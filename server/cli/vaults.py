"""Commands for what only the keys open: who a pseudonym is, another vault key, another epoch of a derivation secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy import select

from pipelines.contract import BadInput
from pipelines.deidentify.vault import Crosswalk, crosswalk_parts, rewrap_folder
from pipelines.keys import DerivationSecret, create_vault_key, load_vault_key
from server.access import COMMAND_LINE
from server.audit import Action, head
from server.cli import keyring, notes
from server.jobs.states import LIVE
from server.services import sites
from server.settings import Settings
from server.store import Database
from server.store.models import Job, Site

console = Console(stderr=True)
Reason = Annotated[str, typer.Option(help="Why you need it; it is recorded with your name. No patient details.")]
Secret = Annotated[Path | None, typer.Option(help="File of the site's derivation secret.")]
VaultKey = Annotated[Path | None, typer.Option(help="Vault key; none takes the one beside the secret.")]


def reidentify(
    out: Annotated[Path, typer.Argument(help="De-identified folder.")],
    pseudonyms: Annotated[list[str], typer.Argument(help="Patient or accession pseudonyms, or new UIDs.")],
    reason: Reason,
    secret: Secret = None,
    vault_key: VaultKey = None,
) -> None:
    """Say who or what a pseudonym stands for. Needs the vault key and a reason; every question is recorded."""
    key, why = keyring.open_vault(out, secret, vault_key), notes.require_reason(reason)
    wanted = list(dict.fromkeys(p.strip() for p in pseudonyms))
    parts = crosswalk_parts(out, key)
    first = next(parts)  # a wrong key or folder is told before anything is noted
    notes.note(Action.REIDENTIFY, out, why, pseudonyms=wanted)
    answers: dict[str, dict[str, object]] = {}
    for part in (first, *parts):
        for pseudonym, answer in _answers(part, wanted):
            known = answers.setdefault(pseudonym, answer)
            if "names" in answer:
                known["names"] = sorted({*known["names"], *answer["names"]})  # type: ignore[misc]
    for pseudonym in wanted:
        if pseudonym in answers:
            print(json.dumps({"pseudonym": pseudonym} | answers[pseudonym], ensure_ascii=False))  # noqa: T201
    if missing := [p for p in wanted if p not in answers]:
        raise BadInput(f"{', '.join(missing)} is not in the crosswalk of {out.name}; check pseudonym and folder.")


def _answers(part: Crosswalk, wanted: list[str]) -> Iterator[tuple[str, dict[str, object]]]:
    for pseudonym in wanted:
        if patient := part.patients.get(pseudonym):
            yield pseudonym, {"kind": "patient", **patient}
        if pseudonym in part.accessions:
            yield pseudonym, {"kind": "accession", "original": part.accessions[pseudonym]}
        if pseudonym in part.uids:
            yield pseudonym, {"kind": "uid", "original": part.uids[pseudonym]}


def rewrap(
    old: Annotated[Path, typer.Option(help="Vault key in use.")],
    new: Annotated[Path, typer.Option(help="Vault key to take its place; made when it is not there.")],
    reason: Reason,
    outs: Annotated[list[Path] | None, typer.Argument(help="De-identified folders.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data root of a control plane: every vault in it.")] = None,
) -> None:
    """Put vaults under a new vault key; the old one then opens nothing. Killed, it goes on when started again."""
    why = notes.require_reason(reason)
    folders = list(outs or []) + ([p.parent for p in sorted(data.glob("*/*/vault"))] if data else [])
    if not folders:
        raise BadInput("Nothing to re-wrap; give de-identified folders, or --data with the data root.")
    if missing := [f.name for f in folders if not (f / "vault").is_dir()]:
        raise BadInput(f"{missing[0]} holds no vault; give the folder of a de-identification.")
    old_key = load_vault_key(old)
    plane = Settings(data=data) if data else None
    if plane:
        _require_idle(plane)
    if not new.exists():
        create_vault_key(new)
        console.print(f"Made a new vault key, {new}. Keep it apart from the data.", highlight=False)
    new_key = load_vault_key(new)
    changed = kept = 0
    for folder in folders:
        notes.note(Action.VAULT_REWRAP, folder, why, plane=plane)
        for was in rewrap_folder(folder, old_key, new_key):
            changed, kept = changed + was, kept + (not was)
    console.print(f"{changed} vault files re-wrapped, {kept} were under the new key already.", highlight=False)
    if plane:
        console.print(f"Now put {new} in the place of {plane.vault_key}, and start the services again.")


def _require_idle(settings: Settings) -> None:
    """BadInput while a job writes into a vault: its processes hold the old key."""
    with Database(settings.database).reading() as session:
        jobs = select(Job.id).where(Job.stage.in_(("scan", "deidentify")), Job.state.in_([s.value for s in LIVE]))
        if session.scalar(jobs.limit(1)):
            raise BadInput("A de-identification is at work; wait for it or cancel it, and stop the services first.")


def new_epoch(
    reason: Reason,
    secret: Annotated[Path | None, typer.Option(help="Secret file outside a control plane.")] = None,
    site: Annotated[str | None, typer.Option(help="Name of a site of the control plane.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data root; none takes INTRAMURAL_DATA or ./data.")] = None,
) -> None:
    """Begin a new epoch after a derivation secret was exposed: new pseudonyms, which join none of the old ones."""
    why = notes.require_reason(reason)
    if site is None:
        _own_epoch(secret or keyring.folder() / "derivation.key", why)
        return
    settings = Settings() if data is None else Settings(data=data)
    database = Database(settings.database)
    with database.session() as session:
        row = session.scalar(select(Site).where(Site.name == site))
        if row is None:
            raise BadInput(f"There is no site named {site}; check the name.")
        sites.begin_epoch(session, COMMAND_LINE, settings, row, why)
        epoch = row.epoch
    head.advance(database, settings)
    console.print(f"Epoch {epoch} of {site} has begun. {_MEANS}", highlight=False)


_MEANS = "Exports de-identified before and after share no pseudonym and cannot share a cohort; do the old ones again."


def _own_epoch(path: Path, why: str) -> None:
    """The secret file gives way to one of the next epoch and is kept beside it."""
    old = DerivationSecret.load(path)
    kept, fresh = (path.with_name(f"{path.name}.epoch-{n}") for n in (old.epoch, old.epoch + 1))
    fresh.unlink(missing_ok=True)  # left by one that was cut off
    DerivationSecret.create(fresh, old.site, old.epoch + 1)
    if not kept.exists():
        kept.hardlink_to(path)
    notes.in_own_log(Action.SITE_EPOCH, why, epoch=old.epoch + 1, site=old.fingerprint)
    fresh.replace(path)
    console.print(f"Epoch {old.epoch + 1} has begun; the old secret is {kept}. {_MEANS}", highlight=False)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(reidentify)
    for name, help_, command in (
        ("vault", "What is sealed.", ("rewrap", rewrap)),
        ("secret", "Derivation secrets.", ("new-epoch", new_epoch)),
    ):
        group = typer.Typer(help=help_, no_args_is_help=True)
        group.callback()(lambda: None)
        group.command(command[0])(command[1])
        app.add_typer(group, name=name)
