"""The figures of the report as inline SVG whose colours are the report's CSS variables, so both themes share them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH = 860
ROW = 26
LEFT = 230  # row names
COLUMN = (176, 66)  # numbers at the right: value with interval, p


COLOURED = ("rad-dino", "mi2")  # variables of report.css


@dataclass(frozen=True)
class Line:
    """One row of a figure: a name, a value with its interval, and the numbers in words, one for each column."""

    name: str
    value: float
    low: float
    high: float
    words: list[str]
    colour: str
    """Name of a CSS variable without its dashes."""
    hollow: bool = False
    """Baselines are drawn hollow, so that colour is never the only mark."""
    strong: bool = False
    """The macro row: a diamond and bold text."""


@dataclass(frozen=True)
class Group:
    """Rows under one heading."""

    heading: str
    lines: list[Line]


@dataclass(frozen=True)
class Plot:
    """What a figure is called and how its axis runs."""

    title: str
    text: str
    """The alternative for whoever cannot see it: the message and the numbers."""
    axis: str
    mark: float
    """Where the dashed line stands: no difference, or chance."""
    mark_words: str
    reach: tuple[float, float]
    """The axis spans at least this, so that a difference of a thousandth does not look like one of a tenth."""
    bounds: tuple[float, float]
    """The axis never goes beyond this."""
    heads: tuple[str, ...]
    """Headings of the columns of numbers."""
    signed: bool = False

    @property
    def right(self) -> float:
        """Where the columns of numbers begin."""
        return WIDTH - sum(COLUMN[: len(self.heads)])

    def columns(self) -> list[float]:
        """Right edges of the columns of numbers."""
        return [self.right + sum(COLUMN[: i + 1]) for i in range(len(self.heads))]


class Scale:
    """Metric values to x, over ticks at round steps that hold every interval."""

    def __init__(self, plot: Plot, lines: list[Line]) -> None:
        ends = [e for line in lines for e in (line.low, line.high, line.value) if math.isfinite(e)] + list(plot.reach)
        low, high = max(plot.bounds[0], min(ends)), min(plot.bounds[1], max(ends))
        step = next((s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if (high - low) / s <= 8), 0.5)
        self.ticks = [k * step for k in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]
        self.digits = 2 if step < 0.1 else 1
        self.right = plot.right

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        share = (min(max(value, low), high) - low) / (high - low)
        return LEFT + share * (self.right - LEFT)


def interval_plot(plot: Plot, groups: list[Group]) -> str:
    """Points with intervals, one row each, the numbers beside them, and a vertical line at `plot.mark`."""
    scale = Scale(plot, [line for group in groups for line in group.lines])
    body, y = [], 22.0
    for group in groups:
        if group.heading:
            body.append(_text(0, y + 17, group.heading, "group"))
            y += ROW
        for line in group.lines:
            body.append(_line(line, scale, plot, y + ROW / 2))
            y += ROW
        y += 8
    identity = f"f{hash_text(plot.title + plot.text):x}"
    opening = (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {y + 40:.0f}" role="img" aria-labelledby="{identity}t {identity}d">'
    )
    heads = [_text(x, 10, head, "tick", "end") for x, head in zip(plot.columns(), plot.heads, strict=True)]
    return "\n".join(
        [
            opening,
            f'<title id="{identity}t">{escape(plot.title)}</title>',
            f'<desc id="{identity}d">{escape(plot.text)}</desc>',
            _axis(scale, plot, y),
            _mark(scale(plot.mark), y, plot.mark_words),
            *heads,
            *body,
            "</svg>",
        ]
    )


def hash_text(text: str) -> int:
    """A small stable number to name elements by (Python's own hash differs between processes)."""
    value = 0
    for character in text:
        value = (value * 131 + ord(character)) % (1 << 32)
    return value


def _axis(scale: Scale, plot: Plot, y: float) -> str:
    parts = []
    for tick in scale.ticks:
        x = scale(tick)
        word = f"{abs(tick):.{scale.digits}f}"
        if plot.signed and abs(tick) > 1e-9:
            word = ("+" if tick > 0 else "−") + word
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="{y:.1f}"/>')
        parts.append(_text(x, y + 15, word, "tick", "middle"))
    parts.append(_text((LEFT + plot.right) / 2, y + 33, plot.axis, "tick", "middle"))
    return "".join(parts)


def _mark(x: float, y: float, words: str) -> str:
    line = f'<line class="mark-line" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{y:.1f}"/>'
    return line + _text(x, 10, words, "tick", "middle")


def _line(line: Line, scale: Scale, plot: Plot, y: float) -> str:
    colour = f"var(--{line.colour})"
    weight = "name strong" if line.strong else "name"
    parts = [_text(LEFT - 14, y + 4, _short(line.name), weight, "end")]
    if math.isfinite(line.low) and math.isfinite(line.high):
        parts.append(
            f'<line class="reach" stroke="{colour}" x1="{scale(line.low):.1f}" x2="{scale(line.high):.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
        )
    x, fill = scale(line.value), "var(--surface)" if line.hollow else colour
    if line.strong:
        points = f"{x - 6:.1f},{y:.1f} {x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f}"
        parts.append(f'<polygon class="dot" points="{points}" fill="{fill}" stroke="{colour}"/>')
    else:
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}"/>')
    parts += [_text(x, y + 4, words, weight, "end") for x, words in zip(plot.columns(), line.words, strict=True)]
    return "".join(parts)


def _short(name: str, limit: int = 34) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def by_colour(model: dict[str, Any]) -> str:
    """The CSS variable of a model: an encoder that is trained here keeps its colour everywhere, others are grey."""
    return str(model["family"]) if model["role"] != "baseline" and model["family"] in COLOURED else "baseline"
