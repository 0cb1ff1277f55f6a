"""Parts of a report's page: tables, rows of plots, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from models.errors import DataSetError

_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,sans-serif;color:#1c2733;max-width:1120px;margin:0 auto;padding:28px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:19px;margin:36px 0 8px;border-bottom:1px solid #dfe4ea}
.notice{background:#fff4d6;border-left:4px solid #d9a400;padding:8px 14px;margin:14px 0}
.muted{color:#5d6670}.plots{display:flex;flex-wrap:wrap;gap:18px}
figure{margin:0;background:#fafbfc;border:1px solid #e6eaee;border-radius:8px;padding:12px}
figcaption{font-weight:600;margin-bottom:4px}svg text{font:11px system-ui,sans-serif;fill:#465362}
.key{max-width:340px}.key span{margin-right:14px;font-size:12px}
.key i{display:inline-block;width:20px;margin-right:5px;vertical-align:middle}
table{border-collapse:collapse;margin:8px 0}th,td{padding:4px 12px;text-align:right;
border-bottom:1px solid #e6eaee;font-variant-numeric:tabular-nums}th{background:#f3f5f8}
th:first-child,td:first-child{text-align:left}.scroll{overflow-x:auto}
"""


def page(body: Sequence[str]) -> str:
    """Return a whole page: one file, nothing to load."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tandem: evaluation'
        f"</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def write_page(text: str, path: Path) -> None:
    """Write a page.

    Raises
    ------
    DataSetError
        If `path` cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as err:
        raise DataSetError(f"{path}: {err.strerror}. Choose another file for --html.") from err


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
