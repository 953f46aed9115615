"""Lines over an axis as inline SVG: few-shot curves and reliability, in the report's own colours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from pipelines.evaluate.figures import WIDTH, hash_text

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 320, 60, 230, 16, 44
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Series:
    """One line: points (x, y, low, high); without an interval low and high are nan."""

    name: str
    colour: str
    """Name of a CSS variable without its dashes."""
    hollow: bool
    points: list[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Axes:
    """What the axes are called and where their ticks stand."""

    title: str
    text: str
    """The message in words, for whoever cannot see the figure."""
    ticks: dict[float, str]
    """Of x."""
    words: str
    logarithmic: bool = False
    diagonal: bool = False
    """A dashed line where y is x."""


def line_plot(axes: Axes, series: list[Series]) -> str:
    """Lines with 95 % bands; baselines have hollow points, names stand at the right."""
    ends = [v for s in series for p in s.points for v in p[1:] if math.isfinite(v)] + list(axes.ticks) * axes.diagonal
    step = next((s for s in STEPS if (max(ends) - min(ends)) / s <= 6), 0.5)
    bottom, top = math.floor(min(ends) / step + 1e-9) * step, math.ceil(max(ends) / step - 1e-9) * step
    change: Callable[[float], float] = math.log if axes.logarithmic else float
    first, last = change(min(axes.ticks)), change(max(axes.ticks))

    def x(value: float) -> float:
        return LEFT + (change(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - bottom) / max(top - bottom, 1e-9) * (HEIGHT - TOP - BOTTOM)

    body = [_grid(axes, x, y, [bottom + k * step for k in range(round((top - bottom) / step) + 1)])]
    if axes.diagonal:
        low, high = max(bottom, min(axes.ticks)), min(top, max(axes.ticks))
        body.append(
            f'<line class="mark-line" x1="{x(low):.1f}" y1="{y(low):.1f}" x2="{x(high):.1f}" y2="{y(high):.1f}"/>'
        )
    body += [_series(s, x, y) for s in series]
    body += [_name(s, number) for number, s in enumerate(series)]
    said = " ".join(f"{s.name}: " + ", ".join(f"{p[0]:g} {p[1]:.2f}" for p in s.points) + "." for s in series)
    name = f"l{hash_text(axes.title + axes.text + said):x}"
    opening = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}t {name}d">'
    heads = [
        f'<title id="{name}t">{escape(axes.title)}</title>',
        f'<desc id="{name}d">{escape(f"{axes.text} {said}")}</desc>',
    ]
    return "\n".join([opening, *heads, *body, "</svg>"])


def _grid(axes: Axes, x: Callable[[float], float], y: Callable[[float], float], levels: list[float]) -> str:
    parts = []
    for level in levels:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
        parts.append(_text(LEFT - 8, y(level) + 4, f"{level:.2f}", "end"))
    for tick, word in axes.ticks.items():
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x(tick), HEIGHT - BOTTOM + 16, word, "middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, axes.words, "middle"))
    return "".join(parts)


def _series(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    colour = f"var(--{series.colour})"
    sure = [p for p in series.points if math.isfinite(p[2]) and math.isfinite(p[3])]
    parts = []
    if sure:
        edge = [f"{x(p[0]):.1f},{y(p[3]):.1f}" for p in sure] + [f"{x(p[0]):.1f},{y(p[2]):.1f}" for p in sure[::-1]]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="{colour}" fill-opacity="0.14"/>')
    line = " ".join(f"{x(p[0]):.1f},{y(p[1]):.1f}" for p in series.points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts += [_dot(x(p[0]), y(p[1]), series) for p in series.points]
    return "".join(parts)


def _name(series: Series, number: int) -> str:
    x, y = WIDTH - RIGHT + 24, TOP + 12 + 22 * number
    name = series.name if len(series.name) <= 28 else series.name[:27] + "…"
    return _dot(x, y - 4, series) + f'<text x="{x + 12}" y="{y}">{escape(name)}</text>'


def _dot(x: float, y: float, series: Series) -> str:
    fill = "var(--surface)" if series.hollow else f"var(--{series.colour})"
    stroke = f"var(--{series.colour})"
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{stroke}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
