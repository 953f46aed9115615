"""Burned-in text on real radiographs: 8 to 28 pixels, twelve families, turned, light, dark and on plates.

`python tests/benchmarks/deid_burned.py [--images 60] [--seed 9000] [--develop]`. Judged by tesseract, an engine that
no part of the product uses: of the tokens that it reads in the input, how many can it read in the output? Beside that,
and without any OCR, how much of the planted ink was left. presidio-image-redactor does the same files in the same run.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.pixels import PixelCleaner
from tests.benchmarks import peers
from tests.benchmarks.prints import (
    FAMILIES,
    LEFT,
    SIZES,
    Print,
    as_dicom,
    identity_lines,
    load,
    options,
    person,
    readable_style,
    stamp,
)
from tests.benchmarks.record import record
from tests.judge.picture import grey, readable

LINES = 4
TURNS = (0, 0, 0, 90, 180, 270)


def main() -> None:
    given = options(__doc__, images=60)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        planted = plant(folder, given.pictures, given.images, given.seed)
        before = {path: tokens(path, path, prints) for path, prints in planted.items()}
        ours = clean(list(planted))
        report(planted, ours, before)
        if given.develop:
            return
        theirs = {path: path.with_suffix(".presidio") for path in planted}
        done = peers.run("presidio", "peer_header.py", {"clean": [[str(a), str(b)] for a, b in theirs.items()]})
        outcomes = Counter(done["outcomes"])
        left_by = {name: left(planted, out, before) for name, out in (("ours", ours), ("presidio", theirs))}
    readable_before = sum(len(words) for lines in before.values() for words in lines)
    record(
        f"burned-in text, {SIZES[0]} to {SIZES[-1]} px on {given.images} real radiographs: tokens that tesseract reads "
        "before and after",
        f"{left_by['ours']} of {readable_before}",
        f"presidio-image-redactor {left_by['presidio']} of {readable_before} ({outcomes['ok']} files written)",
        left_by["presidio"] / max(left_by["ours"], 1),
    )


def plant(folder: Path, pictures: Sequence[Path], images: int, seed: int) -> dict[Path, list[Print]]:
    """Files with LINES lines each: some as a block in a corner, some anywhere and turned."""
    planted = {}
    for number in range(images):
        rng = np.random.default_rng([seed, number])
        picture = load(pictures[int(rng.integers(len(pictures)))]).copy()
        who = person(rng)
        path = folder / f"{number:04d}.dcm"
        planted[path] = print_lines(picture, identity_lines(who, rng)[:LINES], rng)
        as_dicom(picture, who, rng, bits=int(rng.choice([10, 12, 16]))).save_as(path, enforce_file_format=True)
    return planted


def print_lines(picture: NDArray[np.uint8], lines: Sequence[str], rng: np.random.Generator) -> list[Print]:
    """The lines in a picture, none over another."""
    rows, columns = picture.shape
    taken, prints = np.zeros((rows, columns), bool), []
    for line in lines:
        family, size, turn = str(rng.choice(FAMILIES)), int(rng.choice(SIZES)), int(rng.choice(TURNS))
        reach = round(size * 0.7 * len(line))
        for _ in range(50):
            at = int(rng.integers(6, columns - 6)), int(rng.integers(6, rows - 6))
            wide, high = (size + 8, reach) if turn % 180 else (reach, size + 8)
            x, y = min(at[0], max(columns - wide, 0)), min(at[1], max(rows - high, 0))
            if not taken[y : y + high, x : x + wide].any():
                break
        else:
            continue
        style = readable_style(picture, rng, (x + wide // 2, y + high // 2), reach // 2)
        prints.append(stamp(picture, line, family, size, turn, (x, y), style))
        taken[max(y - 12, 0) : y + high + 12, max(x - 12, 0) : x + wide + 12] = True
    return prints


def tokens(path: Path, source: Path, prints: Sequence[Print]) -> list[set[str]]:
    """What tesseract reads of each line in a file, turned upright."""
    if not path.exists():
        return [set() for _ in prints]
    ds, original = pydicom.dcmread(path), pydicom.dcmread(source)
    view = grey(ds.pixel_array, original)
    found = []
    for line in prints:
        box, turns = line.box, line.turn // 90
        rows, columns = view.shape
        margin = 16
        top, left_side = max(box["top"] - margin, 0), max(box["left"] - margin, 0)
        part = view[top : min(box["top"] + box["height"] + margin, rows),
                    left_side : min(box["left"] + box["width"] + margin, columns)]  # fmt: skip
        upright = np.ascontiguousarray(np.rot90(part, -turns))
        whole = {"text": line.text, "left": 0, "top": 0, "width": upright.shape[1], "height": upright.shape[0]}
        found.append(readable(upright, whole))
    return found


def clean(paths: Sequence[Path]) -> dict[Path, Path]:
    """What our pixel path makes of each file; a quarantined file is not written."""
    cleaner, outputs = PixelCleaner(), {}
    for path in paths:
        ds = pydicom.dcmread(path)
        outputs[path] = path.with_suffix(".ours")
        try:
            cleaner.clean(ds)
        except Quarantine as refused:
            print(f"{path.stem}: quarantined, {refused.reason}")
        else:
            ds.save_as(outputs[path], enforce_file_format=True)
    return outputs


def left(planted: dict[Path, list[Print]], outputs: dict[Path, Path], before: dict[Path, list[set[str]]]) -> int:
    """Tokens read before and after."""
    count = 0
    for path, prints in planted.items():
        after = tokens(outputs[path], path, prints)
        count += sum(len(was & now) for was, now in zip(before[path], after, strict=True))
    return count


def report(planted: dict[Path, list[Print]], ours: dict[Path, Path], before: dict[Path, list[set[str]]]) -> None:
    """Lines of which ink is left, by what they looked like; no tesseract in it."""
    lines, missed, quarantined = Counter(), Counter(), 0
    for path, prints in planted.items():
        if not ours[path].exists():
            quarantined += 1
            continue
        changed = pydicom.dcmread(path).pixel_array != pydicom.dcmread(ours[path]).pixel_array
        for line, was in zip(prints, before[path], strict=True):
            kind = "read" if was else "unread"
            lines[kind, line.size] += 1
            share = line.missed(changed)
            if share > LEFT:
                missed[kind, line.size] += 1
                where = f"{line.family or 'Aileron'} {line.size} px, turned {line.turn}, at {line.left},{line.top}"
                print(f"  {path.stem}: {where}: {share:.0%} of the ink left; tesseract read {len(was)} tokens")
    for kind in ("read", "unread"):
        total, bad = sum(v for k, v in lines.items() if k[0] == kind), sum(v for k, v in missed.items() if k[0] == kind)
        print(f"lines {kind} by tesseract in the input: {total}, with ink left {bad}")
    print(f"files quarantined: {quarantined}")


if __name__ == "__main__":
    main()
