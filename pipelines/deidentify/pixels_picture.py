"""What any display would show of a frame, as one picture to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from pipelines.deidentify.pixels_gate import Region
from pipelines.deidentify.reasons import Quarantine

Frame = NDArray[Any]
Picture = NDArray[Any]
Table = NDArray[np.float64]

WHITE = 255
RANGE = 1 << 20  # stored values that a table is made for
SAMPLED = 4  # every so many rows and columns tell how the values of a frame are distributed
# Two pictures of one frame are worth looking at both when some pixel differs by this many levels of 255.
SAME_PICTURE = 24


class Display:
    """How the stored values of a frame become pictures; made for one frame and good for it after blanking, too.

    Grey: one picture, dark as displayed, in which every two values are at least as far apart as under the object's own
    window, over the full range of values, and over the range of most values. So print written at values that the
    window saturates stands out, and so does print in a narrow window of a wide range. Colour: the brightness, and the
    strongest channel where that shows something else.
    """

    def __init__(self, ds: Dataset, frame: Frame, photometric: str) -> None:
        self.ds, self.photometric = ds, photometric
        if frame.ndim == 2 and photometric != "PALETTE COLOR":
            self.low, self.table = _grey_table(ds, frame, photometric == "MONOCHROME1")

    def pictures(self, frame: Frame) -> list[Picture]:
        """Pictures (rows, columns), uint8, or uint16 where the display has more than 255 levels to tell apart."""
        if self.photometric == "PALETTE COLOR":
            frame = np.asarray(apply_color_lut(frame, self.ds))
        if frame.ndim == 2:
            return [self._levels(frame)]
        above = max(int(self.ds.BitsStored) - 8, 0)
        colour = frame if frame.dtype == np.uint8 else (frame >> above).astype(np.uint8)
        if self.photometric == "YBR_FULL":
            colour = np.asarray(cv2.cvtColor(np.ascontiguousarray(colour[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB))
        grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        strongest = np.ascontiguousarray(colour.max(axis=2))
        return [grey, strongest] if int(cv2.absdiff(grey, strongest).max()) >= SAME_PICTURE else [grey]

    def repaint(self, pictures: list[Picture], frame: Frame, regions: Sequence[Region]) -> list[Picture]:
        """The pictures of a frame that was changed within `regions` only; those of grey are changed in place."""
        if frame.ndim != 2 or self.photometric == "PALETTE COLOR":
            return self.pictures(frame)
        for region in regions:
            region.crop(pictures[0])[...] = self._levels(np.ascontiguousarray(region.crop(frame)))
        return pictures

    def _levels(self, frame: Frame) -> Picture:
        unsigned = frame.view(f"u{frame.dtype.itemsize}")
        if len(self.table) == 1 << 8 * frame.dtype.itemsize:
            return np.asarray(cv2.LUT(unsigned, self.table))
        return np.take(self.table, unsigned - unsigned.dtype.type(self.low % (1 << 8 * frame.dtype.itemsize)))


def _grey_table(ds: Dataset, frame: Frame, inverted: bool) -> tuple[int, Picture]:
    """The lowest value of the frame and the level of each value from it on; of 8 and 16 bits the levels of all values,
    by their unsigned pattern.

    Two levels differ by the sum of the steepest slopes of all displays between them, so by no less than in any one.
    """
    low, high = int(frame.min()), int(frame.max())
    if high - low >= RANGE:
        raise Quarantine("pixels", "range of values")
    values = np.arange(low, high + 1)
    displays = [_stretched(values.astype(np.float64), low, high)]
    if frame.dtype != np.uint8 or "WindowCenter" in ds or "VOILUTSequence" in ds:
        displays.append(_windowed(ds, values))
    if frame.dtype != np.uint8:
        most = np.percentile(_without_padding(ds, frame[::SAMPLED, ::SAMPLED]), [1, 99])
        displays.append(_stretched(values.astype(np.float64), *most))
    slopes = np.max([np.abs(np.diff(d, prepend=d[:1])) for d in displays], axis=0)
    levels = np.cumsum(slopes)
    if inverted:
        levels = levels[-1] - levels
    levels = levels.round().astype(np.uint8 if levels.max() <= WHITE else np.uint16)
    if frame.dtype.itemsize > 2:
        return low, levels
    table = np.zeros(1 << 8 * frame.dtype.itemsize, levels.dtype)
    table[values.astype(frame.dtype).view(f"u{frame.dtype.itemsize}")] = levels
    return low, table


def _without_padding(ds: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    """The values that are no padding (PS3.3 C.7.5.1.1.2); all where there are no others."""
    try:
        ends = sorted(int(ds.get(k, ds.PixelPaddingValue)) for k in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    except (AttributeError, TypeError, ValueError):
        return values
    inside = values[(values < ends[0]) | (values > ends[1])]
    return inside if inside.size else values


def _stretched(values: Table, low: float, high: float) -> Table:
    return ((values - low) * (WHITE / max(high - low, 1))).clip(0, WHITE)


def _windowed(ds: Dataset, values: NDArray[np.int64]) -> Table:
    """Levels by the object's own modality and VOI transformation."""
    try:
        shown = np.asarray(apply_voi_lut(apply_modality_lut(values, ds), ds), dtype=np.float64)
    except Exception:  # noqa: BLE001 - a malformed window hides nothing: the full range is looked at in any case
        return np.zeros(len(values))
    return _stretched(shown, float(shown.min()), float(shown.max()))
