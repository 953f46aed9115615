"""The pixel path on full-size radiographs: detection, blanking and proof, seconds an image on one core.

`python tests/benchmarks/deid_pixels.py [--images 12] [--seed 9000]`. Real radiographs at 2048 x 2500, 12 and 16 bits,
seven strings on each: a block of five in a corner, a line at the foot, a side marker. OpenCV and the models run one
thread; seconds are of processor time. The peer is the OCR engine alone at its defaults, as tools with OCR call it, on
one thread and the same pictures as displayed. Tokens are judged by tesseract.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipelines.deidentify.pixels import PixelCleaner
from tests.benchmarks.prints import (
    LEFT,
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

COLUMNS, ROWS = 2048, 2500
FAMILIES = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "DejaVuSans-Bold.ttf", "", "strokes")
SIZES = (20, 28, 36)
ROUNDS = 3


def main() -> None:
    given = options(__doc__, images=12)
    cv2.setNumThreads(1)
    made = [full_size(given.pictures, given.seed, number) for number in range(given.images)]
    seconds, left, before = [], 0, 0
    for number, (ds, lines) in enumerate(made):
        output, processor, wall = best(cleaned, ds)
        seconds.append(processor)
        was, now = tokens(ds, lines), tokens(output, lines)
        before, left = before + len(was), left + len(was & now)
        changed = ds.pixel_array != output.pixel_array
        missed = sum(line.missed(changed) > LEFT for line in lines[:-1])
        marker = "stayed" if lines[-1].missed(changed) == 1 else "removed"
        print(f"{number}: {ds.BitsStored} bits, {processor:.3f} s of processor, {wall:.3f} s of wall; lines not wholly "
              f"blanked {missed}, side marker {marker}", flush=True)  # fmt: skip
    mean, worst = statistics.mean(seconds), max(seconds)
    print(f"mean {mean:.3f} s, worst {worst:.3f} s; tokens left {left} of {before}")
    if given.develop:
        return
    engine = peer()
    theirs = statistics.mean(best(engine, grey(ds.pixel_array, ds), rounds=1)[1] for ds, _ in made[::4])
    record(
        f"pixel path, {COLUMNS} x {ROWS} CR of 12 and 16 bits with seven strings, s/image/core, {given.images} images",
        f"{mean:.3f} (worst {worst:.3f}), {left} of {before} tokens left",
        f"rapidocr at its defaults, OCR alone {theirs:.2f}",
        theirs / mean,
    )


def full_size(chest: Sequence[Path], seed: int, number: int) -> tuple[Dataset, list[Print]]:
    """A CR and what stands in it; the last is a side marker."""
    rng = np.random.default_rng([seed, number])
    picture = cv2.resize(load(chest[int(rng.integers(len(chest)))]), (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
    picture = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)
    who, family, size = person(rng), str(rng.choice(FAMILIES)), int(rng.choice(SIZES))
    texts = identity_lines(who, rng)
    right, low = bool(rng.integers(2)), bool(rng.integers(2))
    x = COLUMNS - 24 * size if right else 30
    y = ROWS - 400 if low else 30
    style = readable_style(picture, rng, (x + 6 * size, y + 4 * size), 6 * size)
    lines = [stamp(picture, t, family, size, 0, (x, y + round(1.5 * size * i)), style) for i, t in enumerate(texts[:5])]
    foot = int(rng.uniform(0.3, 0.6) * COLUMNS), 60 if low else ROWS - 90
    lines.append(stamp(picture, texts[5], family, size, 0, foot, readable_style(picture, rng, foot, 4 * size)))
    spot = (120 if right else COLUMNS - 220), int(rng.uniform(0.3, 0.5) * ROWS)
    style = readable_style(picture, rng, spot, 60)
    lines.append(stamp(picture, str(rng.choice(["L", "R"])), "DejaVuSans-Bold.ttf", 80, 0, spot, style))
    return as_dicom(picture, who, rng, bits=(12, 16)[number % 2]), lines


def best(work: Callable[[Any], Any], given: Any, rounds: int = ROUNDS) -> tuple[Any, float, float]:
    """The result of the last round, and the least seconds of processor and of wall time; one round before warms up."""
    processor, wall = [], []
    for _ in range(rounds + 1):
        own = deepcopy(given)
        start, clock = time.process_time(), time.perf_counter()
        result = work(own)
        processor.append(time.process_time() - start)
        wall.append(time.perf_counter() - clock)
    return result, min(processor[1:]), min(wall[1:])


def cleaned(ds: Dataset) -> Dataset:
    PixelCleaner().clean(ds)
    return ds


def tokens(ds: Dataset, lines: Sequence[Print]) -> set[str]:
    view = grey(ds.pixel_array, ds)
    return set().union(*(readable(view, line.box) for line in lines[:-1]))


def peer() -> Callable[[NDArray[np.uint8]], Any]:
    """rapidocr at its defaults but for its threads, of which it gets one as we do."""
    from rapidocr import RapidOCR

    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    engine = RapidOCR(params=threads)
    return lambda view: engine(np.stack([view] * 3, axis=-1))


if __name__ == "__main__":
    main()
