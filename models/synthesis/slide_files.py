"""Files of a drawn cohort: one overview per slide, and ``cohort.csv``."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import SynthesisError
from models.slide_level.cohort import COHORT_NAME, CohortSlide, write_cohort
from models.slide_level.tasks import SlideLabel
from models.synthesis.slide_cohort import SlideDraw
from models.synthesis.slide_overview import Stain, draw_slide

OVERVIEWS = "overviews"
GENERATOR_VERSION = 1
"""Counted up when equal draws give other pictures: pictures of other versions are drawn anew."""
_QUALITY = 92
_DRAWN_NAME = "drawn.json"
Progress = Callable[[str, int, int], None]


def write_slides(
    folder: Path, draws: Sequence[SlideDraw], progress: Progress, *, stains: Sequence[Stain]
) -> list[CohortSlide]:
    """Draw the slides of some stains into ``folder/overviews`` and write the cohort's table.

    A picture that is there is not drawn again, so that a stopped run goes on. A patient without a
    slide of ER or PR has none in the cohort.

    Raises
    ------
    SynthesisError
        If the folder holds another cohort.
    """
    (folder / OVERVIEWS).mkdir(parents=True, exist_ok=True)
    _claim(folder, draws)
    wanted = [(draw, stain) for draw in draws for stain in stains if _has(draw, stain)]
    slides = []
    for number, (draw, stain) in enumerate(wanted, 1):
        path = folder / OVERVIEWS / f"{draw.patient}-{stain}.jpg"
        if not path.exists():
            hidden = path.with_name(f".{path.name}")
            hidden.write_bytes(_encoded(draw_slide(draw, stain).pixels))
            hidden.replace(path)
        slides.append(
            CohortSlide(
                slide=f"{draw.patient}-{stain}",
                patient=draw.patient,
                overview=path,
                label=_of(draw.label, stain),
                truth=_of(draw.truth, stain),
                scanner=draw.scanner,
                run=str(draw.run),
            )
        )
        progress("drawing slides", number, len(wanted))
    write_cohort(folder, slides)
    return slides


def as_stored(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an overview, uint8 RGB, as it is read again from the cohort's file."""
    with Image.open(io.BytesIO(_encoded(pixels))) as picture:
        return np.asarray(picture)


def _encoded(pixels: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _claim(folder: Path, draws: Sequence[SlideDraw]) -> None:
    """Note whose cohort the folder is, by the draws and the version of the generator."""
    text = json.dumps([GENERATOR_VERSION, [asdict(draw) for draw in draws]], sort_keys=True)
    mine = hashlib.sha256(text.encode()).hexdigest()
    path = folder / _DRAWN_NAME
    if path.exists():
        if json.loads(path.read_text())["draws"] != mine:
            raise SynthesisError(f"{folder} holds another drawn cohort. Name another folder.")
    elif (folder / COHORT_NAME).exists():
        raise SynthesisError(f"{folder} holds a cohort that was not drawn. Name another folder.")
    path.write_text(json.dumps({"draws": mine}))


def _has(draw: SlideDraw, stain: Stain) -> bool:
    percent = {"ER": draw.er_percent, "PR": draw.pr_percent}
    return stain == "HER2" or percent[stain] is not None


def _of(label: SlideLabel, stain: Stain) -> SlideLabel:
    """The part of a patient's label that a slide of a stain shows."""
    match stain:
        case "ER":
            return SlideLabel(er=label.er)
        case "PR":
            return SlideLabel(pr=label.pr)
    return SlideLabel(her2=label.her2, ish=label.ish)
