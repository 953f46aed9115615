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
    strayed = changed & ~_near(boxes, before.shape)
    if strayed.any():
        # Text that stood in the picture before anything was planted may be blanked as well.
        strayed &= ~_near(_detect(_view(before, source)), before.shape)
    views = _view(before, source), _view(after, output)
    readable = [_readable(views[1], box) for box in boxes]
    readable_before = [_readable(views[0], box) for box in boxes]
    return Verdict(sum(readable), sum(readable_before), float(changed.mean()), float(strayed.mean()))


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
    crop = view[top : box.top + box.height + margin, left : box.left + box.width + margin]
    if crop.size == 0 or crop.min() == crop.max():
        return False
    stretched = cv2.normalize(crop, None, 0, 255, cv2.NORM_MINMAX)
    planted = tokens(box.text)
    for picture in (crop, 255 - crop, stretched, 255 - stretched):
        seen = re.sub(r"[^A-Z0-9]", "", _plain("".join(_recognise(picture))))
        if any(token in seen for token in planted):
            return True
    return False


def _near(boxes: Iterable[Box], shape: tuple[int, ...]) -> np.ndarray:
    """Mask of boxes grown by their own height, at least 24 pixels: a blanked patch may be so much larger than text."""
    mask = np.zeros(shape[:2], bool)
    for box in boxes:
        margin = max(24, box.height)
        rows = slice(max(0, box.top - margin), box.top + box.height + margin)
        mask[rows, max(0, box.left - margin) : box.left + box.width + margin] = True
    return mask


def _view(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """uint8 grey picture for reading text, all stored bits."""
    shift = max(0, int(ds.BitsStored) - 8)
    view = np.clip(pixels.astype(np.int64) >> shift, 0, 255).astype(np.uint8)
    return 255 - view if ds.PhotometricInterpretation == "MONOCHROME1" else view


def _detect(view: np.ndarray) -> list[Box]:
    found = _engine()(cv2.cvtColor(view, cv2.COLOR_GRAY2BGR), use_det=True, use_cls=False, use_rec=False)
    boxes = []
    for corners in found.boxes if found.boxes is not None else []:
        (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
        boxes.append(Box("", int(left), int(top), int(right - left), int(bottom - top)))
    return boxes


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
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
