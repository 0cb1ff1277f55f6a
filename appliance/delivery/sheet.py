"""One A4 page as PDF: fitted text, tables and pictures, placed in mm from the top left corner.

Equal calls give equal bytes: reportlab's `invariant` leaves out random ids and the clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

RGB = tuple[int, int, int]
INK: RGB = (28, 36, 48)
QUIET: RGB = (96, 106, 120)
HAIR: RGB = (200, 206, 214)
WHITE: RGB = (255, 255, 255)

FONTS = Path(__file__).parent / "fonts"
REGULAR, BOLD = "DejaVuSansCondensed", "DejaVuSansCondensed-Bold"
SMALLEST = 0.6
"""Smallest type size, as a share of the size asked for, before text is cut."""
LEADING = 1.25
"""Distance of lines, in type sizes."""
ROW = 4.1
"""Height of a table row in mm."""
CELL_GAP = 1.5
"""Gap between two columns in mm."""
PICTURE_DPI = 250


@dataclass(frozen=True, slots=True)
class Block:
    """Text broken into lines, ready to be drawn on a sheet; `height` in mm."""

    paragraph: Paragraph
    height: float


class Sheet:
    """Page to draw on; lengths in mm, type sizes in points, y downwards."""

    def __init__(self, *, title: str, author: str, subject: str, made: datetime) -> None:
        """Open an empty page; `made`, in UTC, becomes the date of the document."""
        _register_fonts()
        self._bytes = BytesIO()
        self._canvas = Canvas(self._bytes, pagesize=A4, invariant=True, pageCompression=1)
        self._canvas.setTitle(title)
        self._canvas.setAuthor(author)
        self._canvas.setSubject(subject)
        self._canvas.setDateFormatter(lambda *_: f"D:{made:%Y%m%d%H%M%S}+00'00'")

    def pdf(self) -> bytes:
        """Return the finished document; nothing can be drawn afterwards."""
        self._canvas.save()
        return self._bytes.getvalue()

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float = 8,
        *,
        width: float = 0,
        bold: bool = False,
        color: RGB = INK,
        align: Literal["left", "center", "right"] = "left",
        hollow: bool = False,
    ) -> None:
        """Draw one line with its baseline at `y`; a `width` makes it smaller or cuts it to fit.

        `hollow` draws only the outline of the letters.
        """
        font = BOLD if bold else REGULAR
        if width:
            words, size = _fitted(words, width * mm, font, size)
        shift = {"left": 0.0, "center": 0.5, "right": 1.0}[align]
        start = x * mm - shift * pdfmetrics.stringWidth(words, font, size)
        self._canvas.setFont(font, size)
        self._canvas.setFillColor(_color(color))
        self._canvas.setStrokeColor(_color(color))
        self._canvas.setLineWidth(size / 30)
        self._canvas.setDash([])
        self._canvas.drawString(start, _up(y), words, mode=1 if hollow else 0)

    def put(self, block: Block, x: float, y: float) -> float:
        """Draw a paragraph with its top at `y`; return the y of its bottom."""
        block.paragraph.drawOn(self._canvas, x * mm, _up(y + block.height))
        return y + block.height

    def table(
        self, x: float, y: float, rows: Sequence[Sequence[str]], widths: Sequence[float]
    ) -> float:
        """Draw rows of `ROW` mm with their top at `y`; return the y of the bottom.

        The first row is the head. The first column is flush left, the others flush right. Columns
        are `widths` mm wide.
        """
        for number, row in enumerate(rows):
            left, base = x, y + ROW * (number + 0.72)
            for column, (words, width) in enumerate(zip(row, widths, strict=True)):
                self.text(
                    left + (width if column else 0),
                    base,
                    words,
                    7,
                    width=width - CELL_GAP,
                    bold=number == 0,
                    color=QUIET if number == 0 else INK,
                    align="right" if column else "left",
                )
                left += width
            self.box(x, y + ROW * (number + 1), left - x, 0, edge=HAIR, line=0.4)
        return y + ROW * len(rows)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        fill: RGB | None = None,
        edge: RGB | None = None,
        line: float = 0.6,
        dashed: bool = False,
    ) -> None:
        """Draw a rectangle; `line` is the line width in points."""
        self._pen(fill, edge, line, dashed)
        self._canvas.rect(
            x * mm,
            _up(y + height),
            width * mm,
            height * mm,
            stroke=int(edge is not None),
            fill=int(fill is not None),
        )

    def polygon(self, points: NDArray[np.float64], *, edge: RGB, line: float) -> None:
        """Draw a closed polygon through `points` (N, 2), (x, y) in mm of the page.

        `line` is the line width in points.
        """
        self._pen(None, edge, line, dashed=False)
        path = self._canvas.beginPath()
        path.moveTo(points[0, 0] * mm, _up(points[0, 1]))
        for x, y in points[1:].tolist():
            path.lineTo(x * mm, _up(y))
        path.close()
        self._canvas.drawPath(path)

    def picture(
        self, pixels: NDArray[np.uint8], x: float, y: float, width: float, height: float
    ) -> None:
        """Draw RGB uint8 (rows, columns, 3), stretched over the rectangle.

        The picture is stored as JPEG of at most `PICTURE_DPI`.
        """
        image = Image.fromarray(pixels)
        image.thumbnail((width / 25.4 * PICTURE_DPI, height / 25.4 * PICTURE_DPI))
        encoded = BytesIO()
        image.save(encoded, "JPEG", quality=88)
        encoded.seek(0)
        reader = ImageReader(encoded)
        self._canvas.drawImage(reader, x * mm, _up(y + height), width * mm, height * mm)

    def _pen(self, fill: RGB | None, edge: RGB | None, line: float, dashed: bool) -> None:
        self._canvas.setFillColor(_color(fill or WHITE))
        self._canvas.setStrokeColor(_color(edge or WHITE))
        self._canvas.setLineWidth(line)
        self._canvas.setDash([3, 2] if dashed else [])
        self._canvas.setLineJoin(1)


def round_length(most: float) -> float:
    """Longest of 1, 2 and 5 · 10^n that is at most `most` (> 0): the length of a scale bar."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9))


def paragraph(
    words: str, width: float, size: float = 8, *, bold: bool = False, color: RGB = INK
) -> Block:
    """Break plain text into lines of `width` mm."""
    style = ParagraphStyle(
        "page",
        fontName=BOLD if bold else REGULAR,
        fontSize=size,
        leading=size * LEADING,
        textColor=_color(color),
    )
    text = Paragraph(escape(words), style)
    _, height = text.wrap(width * mm, A4[1])
    return Block(text, height / mm)


def clipped(
    words: str,
    width: float,
    size: float = 8,
    *,
    most: float,
    note: str,
    bold: bool = False,
    color: RGB = INK,
) -> Block:
    """Break plain text into lines of `width` mm; text of more than `most` mm of height is cut, and
    ends with the note."""

    def first(count: int) -> Block:
        told = words if count == len(words) else f"{words[:count].rstrip()}… {note}"
        return paragraph(told, width, size, bold=bold, color=color)

    whole = first(len(words))
    if whole.height <= most:
        return whole
    fits = bisect_left(range(1, len(words)), True, key=lambda count: first(count).height > most)
    return first(fits)


@cache
def _register_fonts() -> None:
    for name in (REGULAR, BOLD):
        pdfmetrics.registerFont(TTFont(name, FONTS / f"{name}.ttf"))


def text_width(words: str, size: float) -> float:
    """Width in mm of a text in plain type of a size in points."""
    return float(pdfmetrics.stringWidth(words, REGULAR, size) / mm)


def _fitted(words: str, width: float, font: str, size: float) -> tuple[str, float]:
    """Return the text and the type size that fit into `width` points; cut the text if necessary."""
    needed = pdfmetrics.stringWidth(words, font, size)
    if needed <= width:
        return words, size
    size *= max(SMALLEST, width / needed)
    while pdfmetrics.stringWidth(words, font, size) > width + 1e-6 and len(words) > 1:
        words = words.removesuffix("…")[:-1] + "…"
    return words, size


def _up(y: float) -> float:
    """Convert y (mm from the top) to PDF points from the lower left corner."""
    return float(A4[1] - y * mm)


def _color(rgb: RGB) -> Color:
    return Color(*(value / 255 for value in rgb))
