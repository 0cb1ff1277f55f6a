"""Step *read* of a slide: its readers alone, then the hint of an interim reader.

The hint is an artifact of its own, beside the readings that a score rests on. It depends on the
slide, the encoder and the weights, and on nothing of the target slide.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import find_assay, interim_reader
from appliance.domain import Stain
from appliance.errors import SettingsError, SourceChangedError
from appliance.geometry import TileGrid
from appliance.ledger.hints import TROUBLE, Hint
from appliance.line.analyze_slide import read_alone, with_overview, wrong_picture
from appliance.line.bag_readers import read_bags, second_opinions
from appliance.line.outcomes import (
    Outcome,
    ReadSlide,
    SlideRead,
    artifact_folder,
    timed,
)
from appliance.line.readings import (
    load_reading,
    reader_facts,
    require_unchanged,
    usable_weights,
)
from appliance.line.slide_bags import keep_bag, kept_bag, unreadable_percent
from appliance.readers.bags import NoTissueError
from appliance.readers.tile_pass import Progress
from appliance.settings.settings import Settings
from appliance.slides.appearance import load_appearance
from appliance.slides.picture import load_picture
from appliance.slides.tissue import load_tissue, tissue_share, tissue_tiles

log = logging.getLogger(__name__)


def read_slide(
    slide: ReadSlide,
    stain: Stain,
    assay_names: Sequence[str],
    hinted: Sequence[str],
    settings: Settings,
    progress: Progress,
) -> SlideRead:
    """Ask the readers of assays that need this slide alone, then interim readers of `hinted`.

    Readers of the bag of a target slide are among the first.

    A hint that cannot be given holds up no slide: it is noted as such.

    Raises
    ------
    SlideError, SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    """
    # An inspection of a former edition that is lost has another key: all that follows needs it.
    slide, again = with_overview(slide, settings)
    alone = read_alone(slide, stain, assay_names, settings, progress)
    bags = read_bags(slide, stain, assay_names, settings, progress)
    times = [*again, *(time for outcome in (alone, *bags) for time in outcome.times)]
    hints = []
    for name in hinted:
        try:
            hint, spent = read_interim(slide, stain, name, settings, progress)
        except SourceChangedError:
            raise
        except Exception as err:
            log.warning("no hint of %s: %s", name, type(err).__name__)
            log.debug("details", exc_info=err)
            hints.append(Hint(assay=name, unusual=TROUBLE))
            continue
        hints.append(hint)
        times += spent.times
    return SlideRead(
        times=tuple(times),
        hints=tuple(hints),
        opinions=second_opinions(slide, stain, assay_names, settings),
    )


def read_interim(
    slide: ReadSlide, stain: Stain, assay_name: str, settings: Settings, progress: Progress
) -> tuple[Hint, Outcome]:
    """Ask an assay's interim reader for a hint on a slide that was read alone.

    The artifact has one folder, the reader's. An unusual slide gets no opinion and no artifact.

    Raises
    ------
    SlideError, SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    SettingsError
        If the assay has no interim reader, or it is off.
    """
    reader = interim_reader(find_assay(assay_name), settings)
    if reader is None:
        raise SettingsError(f"assay {assay_name!r} has no interim reader that is on.")
    if unusual := _unusual(slide, stain, assay_name, settings):
        return Hint(assay=assay_name, unusual=unusual), Outcome(key="", times=())
    asked = reader_facts(reader, settings, {})
    bag = None
    with usable_weights(), suppress(NoTissueError):
        bag = keep_bag(slide.facts, settings, progress, encoder=reader.encoder(settings))
    if bag is None:
        return Hint(assay=assay_name, unusual="tissue"), Outcome(key="", times=())
    if unreadable_percent(bag.key, settings) > settings.review.max_unreadable_percent:
        return Hint(assay=assay_name, unusual="unreadable"), Outcome(key="", times=bag.times)
    key = ArtifactKey.of("interim", bag=bag.key, reader=asked, version=1)
    store = ArtifactStore(settings.artifacts_dir)
    with timed("interim", key, store) as (times, reused):
        if not reused:
            with usable_weights(), store.writing(key) as out:
                (out / reader.name).mkdir()
                reader.save(reader.read(kept_bag(bag.key, settings), settings), out / reader.name)
                require_unchanged([asked], [reader], settings, {})
    opinion = load_reading(reader, [store.path(key)]).opinion
    hint = Hint(
        assay=assay_name,
        said=opinion.said,
        percent=round(100 * max(opinion.probabilities), 1),
        opinion=opinion.as_json(),
        key=str(key),
    )
    return hint, Outcome(key=str(key), times=(*bag.times, *times))


def _unusual(slide: ReadSlide, stain: Stain, assay_name: str, settings: Settings) -> str:
    """Return what is unusual of a slide, also where a person keeps it in the line; else nothing."""
    inspected = artifact_folder(slide.inspect_key, settings)
    picture = load_picture(inspected)
    if picture is not None and wrong_picture(picture, stain):
        return "picture"
    grid = TileGrid.of(*slide.facts.size_um)
    if not tissue_tiles(tissue_share(load_tissue(inspected), grid)):
        return "tissue"
    alone = read_alone(slide, stain, [assay_name], settings)
    seen = load_appearance(artifact_folder(alone.key, settings))
    if seen.unusual_percent > settings.review.max_unusual_tiles_percent:
        return seen.differs_in
    return ""
