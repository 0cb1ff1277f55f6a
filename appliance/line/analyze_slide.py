"""Steps of one slide: identify, inspect, read alone.

Each step is a plain function: paths and settings in, the key of an artifact out. A step whose
artifact exists is not run again, so a crash resumes at the first missing one. Steps run in a worker
process and never touch the ledger. Torch is loaded only by those that run a network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import find_assay, readers_alone, stains, vocabulary
from appliance.delivery.frozen import (
    Signature,
    freeze_source,
    known_fingerprint,
    remember_source,
    require_signature,
    same_source,
    signature,
)
from appliance.domain import QuarantineReason, SlideFacts, Stain
from appliance.errors import SlideError, SourceChangedError, WeightsUnusableError
from appliance.intake.completeness import MOUNTS_DIFFER_NS
from appliance.intake.identity.evidence import Outcome as Verdicts
from appliance.intake.identity.former_word import as_kept, doubted
from appliance.intake.identity.identify import Identifier
from appliance.intake.identity.opened import evidence_in
from appliance.intake.identity.sidecar import (
    Sidecar,
    read_sidecar,
    require_header_agrees,
    slides_beside,
)
from appliance.line.ordered import NOTHING_ORDERED, ordered_for
from appliance.line.outcomes import (
    IdentifiedSlide,
    InspectedSlide,
    Outcome,
    ReadSlide,
    StepTime,
    timed,
)
from appliance.line.readings import (
    read_overviews,
    read_slide_tiles,
    reader_facts,
    require_unchanged,
)
from appliance.line.whose import stated_by, whose_slide
from appliance.readers.reader import AnyReader
from appliance.readers.tile_pass import Progress, silent
from appliance.settings.settings import Settings
from appliance.slides.dicom_header import header_of
from appliance.slides.files import fingerprint, slide_files
from appliance.slides.header import shows_the_same
from appliance.slides.overview import OVERVIEW_NAME, load_overview, thumbnail_mpp
from appliance.slides.picture import (
    SlidePicture,
    load_picture,
    picture_version,
    see_picture,
)
from appliance.slides.reader import SlideReader
from appliance.slides.resolution import stated_mpp
from appliance.slides.scan_time import scan_time
from appliance.slides.tissue import (
    find_tissue,
    load_tissue,
    save_tissue,
    tissue_share,
    tissue_tiles,
)
from dicom.errors import SourceError
from dicom.header import wrong_uids
from models.errors import ManifestError


def identify_slide(
    path: Path,
    settings: Settings,
    said: Mapping[str, Any] | None = None,
    whole: tuple[int, int] = (0, 0),
    former: str = "",
) -> IdentifiedSlide:
    """Open a slide, check that it can be decoded, and learn its identity.

    `said` is a person's word on it, and comes before all other sources (`intake.said`). `whole` is
    the size in bytes and the time of change in ns with which the scan found the slide whole; a size
    of 0 where that is not known. A slide must have them still: another one may lie in its place and
    be gone before the next scan. Of a DICOM series of several files this is not compared, since the
    scan may count other files of it (links, names that the site leaves out). `former` is the
    accession under which the slide was kept before, empty for a new one.

    All that later steps need of the file's surroundings is frozen here: the sidecar's words, the
    source artifact (scan time, DICOM headers), and the order of the accession.

    Raises
    ------
    SlideError
        With the reason for quarantine.
    SourceChangedError
        If the file changed meanwhile, or since the scan.
    WorklistUnavailableError
        If the orders cannot be asked.
    """
    before = signature(path)
    if whole[0] and (len(before) == 1 or path.suffix.lower() == ".mrxs"):
        size_bytes = sum(file[0] for file in before)
        modified_ns = max(file[1] for file in before)
        if size_bytes != whole[0] or abs(modified_ns - whole[1]) > MOUNTS_DIFFER_NS:
            raise SourceChangedError(str(path))
    try:
        return _identified(path, before, settings, said or {}, former)
    finally:
        # After an error, too: bytes of two files in one slide look like damage.
        require_signature(path, before)


def _identified(
    path: Path, before: Signature, settings: Settings, word: Mapping[str, Any], former: str
) -> IdentifiedSlide:
    store = ArtifactStore(settings.artifacts_dir)
    sidecar = read_sidecar(path)
    with SlideReader.open(path, mpp=sidecar.mpp) as slide:
        slide.probe()
        _require_its_own(path, sidecar, slide)
        if slide.facts.is_dicom:
            _check_series(path, (slide.facts.width_px, slide.facts.height_px))
        properties, facts = dict(slide.properties), slide.facts
    evidence = evidence_in(path, properties, sidecar, settings.identify, word)
    words = vocabulary(settings)
    verdict = Identifier(words, settings.identify).verdict(path, evidence)
    verdict = as_kept(verdict, former, settings.identify)
    # Before the file is hashed: a slide that waits for a worklist comes here each minute.
    is_known = verdict.outcome is Verdicts.IDENTIFIED
    ordered = NOTHING_ORDERED
    if is_known:
        ordered = ordered_for(verdict.accession, settings, words, verdict.block)
    facts = replace(facts, fingerprint=known_fingerprint(path, store))
    verdict = doubted(verdict, word, facts.fingerprint, settings.identify)
    if verdict.outcome is Verdicts.CONFLICT:
        ordered = NOTHING_ORDERED
    remember_source(facts, before, store)
    try:
        _, headers = freeze_source(facts, store)
        stated = stated_by(headers)
    except SourceError as err:
        raise SlideError(QuarantineReason.MISSING_TAGS, str(err)) from err
    return IdentifiedSlide(
        facts=facts,
        verdict=verdict,
        organ=word.get("organ", "") or sidecar.organ,
        specimen=word.get("specimen", "") or sidecar.specimen,
        patient=whose_slide(stated, ordered.patients, settings),
        scanned_at=scan_time(properties, day_first=settings.identify.slash_dates == "day-first"),
        order_note=ordered.note,
        order_problems=ordered.problems,
        header_notes=stated.problems,
    )


def _require_its_own(path: Path, sidecar: Sidecar, slide: SlideReader) -> None:
    """Raise SlideError SIDECAR where its resolution may have been written for another slide."""
    if sidecar.mpp is None or not slides_beside(path):
        return
    try:
        stated = stated_mpp(slide.properties, (slide.facts.width_px, slide.facts.height_px))
    except SlideError:  # the header states none, or one that cannot be
        return
    require_header_agrees(path, sidecar.mpp, stated)


def _check_series(path: Path, opened: tuple[int, int]) -> None:
    """Check a DICOM series: its UIDs, and that it shows one picture, which was opened whole.

    `opened` is the (width, height) of level 0 as it was opened, in px.
    """
    try:
        files = slide_files(path)
        wrong = wrong_uids(files)
    except SourceError as err:
        raise SlideError(QuarantineReason.DAMAGED, str(err)) from err
    if wrong:
        raise SlideError(QuarantineReason.INVALID_UID, ", ".join(wrong))
    headers = [header_of(file, (at := file.stat()).st_size, at.st_mtime_ns) for file in files]
    bases = {(h.matrix_columns, h.matrix_rows) for h in headers if h is not None and h.is_base}
    largest = max(bases, key=math.prod, default=(0, 0))
    if not all(shows_the_same(largest, base) for base in bases if all(base)):
        detail = "its series holds scans of several regions, of which one would be read"
        raise SlideError(QuarantineReason.UNSUPPORTED, detail)
    if all(largest) and largest != opened:
        # A file that could not be opened for a moment is left out without a word.
        detail = f"it opens with {opened[0]} x {opened[1]} px; its header says {largest}"
        raise SlideError(QuarantineReason.DAMAGED, detail)


def open_facts(path: Path, store: ArtifactStore | None = None) -> SlideFacts:
    """Facts of a slide whose identity does not matter; raises as `identify_slide`.

    The fingerprint is the one that the slide has in the store, where it is there.
    """
    before = signature(path)
    sidecar = read_sidecar(path)
    with SlideReader.open(path, mpp=sidecar.mpp) as slide:
        slide.probe()
        _require_its_own(path, sidecar, slide)
        facts = slide.facts
        if facts.is_dicom:
            _check_series(path, (facts.width_px, facts.height_px))
    known = fingerprint(path) if store is None else known_fingerprint(path, store)
    facts = replace(facts, fingerprint=known)
    require_signature(path, before)
    return facts


def inspect_slide(facts: SlideFacts, settings: Settings) -> InspectedSlide:
    """Overview, tissue and kind of picture: ``thumbnail.png``, ``tissue.npz``, ``picture.json``.

    Raises
    ------
    SlideError
        DAMAGED where pixels cannot be decoded.
    SourceChangedError, ArtifactDamagedError
    WeightsUnusableError
        If the weights of the picture check are missing or damaged.
    """
    store = ArtifactStore(settings.artifacts_dir)
    try:
        seen_by = picture_version()
    except ManifestError as err:
        raise WeightsUnusableError(str(err)) from err
    key = ArtifactKey.of(
        "inspect", slide=facts.fingerprint, mpp=facts.mpp, picture=seen_by, version=7
    )
    with timed("inspect", key, store) as (times, reused):
        if not reused:
            with same_source(facts, store), SlideReader.of(facts) as slide:
                mpp = thumbnail_mpp(*facts.size_um)
                overview = slide.thumbnail(mpp)
                tissue = find_tissue(overview, mpp)
                picture = see_picture(slide, overview, tissue)
            with store.writing(key) as folder:
                Image.fromarray(overview).save(folder / OVERVIEW_NAME)
                save_tissue(tissue, folder)
                picture.save(folder)
    folder = store.path(key)
    return InspectedSlide(
        key=str(key),
        times=tuple(times),
        tissue_mm2=load_tissue(folder).area_mm2,
        picture=load_picture(folder) or SlidePicture(),
    )


def wrong_picture(picture: SlidePicture, stain: Stain) -> str:
    """Return what a slide's picture looks like where that is not its stain; else nothing."""
    facts = stains().get(stain)
    if facts is None or not picture.contradicts(facts.pictures):
        return ""
    return f"this looks like {picture.looks_like}, not like {facts.label}"


def read_alone(
    slide: ReadSlide,
    stain: Stain,
    assay_names: Sequence[str],
    settings: Settings,
    progress: Progress = silent,
) -> Outcome:
    """Ask the readers of some assays that need this slide alone, such as C on H&E.

    Assays with the same readers share one artifact, so that installing an assay changes nothing for
    another. It has one folder per reader, and ``pass.json`` with ``appearance.json`` where tiles
    were read. `Outcome.key` is that of the last assay; empty where no reader asks for this slide.

    Raises
    ------
    SlideError, SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    """
    slide, again = with_overview(slide, settings)
    key, times = "", list(again)
    for name in assay_names:
        readers = readers_alone(find_assay(name), stain)
        if readers:
            outcome = _read_alone(slide, stain, readers, settings, progress)
            key = outcome.key
            times += outcome.times
    return Outcome(key=key, times=tuple(times))


def with_overview(slide: ReadSlide, settings: Settings) -> tuple[ReadSlide, tuple[StepTime, ...]]:
    """Make overview and tissue of a slide again where they were damaged or lost.

    Returns the slide with their key, another one where those of a former edition are lost, and the
    times of the work; none where they are there.

    Raises
    ------
    SlideError, SourceChangedError, ArtifactDamagedError
    """
    key = ArtifactKey.parse(slide.inspect_key)
    if ArtifactStore(settings.artifacts_dir).has(key):
        return slide, ()
    outcome = inspect_slide(slide.facts, settings)
    return replace(slide, inspect_key=outcome.key), outcome.times


def _read_alone(
    slide: ReadSlide,
    stain: Stain,
    readers: Sequence[AnyReader],
    settings: Settings,
    progress: Progress,
) -> Outcome:
    store = ArtifactStore(settings.artifacts_dir)
    asked = [reader_facts(reader, settings, {}) for reader in readers]
    key = ArtifactKey.of("tumor", slide=slide.inspect_key, readers=asked, version=8)
    with timed("tumor", key, store) as (times, reused):
        if not reused:
            inspected = store.path(ArtifactKey.parse(slide.inspect_key))
            tissue, picture = load_tissue(inspected), load_overview(inspected / OVERVIEW_NAME)
            with store.writing(key) as out:
                read_overviews(readers, slide.facts, picture, tissue, settings, out)
                if any(reader.needs == "tiles" for reader in readers):
                    with same_source(slide.facts, store), SlideReader.of(slide.facts) as opened:
                        tiles = tissue_tiles(tissue_share(tissue, opened.grid))
                        what = stains()[stain].reading
                        read_slide_tiles(
                            readers,
                            opened,
                            picture,
                            tissue,
                            tiles,
                            settings,
                            out,
                            what=what,
                            progress=progress,
                        )
                require_unchanged(asked, readers, settings, {})
    return Outcome(key=str(key), times=tuple(times))
