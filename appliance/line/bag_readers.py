"""Readers of a slide's bag that stand beside the score: each opinion is an artifact of its own.

A bag costs the encoder's time for each tile. Its limit therefore grows with the tiles. A bag that
is not made in time leaves its readers silent, and holds up neither the slide nor its case.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import assays, bag_readers, find_assay, readers_alone
from appliance.domain import Stain
from appliance.findings.opinion import Opinion
from appliance.geometry import TileGrid
from appliance.ledger.tables import SlideRow, facts_of
from appliance.line.analyze_slide import read_alone
from appliance.line.outcomes import Outcome, ReadSlide, StepTime, artifact_folder, timed
from appliance.line.readings import (
    load_reading,
    reader_facts,
    require_unchanged,
    usable_weights,
)
from appliance.line.slide_bags import bag_key, keep_bag, kept_bag, unreadable_percent
from appliance.readers.bags import NoTissueError, OverflowingVectorsError
from appliance.readers.reader import AnyReader, SecondBagReader
from appliance.readers.tile_pass import Progress, silent
from appliance.settings.settings import Settings
from appliance.slides.tissue import load_tissue, tissue_share, tissue_tiles

log = logging.getLogger(__name__)

BAG_SECONDS, BAG_SECONDS_PER_TILE = 600.0, 2.0
"""Limit of a bag on two cores without a GPU: to load the encoder, and for each tile. A large vision
transformer takes about a second for a tile; the encoder that ships takes milliseconds."""


class BagLateError(Exception):
    """A bag is not made within its limit."""


def read_bags(
    slide: ReadSlide,
    stain: Stain,
    assay_names: Sequence[str],
    settings: Settings,
    progress: Progress = silent,
    *,
    most_s: float | None = None,
) -> tuple[Outcome, ...]:
    """Ask the readers of some assays that take the bag of this slide; one outcome for each reader.

    The artifact has one folder, the reader's. The reading is silent where no tile holds tissue,
    where more tiles than `review.max_unreadable_percent` are damaged in the file, where the
    encoder's numbers for a tile are too large to be kept, and where the bag was not made within its
    limit, or `most_s` if that is less.

    Raises
    ------
    SlideError, SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    """
    asked = [reader for name in assay_names for reader in _readers(name, stain, settings)]
    once = {reader.name: reader for reader in asked}.values()
    return tuple(_read_bag(slide, reader, settings, progress, most_s) for reader in once)


def _readers(name: str, stain: Stain, settings: Settings) -> tuple[SecondBagReader, ...]:
    assay = find_assay(name)
    return bag_readers(assay, settings) if stain == assay.target.code else ()


def _read_bag(
    slide: ReadSlide,
    reader: SecondBagReader,
    settings: Settings,
    progress: Progress,
    most_s: float | None,
) -> Outcome:
    store = ArtifactStore(settings.artifacts_dir)
    asked = reader_facts(reader, settings, {})
    with usable_weights():
        bag_made = str(bag_key(slide.facts, reader.encoder(settings)))
    most = settings.review.max_unreadable_percent
    made_from = {"bag": bag_made, "reader": asked, "unreadable": most}
    key = ArtifactKey.of("opinion", **made_from, version=1)
    # What was too slow or too large is not tried again by itself: with another device or limit it
    # is.
    limits = [settings.models.device, settings.lanes.deadline_factor, BAG_SECONDS_PER_TILE, most_s]
    late = ArtifactKey.of("opinion", **made_from, late=limits, version=1)
    for known in (key, late):
        if store.has(known):
            there = StepTime(step="opinion", seconds=0.0, reused=True, key=str(known))
            return Outcome(key=str(known), times=(there,))
    bag, tiles = None, _tissue_tiles(slide, settings)
    limit_s = bag_seconds(tiles, settings)
    limit_s = limit_s if most_s is None else min(limit_s, most_s)
    try:
        # A slide without tissue is no trouble of the weights.
        with usable_weights(), suppress(NoTissueError):
            given = _within(limit_s, progress)
            try:
                bag = keep_bag(slide.facts, settings, given, encoder=reader.encoder(settings))
            except OverflowingVectorsError as err:
                # Nor is the slide held for an opinion that only stands beside the score.
                log.warning("%s says nothing: %s", reader.name, err)
                key = late
    except BagLateError:
        log.warning("%s says nothing: %d tiles in %.0f s", reader.name, tiles, limit_s)
        key = late
    with timed("opinion", key, store) as (times, _), usable_weights(), store.writing(key) as out:
        (out / reader.name).mkdir()
        if bag is None or unreadable_percent(bag.key, settings) > most:
            reading = reader.silent(settings)
        else:
            reading = reader.read(kept_bag(bag.key, settings), settings)
        reader.save(reading, out / reader.name)
        require_unchanged([asked], [reader], settings, {})
    return Outcome(key=str(key), times=(*(bag.times if bag else ()), *times))


def bag_seconds(tiles: int, settings: Settings) -> float:
    """Return the limit in seconds of a bag of some tiles."""
    return settings.lanes.deadline_factor * (BAG_SECONDS + BAG_SECONDS_PER_TILE * tiles)


def bags_seconds(slides: Sequence[SlideRow], settings: Settings) -> float:
    """Return the most seconds that the bags of some slides may take, tissue everywhere on them."""
    most_s = 0.0
    for slide in slides:
        stain, grid = Stain(slide.stain), TileGrid.of(*facts_of(slide).size_um)
        asked = [reader for each in assays() for reader in _readers(each.name, stain, settings)]
        for _ in {reader.name for reader in asked}:
            most_s += bag_seconds(grid.columns * grid.rows, settings)
    return most_s


def _within(limit_s: float, progress: Progress) -> Progress:
    """Return a progress that passes words on, and raises BagLateError from a limit on."""
    start = time.monotonic()

    def told(what: str, done: int, total: int) -> None:
        progress(what, done, total)
        if done < total and time.monotonic() - start >= limit_s:
            raise BagLateError

    return told


def _tissue_tiles(slide: ReadSlide, settings: Settings) -> int:
    inspected = artifact_folder(slide.inspect_key, settings)
    grid = TileGrid.of(*slide.facts.size_um)
    return len(tissue_tiles(tissue_share(load_tissue(inspected), grid)))


def second_opinions(
    slide: ReadSlide, stain: Stain, assay_names: Sequence[str], settings: Settings
) -> tuple[Opinion, ...]:
    """Return what the second readers said of a target slide that was read; silent ones left out.

    Raises
    ------
    SlideError, SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    """
    said: dict[str, Opinion] = {}
    for name in assay_names:
        assay = find_assay(name)
        if stain != assay.target.code:
            continue
        bags = read_bags(slide, stain, [name], settings)
        outcomes = (read_alone(slide, stain, [name], settings), *bags)
        folders = [artifact_folder(outcome.key, settings) for outcome in outcomes if outcome.key]
        asked: list[AnyReader] = [*readers_alone(assay, stain), *bag_readers(assay, settings)]
        said |= {reader.name: load_reading(reader, folders).opinion for reader in asked}
    return tuple(opinion for opinion in said.values() if any(opinion.probabilities))
