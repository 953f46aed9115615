"""Clean radiographs: how many are altered, and whether marks of side, projection and position stay.

`python tests/benchmarks/deid_clean.py [--images 10000] [--marks 150] [--seed 9000] [--develop]`: at most so many
radiographs, and so many pictures with marks. First real radiographs as they are,
with their own lead markers: every box counts, except where tesseract reads a word in it (some public ones carry the
logo of a web site or the settings of a window). Then the same with marks of the allow-list drawn in: one is removed
when any of its ink is changed. The peer is what tools do that blank whatever OCR finds: rapidocr at its defaults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.pixels import Box, PixelCleaner
from tests.benchmarks.prints import (
    FAMILIES,
    Print,
    as_dicom,
    load,
    options,
    person,
    readable_style,
    stamp,
)
from tests.benchmarks.record import record
from tests.judge.picture import MARKERS, plain_tokens, read_box

MARKS = (
    "L", "R", "AP", "PA", "LAT", "ERECT", "SUPINE", "PORTABLE", "AP ERECT", 'PORT AP 40"', "AP SUPINE", "AP PORTABLE",
    "PORTABLE AP", "SEMI-ERECT", "L LAT", "UPRIGHT", "R DECUB", "PORT", "PA ERECT", "10 cm", "0  5  10 cm",
    "AP SEMI ERECT 72 IN",
)  # fmt: skip
HEIGHTS = (14, 18, 24, 28, 36, 48)
EACH = 2  # marks a picture
WORD = 4  # letters of a word of print that is no mark
Finder = Callable[[NDArray[np.uint8]], Sequence[Box]]


def main() -> None:
    given = options(__doc__, images=10_000, marks=150)
    chest: list[Path] = given.pictures
    clean = chest[: given.images]
    altered = wrongly_altered(clean, ours)
    marked = list(with_marks(chest, given.marks, given.seed))
    planted = sum(len(marks) for _, marks in marked)
    removed = removals(marked, ours)
    print(f"altered {altered} of {len(clean)}; marks removed {sum(removed.values())} of {planted}: {dict(removed)}")
    if given.develop:
        return
    theirs, some = everything(), clean[:: max(1, len(clean) // 60)]
    share = 100 * altered / len(clean)
    peer_share = 100 * wrongly_altered(some, theirs) / len(some)
    record("clean radiographs wrongly altered", f"{share:.2f} % of {len(clean)}",
           f"all boxes of rapidocr blanked {peer_share:.1f} % of {len(some)}",
           peer_share / max(share, 100 / len(clean)))  # fmt: skip
    fewer = marked[:: max(1, len(marked) // 30)]
    lost, of = sum(removals(fewer, theirs).values()), sum(len(marks) for _, marks in fewer)
    record("marks of the allow-list on real radiographs removed", f"{sum(removed.values())} of {planted}",
           f"all boxes of rapidocr blanked {lost} of {of}",
           lost / of / max(sum(removed.values()) / planted, 1 / planted))  # fmt: skip


def ours(picture: NDArray[np.uint8]) -> Sequence[Box]:
    """What the pixel path blanks; all of a picture that it keeps back."""
    rng = np.random.default_rng(picture.size)
    ds = as_dicom(picture, person(rng), rng, bits=8)
    try:
        return PixelCleaner().clean(ds).boxes
    except Quarantine:
        return [Box(0, 0, 0, picture.shape[1], picture.shape[0])]


def everything() -> Finder:
    """Each box of rapidocr at its defaults."""
    from rapidocr import RapidOCR

    engine = RapidOCR()

    def find(picture: NDArray[np.uint8]) -> list[Box]:
        corners = engine(np.stack([picture] * 3, axis=-1), use_cls=False, use_rec=False).boxes
        ends = [(c.min(axis=0), c.max(axis=0)) for c in (corners if corners is not None else ())]
        return [Box(0, int(a[0]), int(a[1]), int(b[0] - a[0]), int(b[1] - a[1])) for a, b in ends]

    return find


def wrongly_altered(pictures: Sequence[Path], find: Finder) -> int:
    count = 0
    for path in pictures:
        picture = load(path)
        wrong = [b for b in find(picture) if not has_word(picture, b)]
        if wrong and find is ours:
            print(f"  {path.stem}: {[(b.left, b.top, b.width, b.height) for b in wrong]}")
        count += bool(wrong)
    return count


def has_word(picture: NDArray[np.uint8], box: Box) -> bool:
    """Whether tesseract reads a word in a box that is no mark, upright or turned."""
    rows, columns = picture.shape
    grown = picture[max(box.top - 4, 0) : min(box.top + box.height + 4, rows),
                    max(box.left - 4, 0) : min(box.left + box.width + 4, columns)]  # fmt: skip
    for turn in (0, 1, 3) if box.height > box.width else (0,):
        part = np.ascontiguousarray(np.rot90(grown, turn))
        seen = plain_tokens(read_box(part, {"left": 0, "top": 0, "width": part.shape[1], "height": part.shape[0]}))
        if any(len(word) >= WORD for word in seen - MARKERS):
            return True
    return False


def with_marks(chest: Sequence[Path], count: int, seed: int) -> list[tuple[NDArray[np.uint8], list[Print]]]:
    """Radiographs with EACH marks near their sides, where people put them."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        picture = load(chest[int(rng.integers(len(chest)))]).copy()
        rows, columns = picture.shape
        marks = []
        for side in range(EACH):
            text = MARKS[(number * EACH + side) % len(MARKS)]
            family, size = str(rng.choice([f for f in FAMILIES if f != "bitmap"])), int(rng.choice(HEIGHTS))
            x = int(rng.uniform(0.03, 0.12) * columns) if side else int(rng.uniform(0.6, 0.8) * columns)
            at = x, int(rng.uniform(0.08, 0.85) * rows)
            style = readable_style(picture, rng, at, size * 2)
            marks.append(stamp(picture, text, family, size, 0, at, style))
        made.append((picture, marks))
    return made


def removals(marked: Sequence[tuple[NDArray[np.uint8], list[Print]]], find: Finder) -> Counter[str]:
    """How often each mark was touched."""
    removed: Counter[str] = Counter()
    for picture, marks in marked:
        changed = np.zeros(picture.shape, bool)
        for box in find(picture):
            changed[box.top : box.top + box.height, box.left : box.left + box.width] = True
        for mark in marks:
            if mark.missed(changed) < 1:
                removed[mark.text] += 1
                if find is ours:
                    print(f"  removed: {mark.text} in {mark.family or 'Aileron'}, {mark.size} px")
    return removed


if __name__ == "__main__":
    main()
