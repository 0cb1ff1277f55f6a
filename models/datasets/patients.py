"""Assignment of files to patients: by a table, by a pattern in the path, or by a folder."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from models.datasets.splits import SPLITS, Split, check_splits
from models.errors import DataSetError
from models.slide_level.tables import Row, check_columns, check_patients, rows_of

PatientOf = Callable[[PurePosixPath], tuple[str, Split | None]]
"""Function from a path below the data's folder to the patient, and the split if a table has it."""


def read_table(path: Path, columns: tuple[str, ...], optional: str) -> list[Row]:
    """Return the rows of a CSV file with `columns`, none of which is empty, and one that it may
    lack.

    Cells of ``split`` are a split where it is that one. Other columns are not read.

    Raises
    ------
    DataSetError
        If it cannot be read, a column is missing or in other letters, a cell is empty, a split is
        unknown, there is no row, a patient is in two splits, or written in two ways.
    """
    rows = rows_of(path, (*columns, optional))
    if not rows:
        raise DataSetError(f"{path}: no rows; it needs the columns {', '.join(columns)}")
    check_columns(rows[0], (*columns, optional), str(path))
    has_split = optional == "split" and "split" in rows[0]
    for row in rows:
        for column in (*columns, "split") if has_split else columns:
            if not row.get(column):
                raise DataSetError(f"{path}, line {row.line}: no {column}")
        if has_split and row["split"] not in SPLITS:
            raise DataSetError(
                f"{path}, line {row.line}: split {row['split']!r} is none of {', '.join(SPLITS)}"
            )
    if "patient" in columns:
        check_patients((row["patient"] for row in rows), str(path))
        stated = ((r["patient"], s) for r in rows if (s := split_of(r)) is not None)
        check_splits(stated, str(path))
    return rows


def split_of(row: dict[str, str]) -> Split | None:
    """The split that a row of a table states, None without one."""
    return next((split for split in SPLITS if split == row.get("split")), None)


def from_table(path: Path) -> PatientOf:
    """Assign by a CSV table with columns ``file`` (below the data's folder), ``patient``,
    ``split``.

    Raises
    ------
    DataSetError
        At once as `read_table`, or if a file is listed twice; later for a file that the table
        lacks.
    """
    known: dict[PurePosixPath, tuple[str, Split | None]] = {}
    for row in read_table(path, ("file", "patient"), "split"):
        file = PurePosixPath(posixpath.normpath(row["file"]))
        if file in known:
            raise DataSetError(f"{path}, line {row.line}: {file} is listed twice. Leave one line.")
        known[file] = row["patient"], split_of(row)

    def patient(file: PurePosixPath) -> tuple[str, Split | None]:
        if file not in known:
            raise DataSetError(f"{file}: {path} does not name its patient. Add a row.")
        return known[file]

    return patient


def from_pattern(pattern: str) -> PatientOf:
    """Assign by the first group of a regular expression, searched in the path below the data's
    folder.

    Raises
    ------
    DataSetError
        At once if it is no regular expression with a group; later for a file that does not match.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as err:
        raise DataSetError(f"--patient-pattern {pattern!r}: {err}") from err
    if compiled.groups < 1:
        raise DataSetError(f"--patient-pattern {pattern!r}: put the patient in parentheses")

    def patient(file: PurePosixPath) -> tuple[str, Split | None]:
        found = compiled.search(str(file))
        if found is None or not found[1]:
            raise DataSetError(f"{file}: --patient-pattern {pattern!r} finds no patient in it")
        return found[1], None

    return patient


def from_folder(depth: int) -> PatientOf:
    """Assign by the name of the folder `depth` levels down: ``CLASS/PATIENT/tile`` has depth 1.

    Raises
    ------
    DataSetError
        Later, for a file without such a folder.
    """

    def patient(file: PurePosixPath) -> tuple[str, Split | None]:
        if len(file.parts) < depth + 2:
            raise DataSetError(
                f"{file}: the patient is unknown. Put each patient's files in their own folder, "
                "or use --patient-pattern or --patients."
            )
        return file.parts[depth], None

    return patient
