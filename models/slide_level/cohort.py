"""Cohorts of slides with slide-level labels: a folder with ``cohort.csv``.

========================================  ====================================================
column                                    content
========================================  ====================================================
``slide``                                 unique name of the slide
``patient``                               patient's pseudonym; a patient is in one fold only
``overview``                              picture of the whole slide, a path below the folder
``her2``, ``ish``, ``er``, ``pr``         label: 0, 1+, 2+, 3+; + or - for the others; empty: none
``bag`` (optional)                        tiles of the slide for multiple-instance learning, a path
``patches_low``, ``patches_moderate``,
``patches_high`` (optional)               patches at that resolution, a path (`models.patch_counts`)
``fold`` (optional)                       number from 0 on; folds are drawn where there is none
``true_her2``, ``true_ish``, ``true_er``,
``true_pr`` (optional)                    truth behind a label, of drawn slides
``scanner``, ``run`` (optional)           scanner's name and staining run, for figures by group
========================================  ====================================================
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

from models.errors import DataSetError
from models.slide_level.tables import check_columns, check_patients, rows_of
from models.slide_level.tasks import HER2_SCORES, Her2, SlideLabel, Status

COHORT_NAME = "cohort.csv"
PATCHES = ("low", "moderate", "high")
"""Resolutions of the columns of patches."""
_PATCHES = "patches_"
_LABELS = ("her2", "ish", "er", "pr")
_REQUIRED = ("slide", "patient", "overview")
_TRUE = "true_"
COLUMNS = (
    *_REQUIRED,
    "bag",
    *(f"{_PATCHES}{name}" for name in PATCHES),
    *_LABELS,
    *(f"{_TRUE}{name}" for name in _LABELS),
    "scanner",
    "run",
    "fold",
)
Word = TypeVar("Word", Her2, Status)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortSlide:
    """A slide of a cohort. `overview`, `bag` and `patches` are whole paths.

    `patches` are pairs of a resolution and its file. `truth` is known of drawn slides.

    `fold` is the cohort's own division, None where it has none.
    """

    slide: str
    patient: str
    overview: Path
    label: SlideLabel
    bag: Path | None = None
    patches: tuple[tuple[str, Path], ...] = ()
    truth: SlideLabel | None = None
    scanner: str = ""
    run: str = ""
    fold: int | None = None


def read_cohort(folder: Path) -> list[CohortSlide]:
    """Return the slides of ``folder/cohort.csv``, in its order.

    Raises
    ------
    DataSetError
        If the table cannot be read, lacks a column, has no row, names a slide twice, an unknown
        label, a file that is missing, folds for some slides only, a patient in two folds or written
        in two ways, a bag or patches of two slides, or a column in other letters.
    """
    path = folder / COHORT_NAME
    rows = rows_of(path, COLUMNS)
    if not rows:
        raise DataSetError(f"{path}: no rows; it needs the columns {', '.join(_REQUIRED)}")
    check_columns(rows[0], COLUMNS, str(path))
    if lacking := [column for column in _REQUIRED if column not in rows[0]]:
        raise DataSetError(f"{path}: no column {', '.join(lacking)}. Add it to the first line.")
    if not any(column in rows[0] for column in _LABELS):
        raise DataSetError(f"{path}: no labels. Add one of the columns {', '.join(_LABELS)}.")
    slides = [_slide(folder, f"{path}, line {row.line}", row) for row in rows]
    names: set[str] = set()
    for row, slide in zip(rows, slides, strict=True):
        if slide.slide in names:
            raise DataSetError(f"{path}, line {row.line}: slide {slide.slide!r} is there twice")
        names.add(slide.slide)
    check_patients((slide.patient for slide in slides), str(path))
    _check_files(path, slides)
    _check_folds(path, slides)
    return slides


def write_cohort(folder: Path, slides: Sequence[CohortSlide]) -> None:
    """Write ``cohort.csv`` of slides whose files lie below `folder`, as `read_cohort` reads it."""
    with (folder / COHORT_NAME).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for s in slides:
            truth = s.truth or SlideLabel()
            row = {"slide": s.slide, "patient": s.patient, "scanner": s.scanner, "run": s.run}
            row["overview"] = s.overview.relative_to(folder).as_posix()
            row["bag"] = s.bag.relative_to(folder).as_posix() if s.bag else ""
            for name, path in s.patches:
                row[f"{_PATCHES}{name}"] = path.relative_to(folder).as_posix()
            row["fold"] = "" if s.fold is None else str(s.fold)
            for name in _LABELS:
                row[name] = getattr(s.label, name) or ""
                row[f"{_TRUE}{name}"] = getattr(truth, name) or ""
            writer.writerow(row)


def _slide(folder: Path, where: str, row: dict[str, str]) -> CohortSlide:
    for column in _REQUIRED:
        if not row.get(column):
            raise DataSetError(f"{where}: no {column}")
    overview = file_below(folder, where, row["overview"])
    bag = file_below(folder, where, row["bag"]) if row.get("bag") else None
    patches = tuple(
        (name, file_below(folder, where, row[f"{_PATCHES}{name}"]))
        for name in PATCHES
        if row.get(f"{_PATCHES}{name}")
    )
    fold = row.get("fold") or None
    if fold is not None and not (fold.isascii() and fold.isdigit()):
        raise DataSetError(f"{where}: fold {fold!r} is no number from 0 on")
    truth = _label(where, row, _TRUE)
    return CohortSlide(
        slide=row["slide"],
        patient=row["patient"],
        overview=overview,
        bag=bag,
        patches=patches,
        label=_label(where, row, ""),
        truth=None if truth == SlideLabel() else truth,
        scanner=row.get("scanner") or "",
        run=row.get("run") or "",
        fold=None if fold is None else int(fold),
    )


def file_below(folder: Path, where: str, name: str) -> Path:
    """Return the whole path of a file that a table names, read at `where`.

    Raises
    ------
    DataSetError
        If it is missing.
    """
    path = folder / name
    if not path.exists():
        raise DataSetError(f"{where}: {path} is missing. Correct the path, which is below {folder}")
    return path


def _label(where: str, row: dict[str, str], prefix: str) -> SlideLabel:
    return SlideLabel(
        her2=_word(where, row, f"{prefix}her2", HER2_SCORES),
        ish=_word(where, row, f"{prefix}ish", get_args(Status)),
        er=_word(where, row, f"{prefix}er", get_args(Status)),
        pr=_word(where, row, f"{prefix}pr", get_args(Status)),
    )


def _word(where: str, row: dict[str, str], column: str, known: tuple[Word, ...]) -> Word | None:
    said = (row.get(column) or "").strip()
    if not said:
        return None
    for word in known:
        if said == word:
            return word
    raise DataSetError(f"{where}: {column} {said!r} is none of {', '.join(known)}, or empty")


def _check_files(path: Path, slides: Sequence[CohortSlide]) -> None:
    """Check that no bag and no patches are of two slides, which may lie in different folds.

    An overview may be: a cohort that is learned from by bags alone has one in place of all.
    """
    seen: dict[Path, str] = {}
    for slide in slides:
        for file in [slide.bag, *(file for _, file in slide.patches)]:
            if file is not None and seen.setdefault(file.resolve(), slide.slide) != slide.slide:
                raise DataSetError(
                    f"{path}: {file.name} is named for the slides {seen[file.resolve()]!r} and "
                    f"{slide.slide!r}. Correct one of them."
                )


def _check_folds(path: Path, slides: Iterable[CohortSlide]) -> None:
    seen: dict[str, int] = {}
    without: str | None = None
    for slide in slides:
        if slide.fold is None:
            without = slide.slide
            continue
        first = seen.setdefault(slide.patient, slide.fold)
        if first != slide.fold:
            raise DataSetError(
                f"{path}: patient {slide.patient} is in fold {first} and in fold {slide.fold}. "
                "A patient's slides belong to one fold: correct the column fold."
            )
    if seen and without is not None:
        raise DataSetError(f"{path}: slide {without!r} has no fold, others have. Give all or none.")
