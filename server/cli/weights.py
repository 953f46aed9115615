"""Open weights: bringing them in, and the table of what can be brought in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from pipelines.weights.baselines import BASELINES, LAYOUTS
from server.cli.stages import Json, console, run


def weights_import(
    path: Annotated[Path, typer.Argument(help="Folder or file as published.")],
    out: Annotated[Path, typer.Argument(help="Folder for the model.")],
    family: Annotated[str, typer.Option("--as", help="Name of a baseline; 'weights list' prints them.")],
    seen: Annotated[
        list[str] | None, typer.Option(help="Public set the weights were trained on; may be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify open weights and bring them in as a model. Nothing is ever downloaded."""
    values = {"source": str(path.resolve()), "family": family, "seen": seen or []}
    run("import", values, out, as_json=as_json)
    if not as_json:
        console.print(f"The model is {out / 'model'}.")


def weights_list(as_json: Json = False) -> None:
    """Print the baselines that can be brought in: layout, preprocessing, licence, known pretraining sets."""
    rows = [
        {
            "name": row.name,
            "title": row.title,
            "family": row.family,
            "layout": LAYOUTS[row.layout],
            "preprocessing": row.preprocessing.words() if row.preprocessing else "as the download's own file says",
            "pooled": row.features[0],
            "patches": row.features[1],
            "licence": row.licence,
            "seen": list(row.seen),
            "verified": row.verified,
        }
        for row in BASELINES.values()
    ]
    if as_json:
        for line in rows:
            print(json.dumps(line))  # noqa: T201
        return
    table = Table("name", "what it is", "preprocessing", "licence", "trained on", "verified")
    for line in rows:
        table.add_row(
            str(line["name"]),
            str(line["title"]),
            str(line["preprocessing"]),
            str(line["licence"]),
            ", ".join(cast(list[str], line["seen"])) or "not known",
            "yes" if line["verified"] else "no",
        )
    Console().print(table)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    weights = typer.Typer(help="Open weights.", no_args_is_help=True)
    weights.command("import")(weights_import)
    weights.command("list")(weights_list)
    app.add_typer(weights, name="weights")
