"""Plots as inline SVG: no dependency, nothing to load, sharp at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 340, 300
LEFT, TOP, RIGHT, BOTTOM = 52, 14, 14, 46
COLORS = ("#1f5fa8", "#c0562b", "#3a8a52", "#8058a5", "#b08d1a", "#5d6670")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A named line through points (x, y) in data units."""

    name: str
    points: Points
    color: str
    dashed: bool = False
    dots: bool = False


def line_plot(
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] = (0, 1),
    y_range: tuple[float, float] = (0, 1),
    x_steps: int = 4,
    title: str = "",
) -> str:
    """Lines over axes with `x_steps` and four tick intervals; points outside are moved to the
    edge."""
    (x0, x1), (y0, y1) = x_range, y_range

    def at(x: float, y: float) -> tuple[float, float]:
        right = min(max((x - x0) / (x1 - x0), 0), 1)
        up = min(max((y - y0) / (y1 - y0), 0), 1)
        return (
            round(LEFT + right * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = []
    for k in range(x_steps + 1):
        x = x0 + (x1 - x0) * k / x_steps
        (left, bottom), (right, top) = at(x, y0), at(x, y1)
        parts.append(_rule(left, bottom, right, top))
        parts.append(_text(left, bottom + 16, f"{x:.3g}", "middle"))
    for k in range(5):
        y = y0 + (y1 - y0) * k / 4
        (left, bottom), (right, top) = at(x0, y), at(x1, y)
        parts.append(_rule(left, bottom, right, top))
        parts.append(_text(left - 6, bottom + 4, f"{round(y, 6):.3g}", "end"))
    for line in lines:
        places = [at(x, y) for x, y in line.points]
        path = " ".join(f"{x},{y}" for x, y in places)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2"'
            f' stroke-linejoin="round"{dash}/>'
        )
        if line.dots:
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{line.color}"/>' for x, y in places]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        f"{escape(y_label)}</text>"
    )
    return _figure("".join(parts), WIDTH, HEIGHT, title, lines)


def matrix_plot(
    counts: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str = "",
    decimals: int = 0,
) -> str:
    """A confusion matrix: rows truth, columns found, shade by share of the row."""
    cell, left, top = 54, 92, 40
    parts = []
    for c, name in enumerate(columns):
        parts.append(_text(left + (c + 0.5) * cell, top - 10, name, "middle"))
    for r, (name, row) in enumerate(zip(rows, counts, strict=True)):
        parts.append(_text(left - 8, top + (r + 0.5) * cell + 4, name, "end"))
        total = sum(row) or 1
        for c, value in enumerate(row):
            share = value / total
            ink = "#fff" if share > 0.55 else "#1c2733"
            x, y = left + c * cell, top + r * cell
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="3" '
                f'fill="{COLORS[0]}" fill-opacity="{0.05 + 0.95 * share:.3f}"/>'
                f'<text x="{x + cell / 2 - 1}" y="{y + cell / 2 + 3}" text-anchor="middle" '
                f'style="fill:{ink}">{value:,.{decimals}f}</text>'
            )
    width, height = left + len(columns) * cell + 8, top + len(rows) * cell + 26
    parts.append(_text(left + len(columns) * cell / 2, height - 6, "found", "middle"))
    parts.append(_text(6, top - 10, "truth ↓", "start"))
    return _figure("".join(parts), width, height, title, ())


def _figure(body: str, width: float, height: float, title: str, lines: Sequence[Line]) -> str:
    keys = "".join(
        f'<span><i style="border-top:3px {"dashed" if line.dashed else "solid"} {line.color}">'
        f"</i>{escape(line.name)}</span>"
        for line in lines
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{escape(title)}">{body}</svg>'
        f'<div class="key">{keys}</div></figure>'
    )


def _rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x} {y}L{to_x} {to_y}" stroke="#dfe4ea"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
