"""Layout of one picture: views side by side, each with a scale bar, below a title and a legend.

Nothing here knows a case. Lengths are px of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from appliance.delivery.sheet import (
    BOLD,
    FONTS,
    HAIR,
    INK,
    QUIET,
    REGULAR,
    RGB,
    WHITE,
    round_length,
)
from appliance.findings.findings import RESEARCH_USE

NOTICE: RGB = (150, 20, 30)
MARGIN, GAP = 18, 16
TITLE, CAPTION, BAR, KEYS = 34, 26, 34, 30
"""Heights of the title, of the caption above a view, of the scale bar below it, and of the
legend."""
LARGE, SMALL = 19, 15
"""Type sizes."""
KEY = 15
"""Edge of a color of the legend."""
RAMP = 96
"""Length of a ramp of colors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One image of a picture: RGB uint8 (rows, columns, 3) at `mpp` µm per px."""

    title: str
    pixels: NDArray[np.uint8]
    mpp: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Entry of a legend: words beside one color, or beside a ramp of several."""

    words: str
    colors: tuple[RGB, ...]


def picture(
    title: str, views: Sequence[View], legend: Sequence[Key], *, columns: int
) -> NDArray[np.uint8]:
    """Draw views of equal size in rows of `columns`: RGB uint8 (rows, columns, 3).

    The notice of research use stands below the views.
    """
    rows = [views[first : first + columns] for first in range(0, len(views), columns)]
    height, width = views[0].pixels.shape[:2]
    across = max(len(row) for row in rows)
    least = 2 * MARGIN + _width(title, LARGE, bold=True)
    size = (
        max(least, 2 * MARGIN + across * width + (across - 1) * GAP),
        2 * MARGIN + TITLE + len(rows) * (CAPTION + height + BAR) + 2 * KEYS,
    )
    image = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=_font(LARGE, bold=True))
    y = MARGIN + TITLE
    for row in rows:
        for number, view in enumerate(row):
            _view(image, draw, view, MARGIN + number * (width + GAP), y)
        y += CAPTION + height + BAR
    _legend(draw, legend, y)
    draw.text((MARGIN, y + KEYS), RESEARCH_USE, fill=NOTICE, font=_font(SMALL, bold=True))
    return np.asarray(image)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB uint8 (rows, columns, 3) as PNG; equal px give equal bytes."""
    written = BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def framed(
    pixels: NDArray[np.uint8], words: Sequence[str], color: RGB, *, size: int, line: int
) -> NDArray[np.uint8]:
    """Return a copy with a frame in `color` and lines of words in its upper left corner.

    `size` is the type size and `line` the width of the frame.
    """
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    rows, columns = pixels.shape[:2]
    draw.rectangle((0, 0, columns - 1, rows - 1), outline=color, width=line)
    y, pad = line, size // 4
    for number, text in enumerate(words):
        bold = number == 0
        below = y + size + 2 * pad
        draw.rectangle((line, y, line + _width(text, size, bold=bold) + 2 * pad, below), fill=WHITE)
        draw.text((line + pad, y + pad), text, fill=INK, font=_font(size, bold=bold), anchor="lt")
        y = below
    return np.asarray(image)


def _view(image: Image.Image, draw: ImageDraw.ImageDraw, view: View, x: int, y: int) -> None:
    height, width = view.pixels.shape[:2]
    draw.text((x, y), view.title, fill=QUIET, font=_font(SMALL))
    top = y + CAPTION
    image.paste(Image.fromarray(view.pixels), (x, top))
    draw.rectangle((x - 1, top - 1, x + width, top + height), outline=HAIR)
    length_um = round_length(width * view.mpp / 4)
    words = f"{length_um:g} µm" if length_um < 1000 else f"{length_um / 1000:g} mm"
    bar, base = round(length_um / view.mpp), top + height + 12
    draw.rectangle((x, base, x + bar - 1, base + 4), fill=INK)
    draw.text((x + bar + 6, base + 2), words, fill=INK, font=_font(SMALL), anchor="lm")


def _legend(draw: ImageDraw.ImageDraw, legend: Sequence[Key], y: int) -> None:
    x, font = MARGIN, _font(SMALL)
    for key in legend:
        ramp = len(key.colors) > 1
        for color in _ramp(key.colors) if ramp else key.colors:
            wide = 1 if ramp else KEY
            draw.rectangle((x, y + 4, x + wide - 1, y + 4 + KEY), fill=color)
            x += wide
        draw.text((x + 6, y + 4 + KEY // 2), key.words, fill=INK, font=font, anchor="lm")
        x += 6 + _width(key.words, SMALL) + 22


def _ramp(colors: Sequence[RGB]) -> list[RGB]:
    """`RAMP` colors from the first of `colors`, which lie evenly, to the last."""
    at = np.linspace(0, len(colors) - 1, RAMP)
    red, green, blue = (np.interp(at, range(len(colors)), c) for c in zip(*colors, strict=True))
    return [(int(r), int(g), int(b)) for r, g, b in zip(red, green, blue, strict=True)]


def _width(words: str, size: int, *, bold: bool = False) -> int:
    return round(_font(size, bold=bold).getlength(words))


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(FONTS / f"{BOLD if bold else REGULAR}.ttf", size)
