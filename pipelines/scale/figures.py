"""The scaling curve as inline SVG: the macro of a metric over N (logarithmic), its band, its seeds, the baseline."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from pipelines.evaluate.answer import METRIC_WORDS
from pipelines.evaluate.figures import WIDTH, hash_text

HEIGHT = 320
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 16, 44


def curve_plot(title: str, text: str, curve: dict[str, Any]) -> str:
    """One curve with its 95 % band; the baseline is the dashed line with a band of its own."""
    points = curve["points"]
    axes = _Axes([p["samples"] for p in points], curve)
    colour = f"var(--{curve['encoder'].removesuffix('-tiny')})"
    said = "; ".join(f"{p['samples']:,} samples {p['value']:.3f} [{p['low']:.3f}, {p['high']:.3f}]" for p in points)
    base = curve["baseline_value"]
    said = f"{text} {said}. Baseline {base['value']:.3f}."
    identity = f"s{hash_text(title + text):x}"
    body = [
        f'<title id="{identity}t">{escape(title)}</title>',
        f'<desc id="{identity}d">{escape(said)}</desc>',
        *axes.grid(),
        _band(axes, [(axes.low, base["low"], base["high"]), (axes.high, base["low"], base["high"])], "var(--baseline)"),
        f'<line class="mark-line" x1="{axes.x(axes.low):.1f}" x2="{axes.x(axes.high):.1f}" '
        f'y1="{axes.y(base["value"]):.1f}" y2="{axes.y(base["value"]):.1f}"/>',
        f'<text class="tick" x="{axes.x(axes.high) + 8:.1f}" y="{axes.y(base["value"]) + 4:.1f}">baseline</text>',
        _band(axes, [(p["samples"], p["low"], p["high"]) for p in points], colour),
        _path(axes, points, colour),
    ]
    for p in points:
        x = axes.x(p["samples"])
        body += [
            f'<circle cx="{x:.1f}" cy="{axes.y(v):.1f}" r="2" fill="none" stroke="{colour}" opacity="0.7"/>'
            for v in p["seeds"]
        ]
        reached = curve["break_even"] is not None and p["samples"] >= curve["break_even"]
        fill = colour if reached else "var(--surface)"
        body.append(
            f'<circle class="dot" cx="{x:.1f}" cy="{axes.y(p["value"]):.1f}" r="4.5" fill="{fill}" stroke="{colour}"/>'
        )
    opening = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{identity}t {identity}d">'
    return "\n".join([opening, *body, "</svg>"])


class _Axes:
    """Samples (logarithmic) and the metric to pixels."""

    def __init__(self, samples: list[int], curve: dict[str, Any]) -> None:
        self.low, self.high = min(samples) / 1.15, max(samples) * 1.15
        self.samples, self.metric = samples, curve["metric"]
        ends = [p[k] for p in [*curve["points"], curve["baseline_value"]] for k in ("low", "high")]
        ends += [v for p in curve["points"] for v in p["seeds"]]
        ends = [e for e in ends if math.isfinite(e)]
        low, high = min(ends), max(ends)
        self.step = next((s for s in (0.005, 0.01, 0.02, 0.05, 0.1) if (high - low) / s <= 6), 0.2)
        self.bottom = math.floor(low / self.step) * self.step
        self.top = min(1.0, math.ceil(high / self.step) * self.step)

    def x(self, n: float) -> float:
        share = math.log(n / self.low) / math.log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.bottom) / max(self.top - self.bottom, 1e-9)
        return float(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))

    def grid(self) -> list[str]:
        parts, count = [], round((self.top - self.bottom) / self.step)
        digits = 3 if self.step < 0.01 else 2
        for k in range(count + 1):
            value = self.bottom + k * self.step
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{value:.{digits}f}</text>'
            )
        last = -math.inf
        for n in self.samples:
            x = self.x(n)
            parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            if x - last > 44:  # labels of sizes that lie close would cover each other
                parts.append(
                    f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}">{n:,}</text>'
                )
                last = x
        middle = (LEFT + WIDTH - RIGHT) / 2
        words = f"samples N (logarithmic); macro {METRIC_WORDS[self.metric]}"
        parts.append(f'<text class="tick" text-anchor="middle" x="{middle:.0f}" y="{HEIGHT - 6}">{words}</text>')
        return parts


def _band(axes: _Axes, rows: list[tuple[float, float, float]], colour: str) -> str:
    rows = [r for r in rows if math.isfinite(r[1]) and math.isfinite(r[2])]
    up = [f"{axes.x(n):.1f},{axes.y(high):.1f}" for n, _, high in rows]
    down = [f"{axes.x(n):.1f},{axes.y(low):.1f}" for n, low, _ in reversed(rows)]
    return f'<polygon points="{" ".join(up + down)}" fill="{colour}" opacity="0.14"/>'


def _path(axes: _Axes, points: list[dict[str, Any]], colour: str) -> str:
    where = " ".join(f"{axes.x(p['samples']):.1f},{axes.y(p['value']):.1f}" for p in points)
    return f'<polyline points="{where}" fill="none" stroke="{colour}" stroke-width="2"/>'
