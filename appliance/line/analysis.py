"""The steps from a slide to `Findings`; read this first.

Each step is a plain function: paths and settings in, the key of an artifact out. A step whose
artifact exists is not run again, so a crash resumes at the first missing one. Steps run in a worker
process and never touch the ledger. Torch is loaded only by those that run a network.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.her2.assemble import StepOutputs, assemble
from appliance.assays.her2.guideline import ChosenGuideline, choose_guideline
from appliance.domain import HE, HER2, Identity, SlideFacts
from appliance.findings.findings import FINDINGS_VERSION, IHC_CLASSES, save_findings
from appliance.findings.label_map import LabelWriter
from appliance.findings.stored import (
    folder_of,
    load_alignment,
    load_probability,
    save_models,
    save_readings,
    save_unreadable,
)
from appliance.geometry import TileIndex
from appliance.intake.identify import identify, read_sidecar
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.control import ControlTissue, find_control
from appliance.readers.reading import Progress, read_control, read_stain, read_tumor
from appliance.registration.alignment import align, alignment_mpp
from appliance.registration.tile_plan import TilePlan, map_tumor
from appliance.settings.settings import Settings
from appliance.slides.artefacts import find_pen, marked_percent
from appliance.slides.files import fingerprint
from appliance.slides.overview import OVERVIEW_NAME, load_overview, thumbnail_mpp
from appliance.slides.raster import RasterGrid
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import (
    find_tissue,
    load_tissue,
    save_tissue,
    tissue_share,
    tissue_tiles,
)
from models.spec import ModelSpec, Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

IHC_RASTER_UM = 1.117
"""Wanted resolution of the IHC label map: M answers at a quarter of `TILE_MPP`."""


def _silent(_what: str, _done: int, _total: int) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """How long a step took; `reused` when its artifact was there already."""

    step: str
    seconds: float
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifiedSlide:
    """Outcome of step 2."""

    facts: SlideFacts
    identity: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSlide:
    """A slide as the later steps need it: facts and the keys of its own artifacts."""

    facts: SlideFacts
    inspect_key: str
    read_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedSlide:
    """Outcome of step 3; a slide without tissue is inspected too, so that people can look."""

    key: str
    times: tuple[StepTime, ...]
    tissue_mm2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Key of a step's artifact, and the times of what was done for it."""

    key: str
    times: tuple[StepTime, ...]


# 2 identify


def identify_slide(path: Path, settings: Settings) -> IdentifiedSlide:
    """Open a slide, check that it can be decoded, and learn who it is.

    Raises
    ------
    SlideError
        With the reason for quarantine.
    """
    sidecar = read_sidecar(path)
    with SlideReader.open(path, mpp=sidecar.mpp) as slide:
        slide.probe()
        identity = identify(path, slide.properties, sidecar, settings.identify)
        facts = slide.facts
    return IdentifiedSlide(facts=_with_fingerprint(facts, path), identity=identity)


def open_facts(path: Path) -> SlideFacts:
    """Facts of a slide whose identity does not matter; raises SlideError as `identify_slide`."""
    with SlideReader.open(path, mpp=read_sidecar(path).mpp) as slide:
        slide.probe()
        facts = slide.facts
    return _with_fingerprint(facts, path)


def _with_fingerprint(facts: SlideFacts, path: Path) -> SlideFacts:
    return SlideFacts(**asdict(facts) | {"fingerprint": fingerprint(path)})


# 3 inspect


def inspect_slide(facts: SlideFacts, settings: Settings) -> InspectedSlide:
    """Thumbnail and tissue mask: ``thumbnail.png``, ``tissue.npz``.

    Raises
    ------
    SlideError
        DAMAGED where pixels cannot be decoded.
    """
    store = ArtifactStore(settings.artifacts_dir)
    key = ArtifactKey.of("inspect", slide=facts.fingerprint, mpp=facts.mpp, version=4)
    with _timed("inspect", store.exists(key)) as times:
        if not store.exists(key):
            with _open(facts) as slide:
                mpp = thumbnail_mpp(*_size_um(facts))
                thumbnail = slide.thumbnail(mpp)
            tissue = find_tissue(thumbnail, mpp)
            with store.writing(key) as folder:
                Image.fromarray(thumbnail).save(folder / OVERVIEW_NAME)
                save_tissue(tissue, folder)
    tissue = load_tissue(store.path(key))
    return InspectedSlide(key=str(key), times=tuple(times), tissue_mm2=tissue.area_mm2)


# 4 read one slide


def read_he(slide: ReadSlide, settings: Settings, progress: Progress = _silent) -> Outcome:
    """C on every tissue tile of the H&E slide: ``probability.npy``.

    float32 (rows, columns of the tile grid), NaN where a tile was not read. Beside it, as in every
    artifact of a network: ``models.json``, who said it, and ``appearance.json``.
    """
    store = ArtifactStore(settings.artifacts_dir)
    folder, spec = chosen_weights(Task.TUMOR, settings)
    key = ArtifactKey.of("tumor", slide=slide.inspect_key, weights=spec.fingerprint, version=6)
    with _timed("tumor", store.exists(key)) as times:
        if not store.exists(key):
            network = _network(folder, spec, settings)
            tissue = load_tissue(folder_of(slide.inspect_key, store))
            with _open(slide.facts) as reader, store.writing(key) as out:
                tiles = tissue_tiles(tissue_share(tissue, reader.grid))
                batch_size = settings.models.batch_size or network.fitting_batch()
                read = read_tumor(reader, tiles, tissue.white_rgb, network, batch_size, progress)
                np.save(out / "probability.npy", read.probability)
                save_unreadable(out, read.unreadable_percent)
                read.looks.save(out)
                save_models(out, [spec])
    return Outcome(key=str(key), times=tuple(times))


# 5 pair happens in the ledger: appliance.intake.pair


# 6 align


def align_slides(he: ReadSlide, ihc: ReadSlide, settings: Settings) -> Outcome:
    """How H&E µm map to IHC µm: ``mapping.npz``, and how well: ``alignment.json``.

    Raises
    ------
    AlignmentError
        If the slides cannot be brought onto each other at all.
    """
    store = ArtifactStore(settings.artifacts_dir)
    key = ArtifactKey.of("align", he=he.inspect_key, ihc=ihc.inspect_key, version=5)
    with _timed("align", store.exists(key)) as times:
        if not store.exists(key):
            sizes = [_size_um(slide.facts) for slide in (he, ihc)]
            mpp = alignment_mpp(max(s[0] for s in sizes), max(s[1] for s in sizes))
            images, tissues = [], []
            for slide in (he, ihc):
                with _open(slide.facts) as reader:
                    images.append(reader.thumbnail(mpp))
                tissues.append(load_tissue(folder_of(slide.inspect_key, store)))
            found = align(images[0], tissues[0], images[1], tissues[1], mpp)
            with store.writing(key) as folder:
                found.save(folder)
    return Outcome(key=str(key), times=tuple(times))


# 7 stain


def read_ihc(
    he: ReadSlide,
    ihc: ReadSlide,
    align_key: str,
    settings: Settings,
    progress: Progress = _silent,
) -> Outcome:
    """L and M on the IHC tiles that have a tumor partner, M on control tissue too.

    ``ihc_classes.zarr.zip``: the label map (uint8, 0-4); ``tiles.npz``, ``cells.json``: what they
    say of each tile; ``control.json``: area and counts per tile of the control tissue.
    """
    store = ArtifactStore(settings.artifacts_dir)
    chosen = [chosen_weights(task, settings) for task in (Task.INTENSITY, Task.SEGMENTATION)]
    every_cell = _guideline(he, ihc, settings).guideline.asks_for_clusters
    specs = [spec for _, spec in chosen]
    key = ArtifactKey.of(
        "stain",
        ihc=ihc.inspect_key,
        tumor=he.read_key,
        align=align_key,
        threshold=settings.scoring.tumor_threshold,
        weights=[spec.fingerprint for spec in specs],
        every_cell=every_cell,
        margin=settings.scoring.margin_tiles,
        version=7,
    )
    with _timed("stain", store.exists(key)) as times:
        if not store.exists(key):
            intensity, segmentation = (_network(folder, spec, settings) for folder, spec in chosen)
            tissue = load_tissue(folder_of(ihc.inspect_key, store))
            with _open(ihc.facts) as reader, store.writing(key) as out:
                plan = _plan(he, ihc, align_key, settings)
                control = _control_tissue(he, ihc, align_key, store)
                raster = RasterGrid.of(ihc.facts, IHC_RASTER_UM)
                white = tissue.white_rgb
                batch_size = settings.models.batch_size or min(
                    network.fitting_batch() for network in (intensity, segmentation)
                )
                with LabelWriter(out / IHC_CLASSES, raster) as labels:
                    read = read_stain(
                        reader,
                        plan.ihc_tiles,
                        white,
                        labels,
                        intensity,
                        segmentation,
                        batch_size,
                        progress,
                        margin=plan.margin,
                        every_cell=every_cell,
                    )
                shown, lost = read_control(reader, control, white, segmentation, batch_size)
                save_readings(out, read.tiles, read.read, raster.mpp)
                (out / "control.json").write_text(
                    json.dumps({"area_mm2": control.area_mm2, "counts": shown})
                )
                save_unreadable(out, max(lost, read.unreadable_percent))
                read.looks.save(out)
                save_models(out, specs)
    return Outcome(key=str(key), times=tuple(times))


# 8 score


def score_case(
    identity: Identity,
    he: ReadSlide,
    ihc: ReadSlide,
    align_key: str,
    stain_key: str,
    settings: Settings,
) -> Outcome:
    """Counts to scores to `Findings`, saved as an artifact."""
    store = ArtifactStore(settings.artifacts_dir)
    chosen = _guideline(he, ihc, settings)
    key = ArtifactKey.of(
        "findings",
        accession=identity.accession,
        block=identity.block,
        stain=stain_key,
        he=he.inspect_key,
        guideline=asdict(chosen),
        review=settings.review.model_dump(),
        version=FINDINGS_VERSION,
    )
    with _timed("score", store.exists(key)) as times:
        if not store.exists(key):
            plan = _plan(he, ihc, align_key, settings)
            found = StepOutputs(
                he=he.facts,
                ihc=ihc.facts,
                tumor=folder_of(he.read_key, store),
                stain=folder_of(stain_key, store),
                alignment=load_alignment(align_key, store),
                plan=plan,
                marked_percent={
                    HE: _marked(he, [plan.partner[tile] for tile in plan.ihc_tiles], store),
                    HER2: _marked(ihc, plan.ihc_tiles, store),
                },
            )
            findings = assemble(identity, found, chosen, settings)
            with store.writing(key) as out:
                save_findings(
                    findings,
                    out,
                    he_thumbnail=load_overview(folder_of(he.inspect_key, store) / OVERVIEW_NAME),
                    ihc_thumbnail=load_overview(folder_of(ihc.inspect_key, store) / OVERVIEW_NAME),
                )
    return Outcome(key=str(key), times=tuple(times))


def analyse_case(
    identity: Identity,
    he: ReadSlide,
    ihc: ReadSlide,
    settings: Settings,
    progress: Progress = _silent,
) -> Outcome:
    """Steps 6-8 in one go; what exists is not done again.

    Step 4 comes first once more: the H&E slide may have been read days ago by other weights.
    """
    tumor = read_he(he, settings, progress)
    he = replace(he, read_key=tumor.key)
    aligned = align_slides(he, ihc, settings)
    stained = read_ihc(he, ihc, aligned.key, settings, progress)
    scored = score_case(identity, he, ihc, aligned.key, stained.key, settings)
    return Outcome(
        key=scored.key, times=(*tumor.times, *aligned.times, *stained.times, *scored.times)
    )


# what the steps share


_NETWORKS: dict[Task, Network] = {}
"""Networks of this worker process: loading costs more than reading a small slide."""


def _network(folder: Path, spec: ModelSpec, settings: Settings) -> Network:
    from appliance.readers.inference import Network

    known = _NETWORKS.get(spec.task)
    if known is None or known.spec.fingerprint != spec.fingerprint:
        # Replaced, not added: a lab that tries many weights has one GPU.
        _NETWORKS[spec.task] = known = Network(
            folder, settings.models.device, settings.models.runtime
        )
    return known


def _guideline(he: ReadSlide, ihc: ReadSlide, settings: Settings) -> ChosenGuideline:
    sidecars = [read_sidecar(Path(slide.facts.path)) for slide in (ihc, he)]
    return choose_guideline(settings.scoring, sidecars)


def _plan(he: ReadSlide, ihc: ReadSlide, align_key: str, settings: Settings) -> TilePlan:
    store = ArtifactStore(settings.artifacts_dir)
    tissue = load_tissue(folder_of(ihc.inspect_key, store))
    with _open(he.facts) as reader:
        he_grid = reader.grid
    with _open(ihc.facts) as reader:
        ihc_grid = reader.grid
    return map_tumor(
        load_probability(folder_of(he.read_key, store)),
        load_alignment(align_key, store).mapping,
        he_grid,
        ihc_grid,
        tissue_share(tissue, ihc_grid),
        threshold=settings.scoring.tumor_threshold,
        margin_tiles=settings.scoring.margin_tiles,
    )


def _control_tissue(
    he: ReadSlide, ihc: ReadSlide, align_key: str, store: ArtifactStore
) -> ControlTissue:
    inspected = [folder_of(slide.inspect_key, store) for slide in (he, ihc)]
    he_tissue, ihc_tissue = (load_tissue(folder) for folder in inspected)
    pen = find_pen(load_overview(inspected[1] / OVERVIEW_NAME), ihc_tissue)
    return find_control(load_alignment(align_key, store).mapping, he_tissue, ihc_tissue, pen)


def _marked(slide: ReadSlide, tiles: Sequence[TileIndex], store: ArtifactStore) -> float:
    inspected = folder_of(slide.inspect_key, store)
    with _open(slide.facts) as reader:
        grid = reader.grid
    return marked_percent(
        load_overview(inspected / OVERVIEW_NAME), load_tissue(inspected), grid, tiles
    )


def _open(facts: SlideFacts) -> SlideReader:
    return SlideReader.open(Path(facts.path), mpp=facts.mpp)


def _size_um(facts: SlideFacts) -> tuple[float, float]:
    return facts.width_px * facts.mpp, facts.height_px * facts.mpp


@contextmanager
def _timed(step: str, reused: bool) -> Iterator[list[StepTime]]:
    times: list[StepTime] = []
    start = time.perf_counter()
    yield times
    times.append(StepTime(step=step, seconds=time.perf_counter() - start, reused=reused))
