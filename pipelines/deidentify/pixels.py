"""Text burned into the pixels: found by detection, blanked in the stored values, looked for again as proof.

Every text is blanked but the marks that radiographers put beside the patient: side and position from an allow-list,
and lone marks of up to three letters (a lead letter with the radiographer's initials), unless the header says that
these letters are somebody's name. The header can raise the suspicion, never lower it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.pixels_codec import (
    Frame,
    darkest,
    decode,
    has_stray_data,
    require_sane,
)
from pipelines.deidentify.pixels_gate import Region
from pipelines.deidentify.pixels_marks import Judge, Seen
from pipelines.deidentify.pixels_picture import Display
from pipelines.deidentify.pixels_stream import clean_stream
from pipelines.deidentify.pixels_write import replace_pixels

PASSES = 3


@dataclass(frozen=True)
class Box:
    """A blanked rectangle of one frame, in pixels."""

    frame: int
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class PixelResult:
    boxes: tuple[Box, ...]
    changed: bool
    """Whether the pixel data were written anew."""
    proved: bool
    """Whether a last look at every frame, as it is now, found no text."""


class PixelCleaner:
    """Looks at every frame of an object and blanks the text in it. One per process; models load at the first image.

    `policy_pixels`: `clean` blanks, `quarantine` refuses every object with text in it.
    """

    def __init__(self, policy_pixels: str = "clean") -> None:
        if policy_pixels not in ("clean", "quarantine"):
            raise ValueError("policy_pixels is 'clean' or 'quarantine'")
        self.policy = policy_pixels

    def clean(self, ds: Dataset) -> PixelResult:
        """Blank text in `ds`, in place; untouched unless text, or data beside the pixels, was found.

        One frame is in memory at a time. Raises Quarantine: `pixels` when a frame cannot be decoded, `text_in_pixels`
        when text outlasts the passes.
        """
        require_sane(ds)
        stripped = clean_stream(ds)
        judge = Judge(_name_parts(ds))
        blanks: dict[int, list[list[Region]]] = {}
        photometric, only = "", None
        for number, (frame, photometric) in enumerate(decode(ds)):
            only, passes = self._look(ds, frame, photometric, judge)
            if passes:
                blanks[number] = passes
        boxes = [Box(n, r.left, r.top, r.width, r.height) for n, passes in blanks.items() for p in passes for r in p]
        changed = bool(boxes) or has_stray_data(ds)
        if changed:
            single = int(ds.get("NumberOfFrames") or 1) == 1
            replace_pixels(ds, [only] if single and only is not None else _blanked(ds, blanks), photometric)
        return PixelResult(_outermost(boxes), changed or stripped, proved=True)

    def _look(self, ds: Dataset, frame: Frame, photometric: str, judge: Judge) -> tuple[Frame, list[list[Region]]]:
        """The frame without text, and what was blanked in each pass but the last, which proves it."""
        display = Display(ds, frame, photometric)
        pictures = display.pictures(frame)
        read: list[Region] = []
        passes: list[list[Region]] = []
        stay: dict[int, list[Seen]] = {}
        for _ in range(PASSES + 1):
            found = []
            for number, picture in enumerate(pictures):
                regions, stay[number] = judge.readable(picture, read, stay.get(number, ()))
                found += regions
            if not found:
                return frame, passes
            if self.policy == "quarantine":
                break
            read += found
            passes.append([_with_margin(r, frame.shape) for r in found])
            frame = _blank(frame, passes[-1], photometric, darkest(ds, photometric))
            pictures = display.repaint(pictures, frame, passes[-1])
        raise Quarantine("text_in_pixels", f"{sum(map(len, passes))} boxes")


def _blanked(ds: Dataset, blanks: dict[int, list[list[Region]]]) -> Iterator[Frame]:
    """The frames of `ds`, decoded again, each blanked as it was when it was looked at."""
    for number, (frame, photometric) in enumerate(decode(ds)):
        for regions in blanks.get(number, ()):
            frame = _blank(frame, regions, photometric, darkest(ds, photometric))
        yield frame


def _outermost(boxes: list[Box]) -> tuple[Box, ...]:
    """The boxes without those that lie within another."""

    def within(a: Box, b: Box) -> bool:
        return (
            a != b
            and a.frame == b.frame
            and (b.left <= a.left and a.left + a.width <= b.left + b.width)
            and (b.top <= a.top and a.top + a.height <= b.top + b.height)
        )

    distinct = dict.fromkeys(boxes)
    return tuple(a for a in distinct if not any(within(a, b) for b in distinct))


def _with_margin(text: Region, shape: tuple[int, ...]) -> Region:
    """A region with what it may lack of its letters, more at the ends of its line: a letter may be missing there."""
    height = min(text.width, text.height)
    ends, sides = max(3, height // 2), max(3, height // 4)
    return text.grown(*((ends, sides) if text.width >= text.height else (sides, ends)), shape)


def _blank(frame: Frame, regions: Iterable[Region], photometric: str, dark: Any) -> Frame:
    """The frame with each region filled, in place: grey by the median around it, colour and palette by black."""
    out = frame if frame.flags.writeable else frame.copy()
    for region in regions:
        if photometric.startswith("MONOCHROME"):
            ring = _with_margin(region, frame.shape)
            around = np.ones((ring.height, ring.width), bool)
            top, left = region.top - ring.top, region.left - ring.left
            around[top : top + region.height, left : left + region.width] = False
            values = ring.crop(out)[around]
            fill = np.partition(values, values.size // 2)[values.size // 2] if values.size else out.min()
        else:
            fill = dark
        region.crop(out)[...] = fill
    return out


def _name_parts(ds: Dataset) -> frozenset[str]:
    """Name parts of two and more letters in the header, in capitals."""
    names = [ds.get(k) for k in ("PatientName", "OtherPatientNames", "ReferringPhysicianName", "OperatorsName")]
    parts = re.findall(r"[^\W\d_]{2,}", " ".join(str(n) for n in names if n).upper())
    return frozenset(parts)
