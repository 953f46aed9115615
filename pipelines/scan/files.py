"""Which files an export holds and what each is by its place: DICOM objects, or the tables that may lie beside them."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pipelines.contract import BadInput


def list_files(export: Path) -> Iterator[str]:
    """Relative POSIX paths of everything below `export` that is no folder, as the file system lists them.

    Links are listed, never descended into; `inside` decides whether one may be read. BadInput when the folder is
    missing or cannot be read.
    """
    if not export.is_dir():
        raise BadInput(f"The export folder {export.name} does not exist; check the path you gave.")
    root, open_folders = str(export), []
    try:
        # Folders stay open while what is below them is listed: flat memory even where one holds a million.
        open_folders.append(os.scandir(root))
        while open_folders:
            entry = next(open_folders[-1], None)
            if entry is None:
                open_folders.pop().close()
            elif entry.is_dir(follow_symlinks=False):
                open_folders.append(os.scandir(entry.path))
            else:
                yield os.path.relpath(entry.path, root)
    except OSError:
        raise BadInput("A folder of the export cannot be read; give this account the right to read all.") from None
    finally:
        for folder in open_folders:
            folder.close()


def inside(export: Path, path: Path) -> bool:
    """Whether `path` is an ordinary file that, links resolved, lies in the export."""
    try:
        real = path.resolve(strict=True)
        return real.is_relative_to(export.resolve()) and stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError):
        return False


_REPORT_TABLES = tuple(f"reports{suffix}" for suffix in (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"))
_REPORT_FILES = (".hl7", ".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".xml")


def table_kind(relative: str) -> str | None:
    """`report`, `label` or `mask` by the agreed top-level places; None for everything that must prove to be DICOM.

    Reports lie in `reports.*` (a table), `hl7/*.hl7`, `fhir/*.ndjson`, or in `reports/` in any form that intake reads.
    """
    match PurePosixPath(relative.lower()).parts:
        case (name,) if name in _REPORT_TABLES:
            return "report"
        case ("labels.csv",) | ("labels.toml",):
            return "label"
        case ("lines.jsonl",):
            return "mask"
        case ("hl7", *_, name) if name.endswith(".hl7"):
            return "report"
        case ("fhir", *_, name) if name.endswith((".ndjson", ".json")):
            return "report"
        case ("reports", *_, name) if name.endswith(_REPORT_FILES):
            return "report"
        case ("lung_masks", name) | ("masks", _, name) if name.endswith(".png"):
            return "mask"
    return None


def require_apart(export: Path, root: Path) -> None:
    """BadInput when the run folder lies in the export, or the export in the run folder."""
    source, out = export.resolve(), root.resolve()
    if out.is_relative_to(source) or source.is_relative_to(out):
        raise BadInput("The run folder and the export lie in one another; give a run folder elsewhere.")


def remove_half_written(root: Path) -> None:
    """Remove what an interrupted run left. Images are written below `tmp` only, tables under a name ending in .part."""
    shutil.rmtree(root / "tmp", ignore_errors=True)
    for folder in ("inventory", "parts", "vault", "masks"):
        for half in (root / folder).rglob(".*.part"):
            half.unlink()
    for half in root.glob(".*.part"):
        half.unlink()
