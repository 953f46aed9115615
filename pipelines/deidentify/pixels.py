"""Text burned into the pixels: found by detection, blanked in the stored values, looked for again as proof.

Every text is blanked but the marks that radiographers put beside the patient: side and position from an allow-list,
and lone marks of up to three letters (a lead letter with the radiographer's initials), unless the header says that
these letters are somebody's name. The header can raise the suspicion, never lower it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from pydicom import Dataset

from pipelines.deidentify.identities import Quarantine
from pipelines.deidentify.pixels_codec import (
    Frame,
    View,
    darkest,
    decode,
    has_stray_data,
    replace_pixels,
    require_sane,
    views,
)
from pipelines.deidentify.pixels_stream import clean_stream
from pipelines.deidentify.pixels_text import Region, find_text, read_text

PASSES = 3
# Side, projection and position, as radiographers mark them.
MARKERS = frozenset(
    {"L", "R", "LEFT", "RIGHT", "AP", "PA", "LAT", "LATERAL", "LL", "RL", "ERECT", "UPRIGHT", "SITTING", "SUPINE"}
    | {"SEMI", "DECUB", "PORTABLE", "PORT", "MOBILE", "ON", "WHEELCHAIR", "STANDING"}
)
POSITIONS = ("PORTABLE", "SUPINE", "UPRIGHT", "ERECT", "SITTING")
LEGIBLE = 0.5  # mean confidence of a reading that means something; print is read at 0.95 and above
MARK_LETTERS = 3
STACK = 4  # letters of a lead mark set upright
SURE = 0.9
HUGE = 0.25  # of the shorter side: no print is so tall
TALL = 0.12  # what is taller must be read with certainty
LINE = 3.0  # length by height from which on a small unread region is taken for a line of print
SMALL = 0.06
LINE_SCORE = 0.8


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

        Raises Quarantine: `pixels` when a frame cannot be decoded, `text_in_pixels` when text outlasts the passes.
        """
        require_sane(ds)
        names = _name_parts(ds)
        frames, boxes, photometric = [], [], ""
        for number, (frame, photometric) in enumerate(decode(ds)):
            cleaned, regions = self._clean_frame(ds, frame, photometric, names)
            frames.append(cleaned)
            boxes += [Box(number, r.left, r.top, r.width, r.height) for r in regions]
        changed = bool(boxes) or has_stray_data(ds)
        if changed:
            replace_pixels(ds, frames, photometric)
        else:
            changed = clean_stream(ds)
        return PixelResult(_outermost(boxes), changed, proved=True)

    def _clean_frame(
        self, ds: Dataset, frame: Frame, photometric: str, names: frozenset[str]
    ) -> tuple[Frame, list[Region]]:
        read: list[Region] = []
        blanked: list[Region] = []
        for _ in range(PASSES + 1):
            found = [region for view in views(ds, frame, photometric) for region in readable(view, names, read)]
            if not found:
                return frame, blanked
            if self.policy == "quarantine":
                break
            read += found
            wide = [r.grown(_margin(r.height), _margin(r.height), frame.shape) for r in found]
            frame = _blank(frame, wide, photometric, darkest(ds, photometric))
            blanked += wide
        raise Quarantine("text_in_pixels", f"{len(blanked)} boxes")


def readable(view: View, names: frozenset[str] = frozenset(), around: Sequence[Region] = ()) -> list[Region]:
    """The regions of a grey picture (rows, columns) uint8 that must be blanked.

    `names` are words, in capitals, that no mark may be. `around` is text that was read, and blanked, before: what is
    left of it beside the box is text too, and the look there is the closest.
    """
    verdicts: list[_Seen] = []
    for region in find_text(view, around):
        if not any(_same(region, s.region) for s in verdicts):
            verdicts.append(_look(view, region, names))
    text = [s for s in verdicts if s.verdict == "text"]
    marks = [s for s in verdicts if s.verdict in ("mark", "unread")]
    # A short mark beside or under a line of print belongs to it: an initial, a sex, an age.
    # What cannot be read beside a blanked box may be the box's own edge, so only letters join it there.
    anchors = [s.region for s in text]
    rest = [m for m in marks if m.verdict == "mark" and any(_adjoins(m.region, a) for a in around)]
    text += rest
    anchors += [m.region for m in rest]
    marks = [m for m in marks if m not in rest]
    while joined := [m for m in marks if any(_adjoins(m.region, a) for a in anchors)]:
        text += joined
        anchors += [m.region for m in joined]
        marks = [m for m in marks if m not in joined]
    return [s.region for s in text]


@dataclass(frozen=True)
class _Seen:
    region: Region
    verdict: str
    """text | mark (read, too short to identify) | unread (small, and no letter was read) | nothing"""


def _look(view: View, region: Region, names: frozenset[str]) -> _Seen:
    """Read a region, along its longer side, and judge it."""
    crop = region.crop(view)
    crop = np.asarray(cv2.normalize(crop, None, 0, 255, cv2.NORM_MINMAX), dtype=np.uint8)
    upright = region.height <= 2 * region.width
    turned = [crop] if upright else [np.ascontiguousarray(np.rot90(crop)), np.ascontiguousarray(np.rot90(crop, 3))]
    reading, confidence = max(read_text(turned), key=lambda r: r[1])
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", reading).upper())
    if not upright and (confidence < SURE or len("".join(words)) <= STACK):
        words = [w for w in words if w in names]  # lead letters one below the other, which read as a line when turned
    return _Seen(region, _verdict(view.shape, region, words, confidence, names))


def _verdict(shape: tuple[int, ...], region: Region, words: list[str], confidence: float, names: frozenset[str]) -> str:
    letters, side = "".join(words), min(shape[:2])
    height = min(region.width, region.height)
    if height > HUGE * side or (height > TALL * side and confidence < SURE):
        return "nothing"
    if confidence >= LEGIBLE and letters:
        if all(w in MARKERS for w in words):
            return "mark" if len(letters) <= 2 else "nothing"
        if letters.endswith(POSITIONS) and len(re.sub("|".join(POSITIONS), "", letters)) <= 2:
            return "nothing"  # AP above PORTABLE, read as one line
        if len(letters) > MARK_LETTERS or any(w in names for w in words):
            return "text"
        return "text" if letters.isdigit() and len(letters) == MARK_LETTERS else "mark"
    # When unsure, blank: print that cannot be read here may be read elsewhere. Upright letters one above the other are
    # lead marks, and unreadable as a line.
    line = region.width >= LINE * region.height and height <= SMALL * side and region.score >= LINE_SCORE
    return "text" if line else "unread"


def _same(a: Region, b: Region) -> bool:
    """Intersection over union above one half."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    common = max(width, 0) * max(height, 0)
    return 2 * common > a.width * a.height + b.width * b.height - common


def _adjoins(mark: Region, text: Region) -> bool:
    """Whether a mark of about the text's size stands on its line or right above or below it."""
    size = min(text.width, text.height)
    if not 0.4 * size <= min(mark.width, mark.height) <= 2 * size:
        return False
    near = text.grown(2 * size, size // 2, (1 << 30, 1 << 30))
    return mark.left < near.right and near.left < mark.right and mark.top < near.bottom and near.top < mark.bottom


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


def _margin(height: int) -> int:
    return max(3, height // 4)


def _blank(frame: Frame, regions: Iterable[Region], photometric: str, darkest_entry: int) -> Frame:
    """A copy of the frame with each region filled: grey by the median around it, colour and palette by black."""
    out = frame.copy()
    for region in regions:
        if photometric.startswith("MONOCHROME"):
            ring = region.grown(_margin(region.height), _margin(region.height), frame.shape)
            around = np.ones((ring.height, ring.width), bool)
            top, left = region.top - ring.top, region.left - ring.left
            around[top : top + region.height, left : left + region.width] = False
            values = ring.crop(out)[around]
            fill = np.partition(values, values.size // 2)[values.size // 2] if values.size else out.min()
        else:
            fill = darkest_entry
        region.crop(out)[...] = fill
    return out


def _name_parts(ds: Dataset) -> frozenset[str]:
    """Name parts of two and more letters in the header, in capitals."""
    names = [ds.get(k) for k in ("PatientName", "OtherPatientNames", "ReferringPhysicianName", "OperatorsName")]
    parts = re.findall(r"[^\W\d_]{2,}", " ".join(str(n) for n in names if n).upper())
    return frozenset(parts)
