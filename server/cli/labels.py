"""`intramural label`: structured labels of a released export, and how far their sources agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from server.cli import keyring
from server.cli.stages import Json, Workers, console, run


def label(
    deid: Annotated[Path, typer.Argument(help="Released de-identified folder.")],
    out: Annotated[Path, typer.Argument(help="Folder for the labels; resumes if it was begun.")],
    source: Annotated[list[str] | None, typer.Option(help="site, rules or model; may be given again.")] = None,
    phrases: Annotated[Path | None, typer.Option(help="TOML file with phrases of your own.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a local language model.")] = None,
    prompt: Annotated[Path | None, typer.Option(help="TOML file with a prompt of your own.")] = None,
    batch: Annotated[int, typer.Option(help="Reports the language model reads at once.")] = 8,
    device: Annotated[str, typer.Option(help="Of the language model: auto, cpu or cuda.")] = "auto",
    release_key: Annotated[Path | None, typer.Option(help="Public key of the releases.")] = None,
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Structured labels from the site's table, from the reports by rules or by a local language model, compared."""
    values = {
        "deid": str(deid.resolve()),
        "release_key": str((release_key or keyring.folder() / "release.pub").resolve()),
        "sources": source or ["site", "rules", *(["model"] if model else [])],
        "batch": batch,
        "device": device,
        "workers": workers,
    }
    files = {"phrases": phrases, "model": model, "prompt": prompt}
    values |= {name: str(path.resolve()) for name, path in files.items() if path}
    result = run("label", values, out, as_json=as_json)
    if not as_json:
        _say_labels(result, out)


def _say_labels(result: dict[str, Any], out: Path) -> None:
    for name, counts in result["sources"].items():
        unread = ", ".join(f"{n} {reason}" for reason, n in counts["not_read"].items())
        console.print(
            f"{name}: {counts['read']} studies read{f'; not read: {unread}' if unread else ''}.", highlight=False
        )
    if result["comparison"]:
        console.print(_comparison(result["comparison"]))
    console.print(f"The labels are {out / 'labels.parquet'}.", highlight=False)


def _comparison(rows: list[dict[str, Any]]) -> Table:
    """The comparison of sources as a table for the terminal."""
    table = Table(title="How far the sources agree, on studies that both read")
    for heading in ("label", "sources", "both spoke", "agreement", "kappa", "present", "kappa of present"):
        table.add_column(heading, justify="left" if heading in ("label", "sources") else "right")
    for row in rows:
        present = f"{row['first_present']} / {row['second_present']}, both {row['both_present']}"
        shares = ["-" if row[n] is None else f"{row[n]:.2f}" for n in ("agreement", "kappa", "kappa_present")]
        names = f"{row['first']}, {row['second']}"
        table.add_row(row["label"], names, str(row["spoken"]), *shares[:2], present, shares[2])
    return table


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(label)
