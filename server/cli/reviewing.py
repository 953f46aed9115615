"""`intramural review`: the review pack of a folder outside a control plane, judged and released at the command line.

What a server holds is reviewed there, by a person with that role.
"""

from __future__ import annotations

import csv
import getpass
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.contract import BadInput, read_json, write_atomic
from pipelines.deidentify.review.sampling import FACTORS
from pipelines.deidentify.review.verdicts import (
    FILE,
    Review,
    Verdict,
    kind_of_item,
    numbered,
    read_review,
    require_no_leak,
    signed_record,
    summary,
)
from pipelines.deidentify.review.withdraw import withdraw
from pipelines.release import folder_digest
from server.audit import Action
from server.cli import keyring, notes
from server.cli.review_folder import write_folder
from server.security import signing
from server.store.models import now

console = Console(stderr=True)
LISTED = 20
"""Instances that are listed on a terminal; pack.json holds all."""


def review(
    out: Annotated[Path, typer.Argument(help="De-identified folder.")],
    export: Annotated[Path | None, typer.Option(help="New folder for before and after of each one.")] = None,
    reason: Annotated[str, typer.Option(help="Why before-data is decrypted; it is recorded.")] = "",
    secret: Annotated[Path | None, typer.Option(help="File of the site's derivation secret.")] = None,
    vault_key: Annotated[Path | None, typer.Option(help="Vault key; none takes the one beside the secret.")] = None,
    verdicts: Annotated[Path | None, typer.Option(help="Filled-in verdicts.csv of an exported folder.")] = None,
    take_out: Annotated[list[int] | None, typer.Option("--withdraw", help="Number that leaks.")] = None,
    release: Annotated[bool, typer.Option("--release", help="Sign the release.")] = False,
    reviewer: Annotated[str, typer.Option(help="Who judges and releases.")] = "",
    purpose: Annotated[str, typer.Option(help="What the data may be used for.")] = "",
    approval: Annotated[str, typer.Option(help="Approval number.")] = "",
) -> None:
    """Show a review: what was drawn, what was found, what may leak at most. With options, go on with it.

    --export decrypts the pack into a folder for an officer without a server; --verdicts signs what was filled in there;
    --withdraw puts what leaks into the quarantine; --release signs the release.
    """
    if (verdicts or take_out or release) and keyring.control_plane(out):
        raise BadInput("A control plane holds this folder; review and release it there, in the web UI or by REST.")
    if release and not (reviewer and purpose and approval):
        raise BadInput("A release needs --reviewer, --purpose and --approval; give all three.")
    has_pack = (out / "review" / "pack.json").exists()
    if export:
        key, why = keyring.open_vault(out, secret, vault_key), notes.require_reason(reason)
        write_folder(out, _read(out), export, key, lambda: notes.note(Action.REVIEW_EXPORT, out, why))
        console.print(f"Open {export / 'index.html'}, fill in {export / 'verdicts.csv'}, and delete it all afterwards.")
    if verdicts:
        _judge(out, verdicts, reviewer)
    for number in take_out or ():
        _withdraw(out, number)
    _show(out, _read(out) if has_pack else None)
    if release:
        _release(out, _read(out) if has_pack else None, reviewer, purpose, approval)


def _read(out: Path) -> Review:
    return read_review(out, keyring.signing_settings().release_public_key)


def _judge(out: Path, path: Path, reviewer: str) -> None:
    """Sign the verdicts of a CSV file (number, verdict, leak, comment); rows without a verdict are left open."""
    review, time = _read(out), now().isoformat(timespec="seconds") + "Z"
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in csv.DictReader(f)]
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"{path.name} cannot be read; give the UTF-8 file that the review was filled in.") from None
    given = []
    for row in rows:
        if not row.get("verdict"):
            continue
        number = row.get("number", "")
        if not number.isdecimal() or review.item(int(number)) is None:
            raise BadInput(f"{path.name} judges a number that this review has not; take the file exported from it.")
        who = reviewer or getpass.getuser()
        verdict, leak, comment = row["verdict"].lower(), row.get("leak", "").lower(), row.get("comment", "")
        given.append(Verdict(int(number), verdict, leak, comment, who, time))  # type: ignore[arg-type] # checked there
    _write(out, replace(review, verdicts=(*review.verdicts, *given)))
    notes.note(Action.REVIEW_VERDICT, out, "", items=len(given))


def _withdraw(out: Path, number: int) -> None:
    review = _read(out)
    item = review.item(number)
    if item is None or review.last.get(number) is None or review.last[number].verdict != "leak":
        raise BadInput(f"Number {number} has no verdict of a leak; only what leaks is withdrawn.")
    withdraw(out, [item])
    _write(out, replace(review, withdrawn=review.withdrawn | {number}))
    notes.note(Action.REVIEW_WITHDRAW, out, "", plane=None, **numbered(item))


def _write(out: Path, review: Review) -> None:
    settings = keyring.signing_settings()
    signing.ensure_key_pair(settings)
    body = signed_record(out, review, lambda record: signing.sign(record, settings))
    write_atomic(out / FILE, json.dumps(body, ensure_ascii=False, indent=1) + "\n")


def _release(out: Path, review: Review | None, reviewer: str, purpose: str, approval: str) -> None:
    if review is not None:
        require_no_leak(review)
    settings = keyring.signing_settings()
    signing.ensure_key_pair(settings)
    body = {
        "verdict": "released",
        "digest": folder_digest(out),
        "policy": read_json(out / "result.json")["policy"],
        "purpose": purpose,
        "approval": approval,
        "review": None if review is None else summary(out, review),
        "reviewer": reviewer,
        "time": now().isoformat(timespec="seconds") + "Z",
    }
    write_atomic(out / "release.json", json.dumps(signing.sign(body, settings), ensure_ascii=False, indent=1) + "\n")
    notes.note(Action.EXPORT_RELEASE, out, f"approval {approval}")
    console.print(f"Released and signed: {out / 'release.json'}", highlight=False)


def _show(out: Path, review: Review | None) -> None:
    _counts(read_json(out / "result.json")["counts"])
    if review is None:
        console.print(f"No review pack. Images to look at: {out / 'dicom'}.", highlight=False)
        return
    table = Table("Number", "What", "Drawn", "Verdict", "Boxes", "Why it is at risk")
    for item in review.pack["items"][:LISTED]:
        number, last = item["number"], review.last.get(item["number"])
        said = "withdrawn" if number in review.withdrawn else f"{last.verdict} {last.leak}".strip() if last else ""
        why = " ".join(FACTORS[f][1] for f in item["factors"])
        boxes = str(len(item.get("boxes", ())) or "")
        table.add_row(str(number), kind_of_item(item), item["drawn"], said, boxes, why)
    console.print(table)
    if len(review.pack["items"]) > LISTED:
        console.print(f"and {len(review.pack['items']) - LISTED} more")
    tally = review.tally()
    console.print(f"{tally.reviewed} of {tally.of} reviewed, {tally.leaks} leaks, {tally.unsure} unsure.")
    for given, bound, of in (
        (tally.random_reviewed, tally.bound, f"{review.pack['images']:,} instances"),
        (
            tally.reports_random_reviewed,
            tally.reports_bound,
            f"{review.pack.get('reports', {}).get('of', 0):,} reports",
        ),
    ):
        if given:
            says = f"With 95 % confidence at most {100 * bound:.2g} % of the {of} leak ({given} random ones reviewed)."
            console.print(says, highlight=False)
    console.print("To see before and after: --export DIR --reason TEXT.", highlight=False)


def _counts(counts: dict[str, Any]) -> None:
    table = Table("Inputs", "Count", title=None)
    for label, key in (("files read", "files"), ("images written", "images_written"), ("patients", "patients")):
        table.add_row(label, f"{counts[key]:,}")
    table.add_row("reports", f"{counts['reports']:,}")
    table.add_row("duplicates, counted once", f"{counts['duplicates']:,}")
    for reason, number in sorted(counts["quarantined"].items()):
        table.add_row(f"quarantined: {reason}", f"{number:,}")
    console.print(table)


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(review)
