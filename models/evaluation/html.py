"""Parts of a report's page: tables, rows of plots, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a head; every cell is escaped."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{lines}</table></div>'


def plots(figures: Sequence[str]) -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="plots">{"".join(figures)}</div>'


def number(value: float | None) -> str:
    """A figure with three decimals, a count as it is, a dash for none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
