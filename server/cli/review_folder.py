"""A review pack as an ordinary folder, for an officer without a server: decrypted, so for the owner's eyes only."""

from __future__ import annotations

import base64
import csv
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.contract import BadInput
from pipelines.deidentify.review.marks import reading
from pipelines.deidentify.review.sampling import FACTORS
from pipelines.deidentify.review.verdicts import LEAKS, Review, kind_of_item
from pipelines.deidentify.vault import sealed_item, unseal

COLUMNS = ("number", "verdict", "leak", "comment")


def write_folder(out: Path, review: Review, folder: Path, vault_key: bytes, note: Callable[[], None]) -> None:
    """Write `index.html`, the pictures, and `verdicts.csv` to fill in. `note` is called before anything is decrypted.

    Modes 0700 and 0600. BadInput when the folder exists, or lies within the de-identified one.
    """
    if folder.exists():
        raise BadInput(f"The folder {folder.name} exists already; give a new one.")
    if folder.resolve().is_relative_to(out.resolve()):
        raise BadInput("Before-data would lie in the clear beside the de-identified data; give a folder elsewhere.")
    left = [i for i in review.pack["items"] if i["number"] not in review.withdrawn]
    sealed = [sealed_item(out, item["number"]) for item in left]
    if sealed:
        unseal(sealed[0], vault_key)  # another key is told before anything is noted or made
    note()
    folder.mkdir(parents=True, mode=0o700)
    try:
        shown = [_pictures(out, folder, item, unseal(path, vault_key)) for item, path in zip(left, sealed, strict=True)]
        _write(folder / "index.html", _page(out.name, review, shown).encode())
        _write(folder / "verdicts.csv", _form(left).encode())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _pictures(out: Path, folder: Path, item: dict[str, Any], sealed: dict[str, Any]) -> dict[str, Any]:
    """Write the pictures of one instance; returns what the page shows of it, or of a report."""
    if kind_of_item(item) == "report":
        shown = reading(sealed["text"]) if sealed["text"] else None
        where = f"Input {item['source_id']} of the quarantine list" + (f", {sealed['text']['place']}" if shown else "")
        return {"item": item, "source": where, "lines": [], "frames": [], "text": shown}
    frames = []
    for frame, png in sorted(sealed["frames"].items(), key=lambda pair: int(pair[0])):
        names = [f"{item['number']:04d}-{frame}-{side}.png" for side in ("before", "after")]
        _write(folder / names[0], base64.b64decode(png))
        _write(folder / names[1], (out / "preview" / f"{item['number']:04d}-{frame}.png").read_bytes())
        frames.append({"number": int(frame) + 1, "before": names[0], "after": names[1]})
    where = f"File {sealed['source']}"
    return {"item": item, "source": where, "lines": sealed["lines"], "frames": frames, "text": None}


def _page(name: str, review: Review, shown: list[dict[str, Any]]) -> str:
    from server.web.render import environment  # late: the templates are of no use to the other commands

    template = environment.get_template("review_folder.html")
    return template.render(name=name, plan=review.pack, shown=shown, factors=FACTORS, leaks=LEAKS)


def _form(items: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((item["number"], "", "", "") for item in items)
    return buffer.getvalue()


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(data)
