"""Which of the texts in a picture must go: everything but the marks that radiographers put beside the patient.

Marks are words of side, projection and position from an allow-list, and lone marks of up to three letters (a lead
letter with the radiographer's initials), unless the header says that these letters are somebody's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.deidentify.pixels_gate import Picture, Region
from pipelines.deidentify.pixels_models import read_text
from pipelines.deidentify.pixels_text import find_text

# Side, projection, position and breath, as radiographers mark them, and the units of scales.
MARKERS = frozenset(
    {"L", "R", "LEFT", "RIGHT", "AP", "PA", "LAT", "LATERAL", "LL", "RL", "OBL", "OBLIQUE", "LAO", "RAO", "LPO", "RPO"}
    | {"ERECT", "UPRIGHT", "SITTING", "STANDING", "SUPINE", "PRONE", "SEMI", "SEMIERECT", "SEMIUPRIGHT", "RECUMBENT"}
    | {"DECUB", "DECUBITUS", "LORDOTIC", "AXIAL", "PORTABLE", "PORT", "MOBILE", "BEDSIDE", "BED", "STRETCHER", "TABLE"}
    | {"XTABLE", "CROSS", "ON", "WHEELCHAIR", "CHAIR", "INSP", "INSPIRATION", "EXP", "EXPIRATION", "CM", "MM", "DEG"}
)
GLUED = ("PORTABLE", "SUPINE", "UPRIGHT", "ERECT", "SITTING", "BEDSIDE", "LEFT")  # read as one with what stands above
LEGIBLE = 0.5  # mean confidence of a reading that means something; print is read at 0.95 and above
MARK_LETTERS = 3
SCALE = re.compile(r"\d{1,2}|\d{1,2}(CM|MM)")  # of a ruler, a distance, an angle
STACK = 4  # letters of a lead mark set upright
SURE = 0.9
HUGE = 0.25  # of the shorter side: no print is so tall
TALL = 0.12  # what is taller must be read with certainty
SMALL, TURNED_SMALL = 0.06, 0.02
LEAD, LEAD_PIXELS, LEAD_LETTERS = 0.03, 30, 5  # a lead letter of the side with three initials is at least so tall
LINE, TURNED_LINE = 3.0, 2.5  # length by height from which on a small unread region is taken for a line of print
LINE_SCORE = 0.8
LETTER, SQUARE = 0.35, 1.6  # width by height of the narrowest letters, and of the broadest mark set askew
MADE_OF = 0.3  # of a region, by marks that were read one by one
MARGIN = 10  # of the height of a line, around it: read without, letters are cut
HEAD = 6  # heights of a line that are read first: about ten letters


@dataclass(frozen=True)
class _Seen:
    region: Region
    verdict: str
    """text | mark (read, too short to identify) | unread (small, and no letter was read) | stays (marks in full)"""
    sure: bool


class Judge:
    """Says which text of pictures must go. `names` are words, in capitals, that no mark may be."""

    def __init__(self, names: frozenset[str] = frozenset(), markers: frozenset[str] = frozenset()) -> None:
        self.names, self.markers = names, MARKERS | markers

    def readable(self, picture: Picture, around: Sequence[Region] = ()) -> list[Region]:
        """The regions of a picture (rows, columns) that must be blanked.

        `around` is text that was read, and blanked, before: what is left of it beside the box is text too, and the look
        there is the closest.
        """
        seen: list[_Seen] = []
        for region in find_text(picture, around):
            if not any(_same(region, s.region) for s in seen):
                seen.append(self._look(picture, region))
        kept = [s.region for s in seen if s.verdict in ("mark", "stays") and s.sure]
        text = [s.region for s in seen if s.verdict == "text" and not (_made_of(s.region, kept) and not s.sure)]
        marks = [s for s in seen if s.verdict in ("mark", "unread")]
        # A short mark beside or under a line of print belongs to it: an initial, a sex, an age.
        # What cannot be read beside a blanked box may be the box's own edge, so only letters join it there.
        rest = [m for m in marks if m.verdict == "mark" and any(_adjoins(m.region, a) for a in around)]
        text += [m.region for m in rest]
        marks = [m for m in marks if m not in rest]
        while joined := [m for m in marks if any(_adjoins(m.region, t) for t in text)]:
            text += [m.region for m in joined]
            marks = [m for m in marks if m not in joined]
        return text

    def _look(self, picture: Picture, region: Region) -> _Seen:
        """Read a region, along its longer side, and judge it."""
        margin = max(min(region.width, region.height) // MARGIN, 2)
        crop = region.grown(margin, margin, picture.shape).crop(picture)
        upright = region.height <= 2 * region.width
        ways = [crop] if upright else [np.ascontiguousarray(np.rot90(crop)), np.ascontiguousarray(np.rot90(crop, 3))]
        if max(crop.shape) > 1.2 * HEAD * min(crop.shape):
            # Reading a whole line takes long, and its first words tell whether it is more than marks.
            seen = self._read(picture, region, [way[:, : HEAD * way.shape[0]] for way in ways], cut=True)
            if seen.verdict == "text":
                return seen
        return self._read(picture, region, ways)

    def _read(self, picture: Picture, region: Region, ways: list[Picture], cut: bool = False) -> _Seen:
        """The verdict on a region by the better of its `ways` round; the last word of a `cut` reading may go on."""
        reading, confidence = max((read_text(way) for way in ways), key=lambda r: r[1])
        words = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", reading).upper())
        if cut and words and any(marker.startswith(words[-1]) for marker in self.markers):
            words.pop()
        if len(ways) > 1 and (confidence < SURE or len("".join(words)) <= STACK):
            # Lead letters one below the other, which read as a line when turned.
            words = [w for w in words if w in self.names]
        return _Seen(region, self._verdict(min(picture.shape), region, words, confidence), confidence >= SURE)

    def _verdict(self, side: int, region: Region, words: list[str], confidence: float) -> str:
        """What words, read with a confidence in a region of a picture with a shorter `side`, make of it."""
        letters, known = "".join(words), any(w in self.names for w in words)
        length, height = max(region.width, region.height), min(region.width, region.height)
        if height > HUGE * side or (height > TALL * side and confidence < SURE):
            return "stays"
        if height > SMALL * side and length < min(LETTER * len(letters), SQUARE) * height:
            return "unread"  # set askew
        if confidence < LEGIBLE or not letters:
            # When unsure, blank: print that cannot be read here may be read elsewhere. Upright letters one above the
            # other are lead marks, and unreadable as a line.
            line = region.width >= LINE * region.height and height <= SMALL * side
            line = line or (region.height >= TURNED_LINE * region.width and height <= TURNED_SMALL * side)
            return "text" if line and region.score >= LINE_SCORE else "unread"
        if known:
            return "text"
        if any(w in self.markers for w in words) and all(w in self.markers or SCALE.fullmatch(w) for w in words):
            return "mark" if len(letters) <= 2 else "stays"
        if letters.endswith(GLUED) and len(re.sub("|".join(GLUED), "", letters)) <= 2:
            return "stays"
        if letters[0] in "LR" and len(letters) <= LEAD_LETTERS and height >= max(LEAD * side, LEAD_PIXELS):
            return "mark"
        if len(letters) > MARK_LETTERS or (letters.isdigit() and len(letters) == MARK_LETTERS):
            return "text"
        return "mark"


def _made_of(region: Region, marks: Sequence[Region]) -> bool:
    """Whether a region is marks that were read one by one, run together on a coarser level."""
    within = [m for m in marks if m.grown(0, 0, (region.bottom, region.right)) == m]
    within = [m for m in within if m.left >= region.left and m.top >= region.top and m != region]
    return sum(m.width * m.height for m in within) >= MADE_OF * region.width * region.height


def _same(a: Region, b: Region) -> bool:
    """Intersection over union above one half."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    common = max(width, 0) * max(height, 0)
    return 2 * common > a.width * a.height + b.width * b.height - common


def _adjoins(mark: Region, text: Region) -> bool:
    """Whether a mark of about the text's size stands on its line or right beside the line."""
    size = min(text.width, text.height)
    if not 0.4 * size <= min(mark.width, mark.height) <= 2 * size:
        return False
    along = (2 * size, size // 2) if text.width >= text.height else (size // 2, 2 * size)
    near = text.grown(*along, (1 << 30, 1 << 30))
    return mark.left < near.right and near.left < mark.right and mark.top < near.bottom and near.top < mark.bottom
