"""All pictures of one level of a slide, and their place among the artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.frozen import same_source
from appliance.delivery.pictures.attention import classifier
from appliance.delivery.pictures.case import Level, PicturedCase, What
from appliance.delivery.pictures.choice import chosen_blocks, chosen_tiles
from appliance.delivery.pictures.second_reader import second_view
from appliance.delivery.pictures.tiles import block_picture, tile_picture
from appliance.delivery.pictures.whole import slide_picture
from appliance.findings.codec import load_pictures
from appliance.readers.tile_pass import Progress
from appliance.settings.settings import Settings
from appliance.slides.annotated import CalibratedSlide
from appliance.slides.reader import SlideReader

PICTURES_VERSION = 3
"""Version of what pictures look like."""


def pictures_key(findings_key: str, what: What, level: Level, *, attention: bool) -> ArtifactKey:
    """Key of the pictures of a level; findings name the weights whose attention is shown."""
    return ArtifactKey.of(
        "pictures",
        findings=findings_key,
        what=what,
        level=level,
        attention=attention,
        version=PICTURES_VERSION,
    )


def make_pictures(
    case: PicturedCase,
    folder: Path,
    what: What,
    level: Level,
    settings: Settings,
    store: ArtifactStore,
    progress: Progress,
    *,
    attention: bool,
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield file name and picture, RGB uint8, of a case whose findings lie in `folder`.

    `store` remembers which of the slide's bytes were compared. No name holds an accession.

    Raises
    ------
    SlideError, SourceChangedError
        If the slide is gone, cannot be read, or is another one than was scored.
    SettingsError, WeightsError, models.errors.ManifestError
        See `classifier` and `second_view`.
    """
    stem = f"{case.name}-{what}-{level}"
    if level == "slide":
        he, ihc = load_pictures(folder)
        second = second_view(case, ihc, settings) if attention and what == "ihc" else None
        yield f"{stem}.png", slide_picture(case, what, he if what == "he" else ihc, second)
        return
    facts, said = case.facts(what), f"{level} pictures, {case.label(what)}"
    network = classifier(case, what, settings) if attention else None
    with same_source(facts, store), SlideReader.of(facts) as reader:
        slide = CalibratedSlide(reader)
        if level == "patch":
            indices = chosen_tiles(case, what)
            for number, index in enumerate(indices, start=1):
                yield f"{stem}-{number:02d}.png", tile_picture(case, what, index, slide, network)
                progress(said, number, len(indices))
            return
        for block in chosen_blocks(case, what):
            total = block.rows * block.columns

            def done(tiles: int, number: int = block.number, total: int = total) -> None:
                progress(f"{said} {number}", tiles, total)

            yield (
                f"{stem}-{block.number}.png",
                block_picture(case, what, block, slide, network, done),
            )
