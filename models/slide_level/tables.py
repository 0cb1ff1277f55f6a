"""CSV tables that people write: their rows, and patients' names that mean one patient."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from models.errors import DataSetError

_DELIMITERS = (",", ";", "\t")
"""Delimiters of tables; the comma where no other gives more columns that are read."""


class Row(dict[str, str]):
    """Cells of a row by column, and the line of the file that it ends in, from 1."""

    def __init__(self, line: int, cells: Mapping[str, str]) -> None:
        super().__init__(cells)
        self.line = line


def rows_of(path: Path, known: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV file by column, without blanks around names and cells.

    `known` are the names of the columns that are read; others may stand beside them. A cell that a
    row lacks is empty. Rows without any cell, as spreadsheets write them, are left out.

    Raises
    ------
    DataSetError
        If it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            delimiter = _delimiter(stream.readline(), known)
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=delimiter)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise DataSetError(f"{path}: not a readable CSV table ({err})") from err
    # Cells beyond the last column have no name.
    found = [
        Row(line, {n.strip(): (cell or "").strip() for n, cell in row.items() if n is not None})
        for line, row in rows
    ]
    return [row for row in found if any(row.values())]


def check_columns(names: Collection[str], known: Sequence[str], where: str) -> None:
    """Check that no column has a known name in other letters in its place.

    Raises
    ------
    DataSetError
        If one differs from a known name, which is no column, in case alone.
    """
    present = set(names)
    for name in names:
        for meant in known:
            if meant not in present and name.casefold() == meant.casefold():
                raise DataSetError(f"{where}: column {name!r} is not read. Call it {meant!r}.")


def _delimiter(header: str, known: Sequence[str]) -> str:
    """Return the delimiter by which a header has the most known columns, or columns at all.

    Spreadsheets of some countries write semicolons.
    """
    wanted = {name.casefold() for name in known}

    def columns(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([header], delimiter=delimiter), [])
        found = sum(name.strip().casefold() in wanted for name in names)
        return found, 0 if found else len(names)

    return max(_DELIMITERS, key=columns)


def check_patients(names: Iterable[str], where: str) -> None:
    """Check that no patient is written in two ways; `where` names the table in the error.

    Raises
    ------
    DataSetError
        If two names differ in case, or in the code of equal characters, alone: they would be two
        patients, one of whom judges what the other taught.
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if first != name:
            case = first.casefold() == name.casefold()
            what = "case alone" if case else "the code of their characters alone"
            raise DataSetError(
                f"{where}: patients {first!r} and {name!r} differ in {what} and would count as "
                "two. Write one name in one way."
            )
