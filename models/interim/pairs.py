"""Pairs of slides that teach the interim reader: a folder with ``pairs.csv``.

===========  ====================================================================================
column       content
===========  ====================================================================================
``case``     unique name of the case
``patient``  patient's pseudonym; a patient trains or judges, never both
``her2``     score of the IHC slide: 0, 1+, 2+, 3+
``he``       bag of the H&E slide's tiles (`models.mil.bag`), a path below the folder
``ihc``      bag of the IHC slide's tiles by the same encoder; empty: the H&E slide trains alone
===========  ====================================================================================

A column ``partners`` may name a table of the tiles of both that show the same tissue: a line each,
with the columns of `PARTNER_COLUMNS`. Without it no tile's partner is known, as in the paper.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import DataSetError
from models.interim.places import TileFeatures, Whole
from models.mil.bag import Bag, load_bag
from models.slide_level.cohort import file_below
from models.slide_level.tables import check_columns, check_patients, rows_of
from models.slide_level.tasks import HER2_SCORES

PAIRS_NAME = "pairs.csv"
COLUMNS = ("case", "patient", "her2", "he", "ihc")
PARTNERS = "partners"
PARTNER_COLUMNS = ("he_column", "he_row", "ihc_column", "ihc_row")
"""Places of two tiles, as their bags have them."""
Places = NDArray[np.integer]
PARTS, HELD_PARTS = 10, (0, 3, 6)
"""Patients are dealt into ten parts, of which three judge: 7:3, as in the paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFiles:
    """A case that teaches: whole paths of bags and table of partners, and its class 0-3."""

    case: str
    patient: str
    label: int
    he: Path
    ihc: Path | None
    partners: Path | None = None


def read_pairs(folder: Path) -> list[PairFiles]:
    """Return the cases of ``folder/pairs.csv``, in its order.

    Raises
    ------
    DataSetError
        If the table cannot be read, lacks a column, has no row, names a case twice, a patient in
        two ways, an unknown score, a file that is missing, or a bag for two patients.
    """
    path = folder / PAIRS_NAME
    rows = rows_of(path, (*COLUMNS, PARTNERS))
    if not rows:
        raise DataSetError(f"{path}: no rows; it needs the columns {', '.join(COLUMNS)}")
    check_columns(rows[0], (*COLUMNS, PARTNERS), str(path))
    if lacking := [column for column in COLUMNS if column not in rows[0]]:
        raise DataSetError(f"{path}: no column {', '.join(lacking)}. Add it to the first line.")
    found: dict[str, PairFiles] = {}
    for row in rows:
        pair = _pair(folder, f"{path}, line {row.line}", row)
        if pair.case in found:
            raise DataSetError(f"{path}, line {row.line}: case {pair.case!r} is there twice")
        found[pair.case] = pair
    check_patients((pair.patient for pair in found.values()), str(path))
    _check_files(path, found.values())
    return list(found.values())


def _check_files(path: Path, pairs: Iterable[PairFiles]) -> None:
    """Check that no bag is of two patients, one of whom may train and the other judge."""
    seen: dict[Path, PairFiles] = {}
    for pair in pairs:
        for file in (pair.he, pair.ihc, pair.partners):
            if file is None:
                continue
            first = seen.setdefault(file.resolve(), pair)
            if first.patient != pair.patient:
                raise DataSetError(
                    f"{path}: {file.name} is named for the cases {first.case!r} and {pair.case!r} "
                    "of two patients. Correct one of them."
                )


def _pair(folder: Path, where: str, row: dict[str, str]) -> PairFiles:
    for column in COLUMNS[:-1]:
        if not row.get(column):
            raise DataSetError(f"{where}: no {column}")
    if row["her2"] not in HER2_SCORES:
        raise DataSetError(f"{where}: her2 {row['her2']!r} is none of {', '.join(HER2_SCORES)}")
    return PairFiles(
        case=row["case"],
        patient=row["patient"],
        label=[str(score) for score in HER2_SCORES].index(row["her2"]),
        he=file_below(folder, where, row["he"]),
        ihc=file_below(folder, where, row["ihc"]) if row.get("ihc") else None,
        partners=file_below(folder, where, row[PARTNERS]) if row.get(PARTNERS) else None,
    )


def divided(pairs: Sequence[PairFiles], seed: int) -> tuple[list[PairFiles], list[PairFiles]]:
    """Return the cases that train and those that judge, 7:3 by patients of each highest class.

    Equal seeds give equal parts.

    Raises
    ------
    DataSetError
        If there are fewer than ten patients, or a class has no case in one of the parts.
    """
    stratum: dict[str, int] = {}
    for pair in pairs:
        stratum[pair.patient] = max(pair.label, stratum.get(pair.patient, 0))
    if len(stratum) < PARTS:
        raise DataSetError(f"{len(stratum)} patients: the division needs {PARTS} at least.")
    names = sorted(stratum)
    order = [names[k] for k in np.random.default_rng([seed, 0x1CA]).permutation(len(names))]
    order.sort(key=lambda name: stratum[name])  # stable: dealt stratum after stratum
    held = {name for k, name in enumerate(order) if k % PARTS in HELD_PARTS}
    parts = [p for p in pairs if p.patient not in held], [p for p in pairs if p.patient in held]
    for part, what in zip(parts, ("train", "judge"), strict=True):
        there = {pair.label for pair in part}
        if lacking := [name for k, name in enumerate(HER2_SCORES) if k not in there]:
            raise DataSetError(f"no case of {lacking[0]} is among those that {what}. Add some.")
    return parts


def load_tiles(path: Path, encoder: str) -> TileFeatures:
    """Return the tiles of a bag's file by an encoder, given by its fingerprint.

    Raises
    ------
    DataSetError
        If the file is no bag, or another encoder made it.
    """
    bag = load_bag(path)
    check_encoder(bag, encoder, str(path))
    return tiles_of(bag, encoder)


def save_partners(path: Path, he: Places, ihc: Places) -> None:
    """Write a table of partners: `he` and `ihc` int (N, 2), column and row of N pairs of tiles."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = np.concatenate([he, ihc], axis=1).tolist()
        csv.writer(stream).writerows([PARTNER_COLUMNS, *rows])


def load_partners(path: Path, he: TileFeatures, ihc: TileFeatures) -> Whole:
    """Return the row in `ihc` of the partner of each tile of `he`, int (N,); -1 where none is.

    Raises
    ------
    DataSetError
        If the file is no such table, or names a tile that a bag does not have.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = list(csv.DictReader(stream))
        places = [[int(line[name] or "") for name in PARTNER_COLUMNS] for line in lines]
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as err:
        raise DataSetError(
            f"{path}: no table of partners; it needs the columns {', '.join(PARTNER_COLUMNS)}, in "
            "whole numbers"
        ) from err
    rows = [{place: k for k, place in enumerate(map(tuple, t.places.tolist()))} for t in (he, ihc)]
    found = np.full(len(he.places), -1, dtype=np.int64)
    for line, (he_column, he_row, ihc_column, ihc_row) in enumerate(places, 2):
        ours = rows[0].get((he_column, he_row))
        theirs = rows[1].get((ihc_column, ihc_row))
        if ours is None or theirs is None:
            raise DataSetError(f"{path}, line {line}: a bag has no such tile. Make the pairs anew.")
        found[ours] = theirs
    return found


def tiles_of(bag: Bag, encoder: str) -> TileFeatures:
    """Return a bag as the network takes it.

    Raises
    ------
    DataSetError
        If another encoder made it.
    """
    check_encoder(bag, encoder, bag.slide)
    return TileFeatures(places=bag.places.astype(np.int64), features=bag.vectors.astype(np.float32))


def check_encoder(bag: Bag, encoder: str, where: str) -> None:
    """Check that an encoder, given by its fingerprint, made a bag; `where` names it in the error.

    Raises
    ------
    DataSetError
        If another one did.
    """
    if bag.encoder != encoder:
        raise DataSetError(
            f"{where}: its tiles were encoded by {bag.encoder[:12]}…, the interim reader needs "
            f"{encoder[:12]}…. Encode both slides of every case by one encoder."
        )
