"""Burned-in text gone, everything else untouched: judged on decoded pixels of source and output."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset

from pipelines.score.key import Box

TOKEN = re.compile(r"[A-Z0-9]{3,}")
# A patch that reaches further than this share of the picture is no blanked text, whatever lies under it.
LARGEST_PATCH = 0.05


@dataclass(frozen=True)
class Verdict:
    """What the pixels of one instance say."""

    readable: int
    """Boxes of which a planted token can still be read."""
    readable_before: int
    """The same on the source: what the judge can read at all."""
    changed: float
    """Share of all pixels that differ from the source."""
    strayed: float
    """Share that differs although no text is near."""


def compare_pixels(source: Dataset, output: Dataset, boxes: tuple[Box, ...]) -> Verdict:
    """Judge one instance. Raises ValueError when the two cannot be compared (size, number of frames)."""
    before, after = source.pixel_array, output.pixel_array
    if before.shape != after.shape:
        raise ValueError("shape")
    changed = before != after
    views = _view(before, source), _view(after, output)
    strayed = _away_from_text(changed, views[0], boxes)
    readable = [_readable(views[1], box) for box in boxes]
    readable_before = [_readable(views[0], box) for box in boxes]
    return Verdict(sum(readable), sum(readable_before), float(changed.mean()), float(strayed.mean()))


def _away_from_text(changed: np.ndarray, view: np.ndarray, boxes: tuple[Box, ...]) -> np.ndarray:
    """The changed pixels of patches under which the source has no text, planted or its own (markers, device logos).

    A patch may reach a little further than the text that it hides, so a whole patch is judged.
    """
    left = changed & ~_near(boxes, changed.shape)
    patches = cv2.dilate(changed.astype(np.uint8), np.ones((9, 9), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(patches)
    planted = set(np.unique(labels[_near(boxes, changed.shape)]).tolist())
    for label in range(1, count):
        patch = labels == label
        overhang = float((left & patch).mean())
        if 0 < overhang <= LARGEST_PATCH and (label in planted or _holds_text(view, *stats[label, :4].tolist())):
            left[patch] = False
    return left


def _holds_text(view: np.ndarray, x: int, y: int, width: int, height: int) -> bool:
    """Whether the detector sees text in a part of the picture, enlarged and whichever way up."""
    part = view[max(0, y - 16) : y + height + 16, max(0, x - 16) : x + width + 16]
    part = cv2.resize(part, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    return any(_detects(np.ascontiguousarray(np.rot90(part, turns))) for turns in range(4))


def tokens(text: str) -> set[str]:
    """Runs of at least three letters or digits, without accents, in capitals."""
    return set(TOKEN.findall(_plain(text)))


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).replace("Ø", "O").replace("ø", "o")
    return "".join(c for c in letters if not unicodedata.combining(c)).upper()


def _readable(view: np.ndarray, box: Box) -> bool:
    """Whether any token of the planted line is recognised in the box, in either polarity, plain or stretched."""
    margin = max(4, box.height // 2)
    top, left = max(0, box.top - margin), max(0, box.left - margin)
    inside = view[box.top : box.top + box.height, box.left : box.left + box.width]
    if inside.size == 0 or inside.min() == inside.max():
        return False
    crop = view[top : box.top + box.height + margin, left : box.left + box.width + margin]
    low, high = int(crop.min()), int(crop.max())
    stretched = ((crop.astype(np.float32) - low) * (255 / (high - low))).astype(np.uint8)
    planted = tokens(box.text)
    for picture in (crop, 255 - crop, stretched, 255 - stretched):
        seen = re.sub(r"[^A-Z0-9]", "", _plain("".join(_recognise(picture))))
        if any(token in seen for token in planted):
            return True
    return False


def _near(boxes: Iterable[Box], shape: tuple[int, ...]) -> np.ndarray:
    """Mask of boxes grown by twice their height, at least 32 pixels: so much larger than text may a patch be."""
    mask = np.zeros(shape[:2], bool)
    for box in boxes:
        margin = max(32, 2 * box.height)
        rows = slice(max(0, box.top - margin), box.top + box.height + margin)
        mask[rows, max(0, box.left - margin) : box.left + box.width + margin] = True
    return mask


def _view(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """uint8 grey picture for reading text, all stored bits."""
    shift = max(0, int(ds.BitsStored) - 8)
    view = np.clip(pixels.astype(np.int64) >> shift, 0, 255).astype(np.uint8)
    return 255 - view if ds.PhotometricInterpretation == "MONOCHROME1" else view


def _detects(view: np.ndarray) -> bool:
    picture = cv2.cvtColor(view, cv2.COLOR_GRAY2BGR)
    found = _engine()(picture, use_det=True, use_cls=False, use_rec=False, box_thresh=0.4)
    return found.boxes is not None and len(found.boxes) > 0


def _recognise(crop: np.ndarray) -> list[str]:
    scale = 48 / crop.shape[0]
    line = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    found = _engine()(cv2.cvtColor(line, cv2.COLOR_GRAY2BGR), use_det=False, use_cls=False, use_rec=True)
    return list(found.txts or [])


@functools.cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    cv2.setNumThreads(1)
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.text_score": 0.0,
            "Det.limit_side_len": 256,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
