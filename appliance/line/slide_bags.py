"""Bags of slides as artifacts, by slide and encoder: a slide is encoded once."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.frozen import same_source
from appliance.domain import QuarantineReason, SlideFacts
from appliance.errors import SlideError
from appliance.line.analyze_slide import open_facts
from appliance.line.outcomes import Outcome, artifact_folder, timed
from appliance.readers.bags import BAG_VERSION, cut_of, encode_slide
from appliance.readers.tile_pass import Progress
from appliance.settings.settings import Settings
from appliance.slides.overview import thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import find_tissue, tissue_share, tissue_tiles
from models.encoders.spec import read_encoder, reference_encoder, verify_encoder
from models.mil.bag import Bag, load_bag, save_bag

BAG_NAME, LOST_NAME = "bag.safetensors", "lost.json"


def bag_of_slide(
    path: Path, settings: Settings, progress: Progress, *, encoder: Path | None = None
) -> Bag:
    """Return the bag of a slide's file; `encoder` is the folder of one, None: the one that ships.

    Raises
    ------
    SlideError, SourceChangedError, ArtifactDamagedError
        DAMAGED also where more of its tiles cannot be decoded than `review.max_unreadable_percent`.
    models.errors.ManifestError
        If the encoder cannot be used.
    NoTissueError
        If the slide has no tissue.
    """
    facts = open_facts(path, ArtifactStore(settings.artifacts_dir))
    kept = keep_bag(facts, settings, progress, encoder=encoder or reference_encoder())
    require_readable(kept.key, settings)
    return kept_bag(kept.key, settings)


def bag_key(facts: SlideFacts, encoder: Path) -> ArtifactKey:
    """Return the key of a slide's bag.

    Raises
    ------
    models.errors.ManifestError
        If the encoder cannot be used.
    """
    fingerprint = verify_encoder(encoder).fingerprint
    return ArtifactKey.of(
        "bag", slide=facts.fingerprint, mpp=facts.mpp, encoder=fingerprint, version=BAG_VERSION
    )


def keep_bag(
    facts: SlideFacts, settings: Settings, progress: Progress, *, encoder: Path
) -> Outcome:
    """Make the bag of a slide where it is not kept; raises as above.

    ``bag.safetensors``, and ``lost.json`` with the share of its tiles that the file does not give.
    """
    store, key = ArtifactStore(settings.artifacts_dir), bag_key(facts, encoder)
    with timed("bag", key, store) as (times, reused):
        if not reused:
            bag, wanted = _encoded(facts, store, encoder, settings, progress)
            along = cut_of(read_encoder(encoder))[1]
            lost = 100 * (1 - len(bag.places) / (along**2 * wanted))
            with store.writing(key) as out:
                save_bag(bag, out / BAG_NAME)
                (out / LOST_NAME).write_text(json.dumps({"unreadable_percent": lost}))
    return Outcome(key=str(key), times=tuple(times))


def kept_bag(key: str, settings: Settings) -> Bag:
    """Return the bag that `keep_bag` made."""
    return load_bag(artifact_folder(key, settings) / BAG_NAME)


def unreadable_percent(key: str, settings: Settings) -> float:
    """Return the share (0-100) of a bag's tiles that the slide's file does not give."""
    kept = json.loads((artifact_folder(key, settings) / LOST_NAME).read_text())
    return float(kept["unreadable_percent"])


def require_readable(key: str, settings: Settings) -> None:
    """Raise SlideError DAMAGED for a bag of which the line's readers keep silent: none learns."""
    lost, most = unreadable_percent(key, settings), settings.review.max_unreadable_percent
    if lost > most:
        detail = f"{lost:.1f} % of its tissue tiles; review.max_unreadable_percent is {most:g}"
        raise SlideError(QuarantineReason.DAMAGED, detail)


def _encoded(
    facts: SlideFacts, store: ArtifactStore, folder: Path, settings: Settings, progress: Progress
) -> tuple[Bag, int]:
    """Bag of a slide, and how many tiles of its grid hold tissue."""
    # Torch: only where a slide is encoded.
    from appliance.readers.inference import open_encoder

    encoder = open_encoder(folder, settings.models.device)
    with same_source(facts, store), SlideReader.of(facts) as slide:
        mpp = thumbnail_mpp(*facts.size_um)
        tissue = find_tissue(slide.thumbnail(mpp), mpp)
        wanted = len(tissue_tiles(tissue_share(tissue, slide.grid)))
        return encode_slide(slide, tissue, encoder, progress), wanted
