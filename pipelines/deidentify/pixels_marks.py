"""Which of the texts in a picture must go: everything but the marks that radiographers put beside the patient.

Marks are words of side, projection and position from an allow-list, and lone marks of up to three letters (a lead
letter with the radiographer's initials), unless the header says that these letters are somebody's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from pipelines.deidentify.pixels_gate import Picture, Region
from pipelines.deidentify.pixels_models import read_text
from pipelines.deidentify.pixels_text import find_text, fitted
from pipelines.deidentify.pixels_words import MARKERS, is_marks, is_piece, may_become_marks, words_of

LEGIBLE = 0.5  # mean confidence of a reading that means something; print is read at 0.95 and above
MARK_LETTERS = 3
STACK = 4  # letters of a lead mark set upright
TURNED_LETTERS, TURNED_SURE = 6, 0.7  # so many letters, read so surely on a line turned, are of no lead mark
SURE = 0.9
HUGE = 0.25  # of the shorter side: no print is so tall
TALL = 0.12  # what is taller must be read with certainty
SMALL, TURNED_SMALL = 0.06, 0.02
LEAD, LEAD_PIXELS, LEAD_LETTERS = 0.03, 30, 5  # a lead letter of the side with three initials is at least so tall
LINE, TURNED_LINE = 3.0, 2.5  # length by height from which on a small unread region is taken for a line of print
LINE_SCORE = 0.8
LETTER, SQUARE = 0.35, 1.6  # width by height of the narrowest letters, and of the broadest mark set askew
MADE_OF, WITHIN = 0.3, 0.9  # of a region, by marks that were read one by one, and of each of them
SAME, UNSURE_SAME = 0.5, 0.75  # intersection over union of regions of which one reading, sure or unsure, is enough
HELD, ALIKE = 0.2, (0.75, 0.85)  # of a region, by one mark, and of the letters of its unsure and sure readings
SHORT = 1.2  # height by width of a region that may be a line turned
MARGIN = 10  # of the height of a line, around it: read without, letters are cut
JOINED = re.compile(r"\d[-/:]\d")
PIECE = (1, 2, 3)  # heights of a line by which it is made longer at both ends, where what is on it fades
SIDES = ("L", "R")
HEAD = 3  # heights of a line that are read first: about five letters


@dataclass(frozen=True)
class Seen:
    """A region and what was read in it."""

    region: Region
    verdict: str
    """text | mark (read, too short to identify) | unread (small, and no letter was read) | stays (marks in full)"""
    sure: bool
    words: tuple[str, ...]
    has_date: bool
    """Whether numbers are joined as in dates, times and telephone numbers, and never on scales."""

    @property
    def letters(self) -> str:
        return "".join(self.words)


class Judge:
    """Says which text of pictures must go. `names` are words, in capitals, that no mark may be."""

    def __init__(self, names: frozenset[str] = frozenset(), markers: frozenset[str] = frozenset()) -> None:
        self.names, self.markers = names, MARKERS | markers

    def readable(
        self, picture: Picture, around: Sequence[Region] = (), before: Sequence[Seen] = ()
    ) -> tuple[list[Region], list[Seen]]:
        """The regions of a picture (rows, columns) that must be blanked, and the marks, read without doubt, that stay.

        `around` is text that was read, and blanked, before: what is left of it beside the box is text too, and the look
        there is the closest. `before` are the marks that stayed then.
        """
        seen = list(before)

        def is_settled(region: Region) -> bool:
            """Read a new region; whether it is print, or a mark, without doubt."""
            if not any(_overlap(region, s.region) > (SAME if s.sure else UNSURE_SAME) for s in seen):
                seen.append(self._look(picture, region))
            return any(s.sure and s.verdict != "unread" for s in seen if s.region == region)

        list(find_text(picture, around, [s.region for s in before], is_settled))
        kept = [s.region for s in seen if s.verdict in ("mark", "stays") and s.sure]
        whole = [s for s in seen if s.verdict == "stays" and s.sure]
        prints = [s for s in seen if s.verdict == "text" and not _part_of(s, whole)]
        text = [s.region for s in prints if s.sure or not _made_of(s.region, kept)]
        marks = [s for s in seen if s.verdict in ("mark", "unread")]
        # A short mark beside or under a line of print belongs to it: an initial, a sex, an age.
        # What cannot be read beside a blanked box may be the box's own edge, so only letters join it there.
        rest = [m for m in marks if m.verdict == "mark" and any(_adjoins(m.region, a) for a in around)]
        text += [m.region for m in rest]
        marks = [m for m in marks if m not in rest]
        while joined := [m for m in marks if any(_adjoins(m.region, t) for t in text)]:
            text += [m.region for m in joined]
            marks = [m for m in marks if m not in joined]
        return text, [s for s in seen if s.region in kept and s.region not in text]

    def _look(self, picture: Picture, region: Region) -> Seen:
        """Read a region and judge it; what reads as a piece of a mark is looked at with more of its line."""
        seen = self._look_at(picture, region)
        if seen.verdict == "text" and not self.names & set(seen.words) and is_piece(seen.letters, self.markers):
            for heights in PIECE:
                line = region.grown(heights * region.height, 0, picture.shape)
                whole = self._read(picture, line, [_with_margin(line, picture)])
                if whole.verdict == "stays" and whole.sure:
                    return whole
        if seen.verdict == "text" and not seen.words and region.height > region.width:
            upright = self._read(picture, region, [_with_margin(region, picture)])
            return upright if upright.sure and upright.letters in SIDES else seen  # the narrowest letters
        return seen

    def _look_at(self, picture: Picture, region: Region) -> Seen:
        """Read a region, along its longer side, and judge it."""
        crop = _with_margin(region, picture)
        ways = [crop] if region.height <= 2 * region.width else _turned(crop)
        if max(crop.shape) > 1.2 * HEAD * min(crop.shape):
            # Reading a whole line takes long, and its first letters mostly tell that they are no mark's.
            head = self._read(picture, region, [way[:, : HEAD * way.shape[0]] for way in ways])
            fits_marks = may_become_marks(head.words, self.markers) and not head.has_date
            if head.verdict == "text" and head.sure and not fits_marks:
                return head
        seen = self._read(picture, region, ways)
        if seen.verdict == "unread" and SHORT * region.width < region.height < SMALL * min(picture.shape):
            # A short line that runs up or down, of which the detector sees little more than that it is there.
            line = fitted(region, picture)
            other = self._read(picture, line, _turned(_with_margin(line, picture)))
            return other if other.verdict == "text" and other.sure else seen
        return seen

    def _read(self, picture: Picture, region: Region, ways: list[Picture]) -> Seen:
        """The verdict on a region by the better of its `ways` round."""
        reading, confidence = max((read_text(way) for way in ways), key=lambda r: r[1])
        words = words_of(reading)
        letters = len("".join(words))
        if len(ways) > 1 and (letters <= STACK or confidence < (SURE if letters < TURNED_LETTERS else TURNED_SURE)):
            # Lead letters one below the other, which read as a line when turned.
            words = [w for w in words if w in self.names]
        verdict = self._verdict(min(picture.shape), region, words, confidence)
        # In what is no print at all the recogniser mostly sees signs of other scripts, and is sure of them.
        sure = confidence >= SURE and (verdict == "text" or reading.isascii())
        return Seen(region, verdict, sure, tuple(words), bool(JOINED.search(reading)))

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
        if is_marks(words, self.markers):
            return "mark" if len(letters) <= 2 else "stays"
        if letters[0] in "LR" and len(letters) <= LEAD_LETTERS and height >= max(LEAD * side, LEAD_PIXELS):
            return "mark"
        if len(letters) > MARK_LETTERS or (letters.isdigit() and len(letters) == MARK_LETTERS):
            return "text"
        return "mark"


def _with_margin(region: Region, picture: Picture) -> Picture:
    margin = max(min(region.width, region.height) // MARGIN, 2)
    return region.grown(margin, margin, picture.shape).crop(picture)


def _turned(crop: Picture) -> list[Picture]:
    return [np.ascontiguousarray(np.rot90(crop, turns)) for turns in (1, 3)]


def _made_of(region: Region, marks: Sequence[Region]) -> bool:
    """Whether a region is marks that were read one by one, run together on a coarser level."""
    parts = [(region.common(m), m) for m in marks if m != region]
    return sum(part.area for part, m in parts if part.area >= WITHIN * m.area) >= MADE_OF * region.area


def _part_of(seen: Seen, marks: Sequence[Seen]) -> bool:
    """Whether a region holds a mark that was read in full, cut at the edge of what was looked at or read less well."""
    return any(_is_of(seen, m) and seen.region.common(m.region).area >= HELD * seen.region.area for m in marks)


def _is_of(seen: Seen, mark: Seen) -> bool:
    alike = SequenceMatcher(None, seen.letters, mark.letters, autojunk=False).ratio()
    return alike >= ALIKE[seen.sure] or (seen.sure and seen.letters in mark.letters)


def _overlap(a: Region, b: Region) -> float:
    """Intersection over union."""
    common = a.common(b).area
    return common / (a.area + b.area - common)


def _adjoins(mark: Region, text: Region) -> bool:
    """Whether a mark of about the text's size stands on its line or right beside the line."""
    size = min(text.width, text.height)
    if not 0.4 * size <= min(mark.width, mark.height) <= 2 * size:
        return False
    along = (2 * size, size // 2) if text.width >= text.height else (size // 2, 2 * size)
    near = text.grown(*along, (1 << 30, 1 << 30))
    return mark.left < near.right and near.left < mark.right and mark.top < near.bottom and near.top < mark.bottom
