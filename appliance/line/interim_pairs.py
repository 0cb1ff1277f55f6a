"""Pairs of a site's own signed cases, to train the interim reader: bags and scores, no names."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from appliance.assays.registry import find_assay
from appliance.errors import SlideError, SourceChangedError
from appliance.intake.patients import Patient, numbers_of
from appliance.ledger.blocks import pairing_of
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import SlideRow, id_named
from appliance.line.analyze_case import kept_mapping
from appliance.line.outcomes import ReadSlide
from appliance.line.slide_bags import keep_bag, kept_bag, require_readable
from appliance.line.slide_steps import read_slide_of
from appliance.operations.corrections import CONFIRMED, CORRECTED, ENDED, SIGNED
from appliance.operations.status import require_ledger
from appliance.readers.bags import centers_um
from appliance.readers.tile_pass import Progress
from appliance.registration.mapping import SlideMapping
from appliance.settings.settings import Settings
from models.datasets.build import new_folder, writing
from models.encoders.spec import EncoderSpec, reference_encoder, verify_encoder
from models.errors import DataSetError
from models.interim.pairs import COLUMNS, PAIRS_NAME, PARTNERS, Places, save_partners
from models.mil.bag import SUFFIX, Bag, save_bag

Partners = tuple[Places, Places]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCase:
    """A case whose score a person confirmed or gave: its slides, anatomy first.

    `named` are the patient's IDs and the accession: what tells that two cases are one patient's.
    """

    subject: str
    named: frozenset[str]
    score: str
    slides: tuple[ReadSlide, ReadSlide]


def write_signed_pairs(
    settings: Settings, assay: str, out: Path, progress: Progress, *, encoder: Path | None
) -> tuple[int, int]:
    """Write ``pairs.csv`` and the bags of both slides of each signed case of an assay.

    Where the slides' alignment is kept, a table names the tiles that show the same tissue.
    Cases and patients are numbered; no accession, name or date is written. Cases that share an ID
    of the patient or an accession, or whose IDs the settings declare to be one, are one patient's:
    too large a group never has one person train and judge. Everything is written beside `out` and
    renamed at the end: a run that stops leaves no pairs. Returns the number of cases that were
    written, and of those whose slides are gone, changed, damaged or have no tissue.

    Raises
    ------
    SettingsError
        If no daemon ever ran with these settings, or the assay is not installed.
    LedgerError
        If the ledger is damaged or locked.
    models.errors.ManifestError
        If the encoder cannot be used.
    models.errors.DataSetError
        If `out` exists or cannot be written.
    """
    require_ledger(settings)
    scores = find_assay(assay).scores
    with closing(LedgerReader(settings.ledger_url)) as reader:
        cases: list[SignedCase] = []
        if reader.ready:
            with reader.reading() as tx:
                cases = [case for case in _signed(tx, assay) if case.score in scores]
    folder = encoder or reference_encoder()
    spec = verify_encoder(folder)
    patients = _pseudonyms([case.named for case in cases], settings.patients.merged)
    rows: list[tuple[str, ...]] = []
    with new_folder(out) as part:
        for number, (case, patient) in enumerate(zip(cases, patients, strict=True), 1):
            try:
                kept = [
                    keep_bag(each.facts, settings, progress, encoder=folder) for each in case.slides
                ]
                for done in kept:
                    require_readable(done.key, settings)
            except (SlideError, SourceChangedError, DataSetError, OSError) as err:
                log.warning("%s is left out: %s", case.subject, type(err).__name__)
                continue
            bags = [kept_bag(done.key, settings) for done in kept]
            mapping = kept_mapping(*case.slides, settings)
            with writing(out):
                files = _save(part, number, bags, mapping, spec)
            rows.append((f"C{number}", patient, case.score, *files))
        with writing(out), (part / PAIRS_NAME).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([(*COLUMNS, PARTNERS), *rows])
    return len(rows), len(cases) - len(rows)


def _save(
    folder: Path, number: int, bags: list[Bag], mapping: SlideMapping | None, spec: EncoderSpec
) -> tuple[str, str, str]:
    """Write the bags of a case and the table of partners; return their names, empty for none."""
    he, ihc = (f"{number}-{stain}{SUFFIX}" for stain in COLUMNS[-2:])
    for bag, name in zip(bags, (he, ihc), strict=True):
        save_bag(replace(bag, slide=name), folder / name)
    if mapping is None:
        return he, ihc, ""
    table = f"{number}-{PARTNERS}.csv"
    places = [bag.places for bag in bags]
    save_partners(folder / table, *partners_of(places[0], places[1], mapping, spec))
    return he, ihc, table


def partners_of(he: Places, ihc: Places, mapping: SlideMapping, spec: EncoderSpec) -> Partners:
    """Return the tiles that show the same tissue: places of H&E and of IHC, int (N, 2) each.

    The partner of an H&E tile is the IHC tile whose center is nearest to where its own center is
    mapped, if that lies within the IHC tile.
    """
    placed = mapping.forward(centers_um(he, spec))
    there = np.flatnonzero(np.isfinite(placed).all(axis=1))
    if len(there) == 0:
        return he[:0], ihc[:0]
    centers = centers_um(ihc, spec)
    nearest = np.asarray(KDTree(centers).query(placed[there])[1], dtype=np.int64)
    away = np.abs(placed[there] - centers[nearest]).max(axis=1)
    within = away <= spec.tile_px * spec.mpp / 2
    return he[there[within]], ihc[nearest[within]]


def _signed(tx: Queries, assay: str) -> Iterable[SignedCase]:
    subjects = dict.fromkeys(note.subject for note in tx.notes(CONFIRMED, CORRECTED))
    for subject in subjects:
        number = id_named(subject, "case")
        case = None if number is None else tx.case(number)
        if case is None or case.assay != assay or case.state not in ENDED:
            continue
        if tx.scored_by(subject) not in SIGNED:  # it was scored anew since
            continue
        stains = pairing_of(case).stains
        slides = tx.current_slides(case.accession, case.block, stains)
        if len(slides) < len(stains):
            continue
        anatomy, target = (slides[stain] for stain in stains)
        yield SignedCase(
            subject=subject,
            named=_named(anatomy) | _named(target) | {f"accession {case.accession}"},
            score=case.score,
            slides=(read_slide_of(anatomy), read_slide_of(target)),
        )


def _named(slide: SlideRow) -> frozenset[str]:
    return _ids(Patient.of_json(slide.patient))


def _ids(patient: Patient) -> frozenset[str]:
    return frozenset(f"ID {number}" for number in numbers_of(patient))


def _pseudonyms(named: Sequence[frozenset[str]], merged: Sequence[Sequence[str]]) -> list[str]:
    """Return P1, P2, … for what names the patient of each case; `merged` are IDs of one patient."""
    declared = [
        frozenset(name for text in group for name in _ids(Patient(patient_id=text)))
        for group in merged
    ]
    groups: list[frozenset[str]] = []
    for names in (*declared, *named):
        joined = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names]
        groups.append(names.union(*joined))
    mine = [next(k for k, group in enumerate(groups) if group & names) for names in named]
    numbers = {group: n for n, group in enumerate(dict.fromkeys(mine), 1)}
    return [f"P{numbers[group]}" for group in mine]
