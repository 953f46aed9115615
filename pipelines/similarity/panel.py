"""One picture of an image, a chosen patch and the maps of every model: a row for each model, a column for each depth.

cividis is made to read alike with and without a colour vision deficiency (Nuñez et al., PLOS ONE 13, 2018) and its
lightness rises evenly, so that a print in grey says the same. The scale is fixed, so that maps compare.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipelines.similarity.maps import Map, ModelMaps, Point, Seen

COLOURS = "cividis"
LOW, HIGH = 0.0, 1.0
TILE = 1.9  # inches
DOTS = 150  # an inch
FONT = {"family": "DejaVu Sans", "size": 8}
UNSEEN = "#d9d9d9"
MARK = "#e41a1c"


def draw(image: np.ndarray, models: list[ModelMaps], point: Point) -> bytes:
    """PNG of a stored grey image (uint8 [H, W]) beside the maps of each model. It holds models' names and depths as
    text, nothing of the patient."""
    height, width = image.shape
    columns = 1 + max(1, *(len(m.maps) for m in models))
    tall = TILE * height / width + 0.5
    figure = Figure(figsize=(columns * TILE, len(models) * tall + 0.6), dpi=DOTS, facecolor="white")
    frames = figure.subplots(len(models), columns, squeeze=False)
    for row, model in zip(frames, models, strict=True):
        for axes in row:
            axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0), aspect=height / width)
        _image(row[0], image, model, point)
        for axes, one in zip(row[1:], model.maps, strict=False):
            _map(axes, one, model.seen)
        for axes in row[1 + len(model.maps) :]:
            axes.set_axis_off()
        if not model.maps:
            row[1].text(0.5, 0.5, "This encoder does\nnot see the point.", ha="center", va="center", **FONT)
    below = 0.6 / figure.get_figheight()
    figure.subplots_adjust(0.01, below + 0.02, 0.99, 1 - 0.35 / figure.get_figheight(), 0.06, 0.3)
    _scale(figure, below)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def palette() -> list[int]:
    """The scale in 256 colours, r, g, b, r, ... of 0..255."""
    colours = matplotlib.colormaps[COLOURS](np.arange(256), bytes=True)[:, :3]
    return [int(value) for value in colours.ravel()]


def _image(axes: Any, image: np.ndarray, model: ModelMaps, point: Point) -> None:
    """The radiograph with the patch of the last depth, or the point where the encoder does not see it."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0), aspect="auto")
    axes.set_aspect(image.shape[0] / image.shape[1])
    axes.set_title(
        model.model, loc="left", fontdict=FONT | {"weight": "bold"}, pad=13
    )  # above the depths: names are long
    if model.maps:
        _outline(axes, model.maps[-1], model.seen)
    else:
        axes.plot(point.x, point.y, "x", color=MARK)


def _map(axes: Any, one: Map, seen: Seen) -> None:
    axes.set_facecolor(UNSEEN)
    aspect = axes.get_aspect()
    extent = (seen.left, seen.right, seen.bottom, seen.top)
    axes.imshow(one.values, cmap=COLOURS, vmin=LOW, vmax=HIGH, extent=extent, aspect="auto", interpolation="nearest")
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect=aspect)
    axes.set_title(f"depth {one.block} of {one.blocks}", loc="left", fontdict=FONT, pad=3)
    axes.set_xlabel(f"median {np.median(one.values):.2f}", fontdict=FONT, labelpad=2)
    _outline(axes, one, seen)


def _outline(axes: Any, one: Map, seen: Seen) -> None:
    """The chosen patch, in red within white, which both ends of the scale and a radiograph leave visible."""
    rows, columns = one.values.shape
    wide, tall = (seen.right - seen.left) / columns, (seen.bottom - seen.top) / rows
    corner = (seen.left + one.patch[1] * wide, seen.top + one.patch[0] * tall)
    for colour, line in (("white", 2.5), (MARK, 1.2)):
        axes.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=colour, linewidth=line))


def _scale(figure: Figure, below: float) -> None:
    """The colours and what they mean, once for all maps."""
    axes = figure.add_axes((0.3, 0.62 * below, 0.4, 0.16 * below))
    colours = matplotlib.cm.ScalarMappable(Normalize(LOW, HIGH), COLOURS)
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_xticklabels(["0 or less", "0.25", "0.5", "0.75", "1"], fontdict=FONT)
    bar.ax.tick_params(length=2, pad=2)
    bar.ax.set_xlabel("cosine similarity to the patch marked in red", fontdict=FONT, labelpad=1)
