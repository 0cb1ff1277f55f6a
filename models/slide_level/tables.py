"""CSV tables that people write: their rows, and patients' names that mean one patient."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from models.errors import DataSetError

_DELIMITERS = (",", ";", "\t")
"""Delimiters of tables; the comma where no other has more columns."""


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file by column, without blanks around names and cells.

    A cell that a row lacks is empty.

    Raises
    ------
    DataSetError
        If it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            delimiter = _delimiter(stream.readline())
            stream.seek(0)
            rows = list(csv.DictReader(stream, delimiter=delimiter))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataSetError(f"{path}: not a readable CSV table ({err})") from err
    # Cells beyond the last column have no name.
    return [
        {name.strip(): (cell or "").strip() for name, cell in row.items() if name is not None}
        for row in rows
    ]


def _delimiter(header: str) -> str:
    """Delimiter by which a header has the most columns: spreadsheets of some countries write ;."""
    return max(_DELIMITERS, key=lambda each: len(next(csv.reader([header], delimiter=each), ())))


def check_patients(names: Iterable[str], where: str) -> None:
    """Check that no patient is written in two ways; `where` names the table in the error.

    Raises
    ------
    DataSetError
        If two names differ in case alone: they would be two patients, one of whom judges what the
        other taught.
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            raise DataSetError(
                f"{where}: patients {first!r} and {name!r} differ in case alone and would count as "
                "two. Write one name in one way."
            )
