"""Steps of a case: align its slides; read the target slide and decide."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from appliance.artifacts import ArtifactKey, ArtifactStore, is_as_written
from appliance.assays.assay import Assay, StepOutputs
from appliance.assays.registry import (
    assay_readers,
    find_assay,
    readers_in_use,
    readers_of_target,
)
from appliance.delivery.frozen import same_source
from appliance.domain import Identity
from appliance.errors import CaseHeldError
from appliance.findings.codec import save_findings
from appliance.findings.findings import FINDINGS_VERSION, Findings
from appliance.findings.opinion import Opinion
from appliance.geometry import TileGrid, TileIndex
from appliance.line.analyze_slide import read_alone, with_overview
from appliance.line.bag_readers import read_bags
from appliance.line.outcomes import Outcome, ReadSlide, declared_by, timed
from appliance.line.readings import (
    load_pass,
    load_reading,
    read_slide_tiles,
    reader_facts,
    require_unchanged,
)
from appliance.readers.reader import AnatomySlide, Attended, FindingsReader, find_reader
from appliance.readers.tile_pass import Progress, silent
from appliance.readers.tumor import TumorReading
from appliance.registration.alignment import Alignment, align, alignment_mpp
from appliance.registration.likeness import SAME_SECTION
from appliance.registration.mapping import SlideMapping
from appliance.registration.tile_plan import TilePlan, map_tumor
from appliance.settings.settings import Settings
from appliance.slides.artefacts import marked_percent
from appliance.slides.overview import OVERVIEW_NAME, load_overview
from appliance.slides.picture import load_picture
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import load_tissue, tissue_share

SAME_SECTION_REASON = "same-section"
"""Code of the reason of a case whose slides show one section."""


def align_case(
    anatomy: ReadSlide, target: ReadSlide, settings: Settings, accepted: Sequence[str] = ()
) -> Outcome:
    """Map one slide of a case onto the other, before its target is read.

    `accepted` are the contradictions of the slides that a person accepted.

    Raises
    ------
    SlideError, AlignmentError, SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    CaseHeldError
        If both slides show one section.
    """
    anatomy, of_anatomy = with_overview(anatomy, settings)
    target, of_target = with_overview(target, settings)
    aligned = align_slides(anatomy, target, settings)
    if SAME_SECTION_REASON not in accepted:
        _require_two_sections(aligned.key, settings)
    return Outcome(key=aligned.key, times=(*of_anatomy, *of_target, *aligned.times))


def analyze_case(
    assay_name: str,
    identity: Identity,
    anatomy: ReadSlide,
    target: ReadSlide,
    settings: Settings,
    progress: Progress = silent,
    *,
    accepted: Sequence[str] = (),
) -> Outcome:
    """Read and decide; an artifact that exists, as that of `align_case`, is not made again.

    `accepted` are the contradictions of the slides that a person accepted.

    Both slides are read alone once more first, and the target slide's bag: the artifact may be of
    other weights, or damaged.

    Raises
    ------
    SlideError, AlignmentError, SourceChangedError, ArtifactDamagedError, WeightsUnusableError
    CaseHeldError
        If both slides show one section.
    """
    assay = find_assay(assay_name)
    anatomy, of_anatomy = with_overview(anatomy, settings)
    target, of_target = with_overview(target, settings)
    alone = [
        read_alone(slide, stain.code, [assay.name], settings, progress)
        for slide, stain in zip((anatomy, target), assay.stains, strict=True)
    ]
    alone += read_bags(target, assay.target.code, [assay.name], settings, progress)
    case = _Case(
        assay=assay,
        anatomy=anatomy,
        target=target,
        alone=tuple(outcome.key for outcome in alone),
        settings=settings,
    )
    aligned = align_case(anatomy, target, settings, accepted)
    read = case.read_target(aligned.key, progress)
    decided = case.decide(identity, aligned.key, read.key)
    times = [time for outcome in (*alone, aligned, read, decided) for time in outcome.times]
    return Outcome(key=decided.key, times=(*of_anatomy, *of_target, *times))


def align_slides(anatomy: ReadSlide, target: ReadSlide, settings: Settings) -> Outcome:
    """Map of anatomy µm to target µm: ``mapping.npz``, and its quality: ``alignment.json``.

    Raises
    ------
    AlignmentError
        If the slides cannot be brought onto each other at all.
    """
    store = ArtifactStore(settings.artifacts_dir)
    key = _align_key(anatomy, target)
    with timed("align", key, store) as (times, reused):
        if not reused:
            sizes = [slide.facts.size_um for slide in (anatomy, target)]
            mpp = alignment_mpp(max(s[0] for s in sizes), max(s[1] for s in sizes))
            images, tissues = [], []
            for slide in (anatomy, target):
                with same_source(slide.facts, store), SlideReader.of(slide.facts) as reader:
                    images.append(reader.thumbnail(mpp))
                tissues.append(load_tissue(_folder(slide.inspect_key, store)))
            found = align(images[0], tissues[0], images[1], tissues[1], mpp)
            with store.writing(key) as folder:
                found.save(folder)
    return Outcome(key=str(key), times=tuple(times))


def _align_key(anatomy: ReadSlide, target: ReadSlide) -> ArtifactKey:
    return _align_keys(anatomy, target)[0]


def _align_keys(anatomy: ReadSlide, target: ReadSlide) -> list[ArtifactKey]:
    """Keys of today's alignment, and of those of former versions, which it reads."""
    keys = {"he": anatomy.inspect_key, "ihc": target.inspect_key}
    return [ArtifactKey.of("align", **keys, version=version) for version in (12, 11, 10, 9, 8, 7)]


def kept_mapping(anatomy: ReadSlide, target: ReadSlide, settings: Settings) -> SlideMapping | None:
    """Map of anatomy µm to target µm, where `align_slides` made it and it is kept; else None."""
    store = ArtifactStore(settings.artifacts_dir)
    folders = map(store.path, _align_keys(anatomy, target))
    return next((Alignment.load(f).mapping for f in folders if is_as_written(f)), None)


def _require_two_sections(align_key: str, settings: Settings) -> None:
    alike = Alignment.load(_folder(align_key, ArtifactStore(settings.artifacts_dir))).likeness
    if alike >= SAME_SECTION:
        detail = f"their pixels agree by {alike:.2f}"
        raise CaseHeldError(SAME_SECTION_REASON, {"detail": detail})


class _Case:
    """Slides of a case and the keys of what is known of each alone."""

    def __init__(
        self,
        *,
        assay: Assay,
        anatomy: ReadSlide,
        target: ReadSlide,
        alone: Sequence[str],
        settings: Settings,
    ) -> None:
        self._assay, self._anatomy, self._target = assay, anatomy, target
        self._alone = [key for key in alone if key]
        self._anatomy_key = alone[0]
        self._settings = settings
        self._store = ArtifactStore(settings.artifacts_dir)
        self._declared = declared_by(anatomy, target)

    def read_target(self, align_key: str, progress: Progress) -> Outcome:
        """Ask the readers of the target's tiles: those with a tumor partner, and the margin.

        The artifact has one folder per reader, ``pass.json`` and ``appearance.json``.
        """
        settings, target = self._settings, self._target
        readers = readers_of_target(self._assay)
        options = self._assay.options(settings, self._declared)
        asked = [reader_facts(r, settings, options.get(r.name, {})) for r in readers]
        key = ArtifactKey.of(
            "stain",
            ihc=target.inspect_key,
            tumor=self._anatomy_key,
            align=align_key,
            threshold=settings.scoring.tumor_threshold,
            readers=asked,
            margin=settings.scoring.margin,
            version=8,
        )
        with timed("stain", key, self._store) as (times, reused):
            if not reused:
                folder = _folder(target.inspect_key, self._store)
                plan = self._plan(align_key)
                beside = AnatomySlide(
                    tissue=load_tissue(_folder(self._anatomy.inspect_key, self._store)),
                    mapping=self._alignment(align_key).mapping,
                )
                with (
                    self._store.writing(key) as out,
                    same_source(target.facts, self._store),
                    SlideReader.of(target.facts) as slide,
                ):
                    read_slide_tiles(
                        readers,
                        slide,
                        load_overview(folder / OVERVIEW_NAME),
                        load_tissue(folder),
                        plan.ihc_tiles,
                        settings,
                        out,
                        what=self._assay.target.reading,
                        progress=progress,
                        margin=plan.margin,
                        options=options,
                        beside=beside,
                    )
                    require_unchanged(asked, readers, settings, options)
        return Outcome(key=str(key), times=tuple(times))

    def decide(self, identity: Identity, align_key: str, stain_key: str) -> Outcome:
        """Readings to `Findings`; opens no slide."""
        settings, assay = self._settings, self._assay
        key = ArtifactKey.of(
            "findings",
            accession=identity.accession,
            block=identity.block,
            assay=assay.name,
            stain=stain_key,
            alone=self._alone,
            he=self._anatomy.inspect_key,
            readers=[
                reader_facts(reader, settings, {})
                for reader in assay_readers(assay)
                if reader.needs == "findings"
            ],
            depends_on=assay.depends_on(settings, self._declared),
            review=settings.review.model_dump(),
            kept=[self._anatomy.is_kept, self._target.is_kept],
            version=FINDINGS_VERSION,
            # Keys of cases without a hint stay what they were.
            **({"interim": self._anatomy.interim} if self._anatomy.interim else {}),
        )
        with timed("score", key, self._store) as (times, reused):
            if not reused:
                outputs = self._outputs(identity, align_key, stain_key)
                findings = _judged(assay, outputs, settings)
                if self._anatomy.interim:  # after the decision and its reasons for review
                    said = Opinion.of_json(json.loads(self._anatomy.interim))
                    findings = replace(findings, interim=said)
                pictures = [
                    load_overview(_folder(slide.inspect_key, self._store) / OVERVIEW_NAME)
                    for slide in (self._anatomy, self._target)
                ]
                with self._store.writing(key) as out:
                    save_findings(
                        findings, out, he_thumbnail=pictures[0], ihc_thumbnail=pictures[1]
                    )
        return Outcome(key=str(key), times=tuple(times))

    def _outputs(self, identity: Identity, align_key: str, stain_key: str) -> StepOutputs:
        assay, store = self._assay, self._store
        plan = self._plan(align_key)
        stained = _folder(stain_key, store)
        # The target's readings before the anatomy's.
        folders = [stained, *(_folder(key, store) for key in reversed(self._alone))]
        passes = {
            assay.anatomy.code: load_pass(_folder(self._anatomy_key, store)),
            assay.target.code: load_pass(stained),
        }
        partners = [plan.partner[tile] for tile in plan.ihc_tiles]
        return StepOutputs(
            identity=identity,
            anatomy=self._anatomy.facts,
            target=self._target.facts,
            declared=self._declared,
            readings={
                reader.name: load_reading(reader, folders)
                for reader in readers_in_use(assay, self._settings)
                if reader.needs != "findings"
            },
            alignment=self._alignment(align_key),
            plan=plan,
            read=passes[assay.target.code].read,
            pictures={
                stain.code: picture.match(stain.pictures)
                for stain, slide in (
                    (assay.anatomy, self._anatomy),
                    (assay.target, self._target),
                )
                if (picture := load_picture(_folder(slide.inspect_key, store))) is not None
                and not slide.is_kept
            },
            appearance={stain: facts.appearance for stain, facts in passes.items()},
            unreadable_percent={s: facts.unreadable_percent for s, facts in passes.items()},
            marked_percent={
                assay.anatomy.code: self._marked(self._anatomy, partners),
                assay.target.code: self._marked(self._target, plan.ihc_tiles),
            },
        )

    def _alignment(self, align_key: str) -> Alignment:
        return Alignment.load(_folder(align_key, self._store))

    def _plan(self, align_key: str) -> TilePlan:
        settings = self._settings
        reader = find_reader(self._assay.tumor_reader)
        reading = load_reading(reader, [_folder(self._anatomy_key, self._store)])
        grid = TileGrid.of(*self._target.facts.size_um)
        tissue = load_tissue(_folder(self._target.inspect_key, self._store))
        return map_tumor(
            cast(TumorReading, reading).probability,
            self._alignment(align_key).mapping,
            TileGrid.of(*self._anatomy.facts.size_um),
            grid,
            tissue_share(tissue, grid),
            threshold=settings.scoring.tumor_threshold,
            margin_tiles=settings.scoring.margin,
        )

    def _marked(self, slide: ReadSlide, tiles: Sequence[TileIndex]) -> float:
        folder = _folder(slide.inspect_key, self._store)
        grid = TileGrid.of(*slide.facts.size_um)
        return marked_percent(
            load_overview(folder / OVERVIEW_NAME), load_tissue(folder), grid, tiles
        )


def _judged(assay: Assay, outputs: StepOutputs, settings: Settings) -> Findings:
    """Findings with the votes of the readers of findings, and with reasons for review."""
    findings = _attended(assay.decide(outputs, settings), outputs)
    for reader in assay_readers(assay):
        if reader.needs == "findings":
            vote = cast(FindingsReader, reader).read(findings)
            findings = replace(findings, opinions=(*findings.opinions, vote))
    return replace(findings, review=assay.review(outputs, findings, settings))


def _attended(findings: Findings, outputs: StepOutputs) -> Findings:
    """Findings with the weight of each tile of the target slide in its second readers' answers."""
    grid = TileGrid.of(*outputs.target.size_um)
    found = {}
    for name, reading in outputs.readings.items():
        if isinstance(reading, Attended) and (given := reading.attention) is not None:
            found[name] = np.full(grid.shape, np.nan, dtype=np.float32)
            found[name][given.tiles[:, 1], given.tiles[:, 0]] = given.weights
    if not found:
        return findings
    return replace(findings, rasters=replace(findings.rasters, attention=found))


def _folder(key: str, store: ArtifactStore) -> Path:
    return store.path(ArtifactKey.parse(key))
