"""Pictures of what would be released, for the reviewer's page: half of them where text was blanked, half at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pydicom

from pipelines.build.decode import Undecodable, render, shrink
from pipelines.contract import RunFolder, write_atomic

IMAGES, SIDE = 8, 480


def write_previews(root: Path, rows: list[dict[str, Any]], run: RunFolder) -> None:
    """PNGs under `root/preview`, named by rank. The order of new UIDs is keyed, so in effect random."""
    written = sorted((r for r in rows if r["state"] == "written" and r["kind"] == "image"), key=lambda r: r["instance"])
    blanked = [r for r in written if r["boxes"]][: IMAGES // 2]
    chosen = (blanked + [r for r in written if not r["boxes"]])[:IMAGES]
    folder = root / "preview"
    folder.mkdir(exist_ok=True)
    for number, row in enumerate(chosen):
        run.check_stop()
        try:
            grey, _ = render(pydicom.dcmread(root / row["output"]))
        except Undecodable:
            continue
        small, _ = shrink(grey, SIDE)
        write_atomic(folder / f"{number:02d}.png", cv2.imencode(".png", small)[1].tobytes())
        run.progress(number + 1, len(chosen), "previews")
