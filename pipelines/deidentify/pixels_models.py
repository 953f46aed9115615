"""PP-OCR's detector and recogniser on onnxruntime, as functions of pictures.

The models are files of the `rapidocr` wheel; nothing is ever fetched. One thread each, since the stage runs one process
a core. `use_provider` puts them on a GPU where the machine has one and its onnxruntime can use it.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.contract import BadInput

Picture = NDArray[Any]  # uint8 or uint16 (rows, columns): levels of 255 shades as displayed, see pixels_picture

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
WHITE = 255
LINE_HEIGHT, LEAST_WIDTH, GREATEST_WIDTH = 48, 16, 1600  # pixels of the recogniser's input
_provider = ["cpu"]


def use_provider(name: str) -> None:
    """Choose where the models run, `cpu` or `cuda`, before the first picture; BadInput where that is not possible."""
    import onnxruntime

    if PROVIDERS[name] not in onnxruntime.get_available_providers():
        raise BadInput(f"This installation cannot detect text with '{name}'; install onnxruntime-gpu or choose 'cpu'.")
    if _provider != [name]:
        _provider[:] = [name]
        detector.cache_clear()
        recogniser.cache_clear()


def text_probability(picture: Picture) -> NDArray[np.float32]:
    """Probability of text for each pixel of a picture whose sides are multiples of 32 (DB, arXiv 1911.08947)."""
    low, high, _, _ = cv2.minMaxLoc(picture)
    if picture.dtype == np.uint8:
        low, high = 0, WHITE
    # A patch of more than 255 levels is compressed; a fainter one is never stretched, which would make print of grain.
    (result,) = detector().run(None, {"x": _tensor(picture, (low + high) / 2, max(high - low, WHITE) / 2)})
    return np.asarray(result[0, 0], dtype=np.float32)


def read_text(picture: Picture) -> tuple[str, float]:
    """The recogniser's reading and mean confidence of one upright line of text."""
    session, characters = recogniser()
    width = round(picture.shape[1] * LINE_HEIGHT / max(picture.shape[0], 1))
    line = cv2.resize(picture, (min(max(width, LEAST_WIDTH), GREATEST_WIDTH), LINE_HEIGHT))
    low, high, _, _ = cv2.minMaxLoc(line)
    (probabilities,) = session.run(None, {"x": _tensor(line, (low + high) / 2, max(high - low, 1) / 2)})
    return _decode(probabilities[0], characters)


@functools.cache
def detector() -> Any:
    return _session("PP-OCRv6_det_small.onnx")


@functools.cache
def recogniser() -> tuple[Any, list[str]]:
    session = _session("PP-OCRv6_rec_small.onnx")
    characters = session.get_modelmeta().custom_metadata_map["character"].splitlines()
    return session, ["", *characters, " "]


def _tensor(picture: Picture, centre: float, half: float) -> NDArray[np.float32]:
    """(1, 3, rows, columns), each channel the picture with centre +- half scaled to [-1, 1]."""
    grey = (picture.astype(np.float32) - np.float32(centre)) * np.float32(1 / half)
    return np.ascontiguousarray(np.broadcast_to(grey, (1, 3, *picture.shape)))


def _decode(probability: NDArray[np.float32], characters: list[str]) -> tuple[str, float]:
    """Greedy CTC: repeated classes collapse, class 0 is the blank."""
    best = probability.argmax(axis=1)
    keep = (best != 0) & np.concatenate([[True], best[1:] != best[:-1]])
    text = "".join(characters[i] for i in best[keep])
    return text, float(probability.max(axis=1)[keep].mean()) if keep.any() else 0.0


def _session(name: str) -> Any:
    import onnxruntime

    cv2.setNumThreads(1)
    spec = importlib.util.find_spec("rapidocr")
    assert spec and spec.origin  # noqa: S101 - a dependency in the lock
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    path = Path(spec.origin).parent / "models" / name
    return onnxruntime.InferenceSession(str(path), options, providers=[PROVIDERS[_provider[0]]])
