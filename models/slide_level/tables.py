"""CSV tables that people write: their rows, and patients' names that mean one patient."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from models.errors import DataSetError

_DELIMITERS = (",", ";", "\t")
"""Delimiters of tables; the comma where no other gives more columns that are read."""
_SEPARATOR = re.compile(r'"?sep=.?"?[ \t]*[\r\n]', re.IGNORECASE)
"""First line by which a spreadsheet names its delimiter."""
_NOT_UTF8 = "not a readable CSV table: not in UTF-8. Save it as CSV UTF-8"
_MINUS = "\N{MINUS SIGN}"
_BREAK = re.compile(r"[\r\n]")
_END = "\0"
"""Row after the last one, which a quote without an end swallows; no table has it."""


class Row(dict[str, str]):
    """Cells of a row by column, and the line of the file that it ends in, from 1."""

    def __init__(self, line: int, cells: Mapping[str, str]) -> None:
        super().__init__(cells)
        self.line = line


def rows_of(path: Path, known: Sequence[str], *, any_case: bool = False) -> list[Row]:
    """Return the rows of a CSV file by column, without blanks around names and cells.

    `known` are the names of the columns that are read; others may stand beside them. A cell that a
    row lacks is empty. Rows without any cell, as spreadsheets write them, are left out, as is their
    first line ``sep=;``. `any_case`: the caller reads names in capitals, too.

    Raises
    ------
    DataSetError
        If it cannot be read, a quote has no end or swallowed a row, a cell that is read has a line
        break, or a column that is read is there twice.
    """
    lines = io.StringIO(_text(path), newline="")
    first = 1
    if _SEPARATOR.match(lines.readline()):
        first = 2
    else:
        lines.seek(0)
    start, before = lines.tell(), first - 1
    delimiter = _delimiter(lines.readline(), known)
    lines.seek(start)
    found: list[tuple[int, list[str]]] = []
    reader = csv.reader(chain(lines, [_END]), delimiter=delimiter)
    try:
        for cells in reader:
            if cells == [_END]:
                break
            header = found[0][1] if found else cells
            if _has_wrong_break(cells, header, known, delimiter, any_case=any_case):
                raise DataSetError(
                    f"{path}, line {first}: a cell with a line break, which is read or may hold "
                    "rows that a quote took. Close its quote, or write the cell in one line."
                )
            first = before + reader.line_num + 1
            if cells:
                found.append((first - 1, [cell.strip() for cell in cells]))
        else:
            raise DataSetError(f"{path}, line {first}: a quote has no end. Close it.")
    except csv.Error as err:
        raise DataSetError(f"{path}, line {first}: not a readable CSV table ({err})") from err
    if not found:
        return []
    (_, names), *rest = found
    _check_twice(names, known, path, any_case=any_case)
    # Cells beyond the last column have no name.
    rows = [Row(line, dict(zip_longest(names, c[: len(names)], fillvalue=""))) for line, c in rest]
    return [row for row in rows if any(row.values())]


def _has_wrong_break(
    cells: Sequence[str],
    header: Sequence[str],
    known: Sequence[str],
    delimiter: str,
    *,
    any_case: bool,
) -> bool:
    """Return whether a cell that is read has a line break, or one holds what may be rows.

    Remarks may have line breaks, if they have fewer delimiters than a row. A quote without an end
    takes the rest of its row, and the next one up to its next quote: together as many as a row has.
    """
    for name, cell in zip_longest(header, cells, fillvalue=""):
        if _BREAK.search(cell.strip()) and (
            (name.casefold() if any_case else name) in known
            or len(cells) > len(header)
            or cell.count(delimiter) >= len(header) - 1
        ):
            return True
    return False


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as err:
        raise DataSetError(f"{path}: not a readable CSV table ({err})") from err
    except UnicodeDecodeError as err:
        raise DataSetError(f"{path}: {_NOT_UTF8} ({err.reason})") from err
    if "\0" in text:  # UTF-16 of plain letters is UTF-8, too
        raise DataSetError(f"{path}: {_NOT_UTF8}")
    return text


def _check_twice(names: Sequence[str], known: Sequence[str], path: Path, *, any_case: bool) -> None:
    """Check that no column that is read is there twice: one of them would win unseen."""
    seen: dict[str, str] = {}
    for name in names:
        key = name.casefold() if any_case else name
        if key in seen and key in known:
            raise DataSetError(
                f"{path}: the columns {seen[key]!r} and {name!r} have one name. Leave one of them."
            )
        seen[key] = name


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
        If two names differ in case, blanks, dashes, or the code of equal characters, alone: they
        would be two patients, one of whom judges what the other taught.
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.setdefault(_plain(name), name)
        if first != name:
            case = first.casefold() == name.casefold()
            what = "case" if case else "blanks, dashes or the code of their characters"
            raise DataSetError(
                f"{where}: patients {first!r} and {name!r} differ in {what} alone and would count "
                "as two. Write one name in one way."
            )


def _plain(name: str) -> str:
    """Return a patient's name without what a reader does not see or does not tell apart."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    kinds = [(letter, unicodedata.category(letter)) for letter in plain]
    seen = [
        "-" if kind == "Pd" or letter == _MINUS else letter
        for letter, kind in kinds
        if kind != "Cf"
    ]
    return " ".join("".join(seen).split())
