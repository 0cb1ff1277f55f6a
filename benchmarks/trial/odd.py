"""Odd files of a trial: TIFF and DICOM with damaged bytes, and the judge of how they ended."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.scanner.dicom_series import SeriesIdentity, dicom_series, dicom_template
from benchmarks.scanner.mutated import mutated
from benchmarks.scanner.tiff_formats import aperio_svs, generic_tiff, labeled, philips_tiff
from benchmarks.scanner.tissue import Section
from benchmarks.trial.judge import BLAMED
from benchmarks.trial.ledger import ON_ITS_WAY, Snapshot

AT_ONCE = 4
SIDE_PX = 512
NOBODY = "ODD"
"""Label of the odd files: no accession, so that one that can be read belongs to no case."""


def odd_files(folder: Path, first: int, dice: random.Random) -> list[tuple[Path, bytes]]:
    """Return paths in a folder, numbered from `first`, each with a damaged file's bytes."""
    seeds = odd_seeds()
    found = []
    for number in range(first, first + AT_ONCE):
        suffix, seed = dice.choice(seeds)
        found.append((folder / f"odd-{number}{suffix}", mutated(seed, dice)))
    return found


def judge_odd(found: Snapshot, odd: Sequence[Path]) -> list[str]:
    """Judge that each odd file was left alone, or set aside for a reason of its own.

    Odd DICOM files are levels of one series: one that was seen
    half-written is superseded by the slide that it becomes a part of.
    """
    names = {str(path) for path in odd}
    rows = [row for row in found.slides if row.path in names]
    wrong = [
        f"an odd file is {row.state} {row.reason} {row.params}: {row.subject}"
        for row in rows
        if row.state in ON_ITS_WAY
        or row.state == "read"
        or (row.state != "superseded" and row.reason in BLAMED)
    ]
    blocks = {(row.accession, row.block) for row in rows if row.accession}
    cases = [case for case in found.cases if (case.accession, case.block) in blocks]
    return wrong + [f"an odd file is of a case: {case.subject}" for case in cases]


@cache
def odd_seeds() -> tuple[tuple[str, bytes], ...]:
    """Return whole files of each kind, with their suffixes."""
    pixels = np.random.default_rng(1).integers(90, 250, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    section = Section(stain="HE", score="0", pixels=pixels)
    identity = SeriesIdentity(accession="", container_id=NOBODY, seed=NOBODY)
    instances = dicom_series(dicom_template(section), identity)
    formats = ((".svs", aperio_svs), (".tif", generic_tiff), (".tiff", philips_tiff))
    return (
        *((suffix, labeled(encode(section), NOBODY)) for suffix, encode in formats),
        *((".dcm", content) for content in instances.values()),
    )
