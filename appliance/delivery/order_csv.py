"""Orders of a table: CSV as spreadsheets and laboratory systems write it."""

from __future__ import annotations

import csv
import io
import re
import time
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import lru_cache
from pathlib import Path

from appliance.delivery.order_cells import DECIDING, RowError, kept_values, value_of
from appliance.delivery.order_files import (
    MOST_BYTES,
    MOST_PROBLEMS,
    UNENDED_S,
    WRITING_S,
    OrderProblem,
    OrdersRead,
    day_of_birth,
    decoded_lines,
)
from appliance.errors import WorklistUnavailableError
from appliance.settings.orders import COLUMNS, LOOSE_COLUMNS, Orders
from dicom.errors import ObjectError
from dicom.order import Order, OrderedSpecimen, block_in, blocks_of, fitting, plain, texts_in
from dicom.request import OrderedRequest
from dicom.study import LO_LENGTH, SH_LENGTH
from dicom.uids import is_uid

DELIMITERS = ";,\t|"
_DATES = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%Y/%m/%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")
_SEXES = {
    **dict.fromkeys(("f", "female", "w", "weiblich"), "F"),
    **dict.fromkeys(("m", "male", "männlich", "maennlich"), "M"),
    **dict.fromkeys(("o", "other", "d", "divers"), "O"),
}


_last_lines: dict[Path, tuple[int, str, int]] = {}
"""Last line of each table: its number, its text, and the table's first time of change with it."""


def read_csv(path: Path, settings: Orders) -> OrdersRead:
    """Read the table of orders, or return what was read if it did not change.

    Raises
    ------
    WorklistUnavailableError
        If the file is being written.
    OSError
        If it cannot be read.
    """
    facts = path.stat()
    return _read(
        path,
        facts.st_mtime_ns,
        facts.st_size,
        tuple(sorted(settings.columns.items())),
        settings.date,
        # A clock of the share that is ahead makes a file young, too.
        time.time() - facts.st_mtime < UNENDED_S,
    )


@lru_cache(maxsize=4)
def _read(
    path: Path,
    modified_ns: int,
    size: int,
    columns: tuple[tuple[str, str], ...],
    form: str,
    young: bool,
) -> OrdersRead:
    if size > MOST_BYTES:
        return _unusable(path.name, 1, f"the table is larger than {MOST_BYTES // 2**20} MiB")
    data = path.read_bytes()
    after = path.stat()
    text, odd = decoded_lines(data)
    fresh = 0 <= time.time() - modified_ns / 1e9 < WRITING_S
    if (after.st_mtime_ns, after.st_size) != (modified_ns, size) or (
        fresh and not text.endswith("\n")
    ):
        raise WorklistUnavailableError("orders.csv is being written. It is read again by itself.")
    young = young and not _has_stood(path, text, modified_ns)
    read = _with_end(path.name, text, dict(columns), form, young)
    return read if not odd else replace(read, problems=(*read.problems, _odd(path.name, odd)))


def _odd(name: str, lines: Sequence[int]) -> OrderProblem:
    """Problem of lines whose letters are written otherwise than those of the table."""
    what = "it is" if len(lines) == 1 else f"it and {len(lines) - 1} more are"
    told = f"{what} not in UTF-8 as the other lines are: letters may be wrong."
    return OrderProblem(file=name, line=lines[0], text=told, used=True)


def _has_stood(path: Path, text: str, modified_ns: int) -> bool:
    """Return whether the last line is that of a table which was changed a minute before this one.

    Such a line is whole in a table that is always young, as it is rewritten each minute. Readings
    of one writing do not count: a copy may set the time of a table that is cut.
    """
    lines = list(io.StringIO(text, newline=None))
    number, last = len(lines), lines[-1] if lines else ""
    known = _last_lines.get(path)
    since = min(known[2], modified_ns) if known and known[:2] == (number, last) else modified_ns
    _last_lines[path] = number, last, since
    return modified_ns - since >= UNENDED_S * 1e9


def _with_end(
    name: str, text: str, columns: Mapping[str, str], form: str, young: bool
) -> OrdersRead:
    """Parse a table; a last line without an end may be cut, within a number, too.

    While the table is `young` its row is not used. Later, or where the line has stood a minute, it
    is: spreadsheets write no last end.
    """
    lines = list(io.StringIO(text, newline=None))
    if len(lines) < 2 or lines[-1].endswith("\n") or not lines[-1].strip():
        return parse_csv(name, text, columns, form)
    read = parse_csv(name, "".join(lines[:-1]) if young else text, columns, form)
    told = "it has no line end, and may be cut: its row is "
    told += "not used while the file is new" if young else "used as it stands"
    problem = OrderProblem(file=name, line=len(lines), text=f"{told}.", used=not young)
    return replace(read, problems=(*read.problems, problem))


def parse_csv(name: str, text: str, columns: Mapping[str, str], form: str) -> OrdersRead:
    """Parse the text of a table; `columns` are the site's names, `form` its format of dates."""
    lines = list(io.StringIO(text, newline=None))
    start = next((at for at, line in enumerate(lines) if _is_head(line)), None)
    if start is None:
        return _unusable(name, 1, "the table is empty")
    delimiter, found_columns = _header(lines[start], columns)
    doubt = ""
    for fact, what in DECIDING.items():
        if len(several := found_columns.get(fact, {})) > 1:
            told = f"several columns may be the {what}: {', '.join(several.values())}"
            doubt = f"{told}. Set orders.columns to name one of them"
            if len(set(map(_folded, several.values()))) > 1:
                return _unusable(name, start + 1, doubt)
    named = {fact: min(numbers) for fact, numbers in found_columns.items()}
    missing = [what for fact, what in DECIDING.items() if fact not in named]
    if missing:
        what = " and for the ".join(missing)
        return _unusable(
            name,
            start + 1,
            f"no column for the {what}. The first line must name the columns; set orders.columns "
            "if the table has other names for them",
        )
    width = len(next(csv.reader([lines[start]], delimiter=delimiter, skipinitialspace=True)))
    found: dict[str, list[Order]] = defaultdict(list)
    problems: list[OrderProblem] = []
    # Joined tables have the column of the join twice.
    twins = {fact: list(found_columns[fact]) for fact in DECIDING if len(found_columns[fact]) > 1}
    used = {*named.values(), *(column for each in twins.values() for column in each)}
    for line, cells in _rows(lines, start + 1, delimiter, width, used):
        try:
            if isinstance(cells, RowError):
                raise cells
            if len(cells) < width or any(cells[width:]):
                raise RowError(f"it has {len(cells)} columns, the first line {width}")
            values = {what: value_of(cells[column]) for what, column in named.items()}
            for fact, columns_of in twins.items():
                values[fact] = _of_twins(fact, {value_of(cells[column]) for column in columns_of})
            values, left_out = kept_values(values)
            order, more = _order(values, form)
            left_out += more
            found[values["accession"].casefold()].append(order)
        except (RowError, ObjectError) as err:
            left_out = [f"the row is not used: {err}"]
        problems += [OrderProblem(file=name, line=line, text=each) for each in left_out]
    if doubt and problems and not found:
        return _unusable(name, start + 1, doubt)
    return OrdersRead(
        orders={accession: tuple(dict.fromkeys(orders)) for accession, orders in found.items()},
        problems=tuple(problems[:MOST_PROBLEMS]),
    )


def _of_twins(fact: str, cells: set[str]) -> str:
    """Value of a fact whose column is there twice; an empty cell contradicts none.

    Raises
    ------
    RowError
        If the cells differ.
    """
    if len(cells - {""}) > 1:
        raise RowError(f"its columns of the {DECIDING[fact]} differ")
    return max(cells)


def _is_head(line: str) -> bool:
    """Return whether a line may name the columns: Excel's ``sep=;`` comes before it."""
    return bool(line.strip()) and not line.casefold().startswith("sep=")


def _unusable(name: str, line: int, text: str) -> OrdersRead:
    problem = OrderProblem(file=name, line=line, text=f"{text}.", whole=True)
    return OrdersRead(orders={}, problems=(problem,))


def _header(line: str, columns: Mapping[str, str]) -> tuple[str, dict[str, dict[int, str]]]:
    """Delimiter, and the columns of each fact with their names: the delimiter that names the most.

    A column of a loose name is left out beside another one.
    """
    known = {
        _folded(name): what
        for what, names in COLUMNS.items()
        if what not in columns
        for name in names
    } | {_folded(name): what for what, name in columns.items()}
    loose = {_folded(name) for name in LOOSE_COLUMNS}
    best: tuple[str, dict[str, dict[int, str]]] = (DELIMITERS[0], {})
    for delimiter in DELIMITERS:
        with suppress(csv.Error):
            cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
            named: dict[str, dict[int, str]] = defaultdict(dict)
            for number, cell in enumerate(cells):
                what = known.get(_folded(cell))
                if what is not None:
                    named[what][number] = plain(cell)
            if len(named) > len(best[1]):
                best = (delimiter, named)
    return best[0], {
        what: {n: cell for n, cell in found.items() if _folded(cell) not in loose} or found
        for what, found in best[1].items()
    }


def _folded(name: str) -> str:
    composed = unicodedata.normalize("NFC", name).casefold()
    return "".join(letter for letter in composed if letter.isalnum())


def _rows(
    lines: Sequence[str], start: int, delimiter: str, width: int, used: Collection[int]
) -> Iterator[tuple[int, list[str] | RowError]]:
    """Rows with the numbers of their lines; blank ones are left out.

    A quote that is not closed costs its own line only, not those that follow. A cell of several
    lines may stand in columns that are not `used`, such as remarks.
    """
    while start < len(lines):
        rest = (lines[number] for number in range(start, len(lines)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
        done = 0
        try:
            for cells in reader:
                spans = reader.line_num - done > 1
                if spans and _swallowed(cells, delimiter, width, used):
                    raise csv.Error("a quote is not closed")
                if any(cells):
                    yield start + done + 1, cells
                done = reader.line_num
            return
        except csv.Error:
            yield start + done + 1, RowError("its quotes do not match")
            start += done + 1


def _swallowed(cells: Sequence[str], delimiter: str, width: int, used: Collection[int]) -> bool:
    """Return whether a cell of several lines holds rows that follow, or a fact."""
    return len(cells) != width or any(
        number in used or any(part.count(delimiter) >= width - 1 for part in more)
        for number, cell in enumerate(cells)
        if (more := cell.split("\n")[1:])
    )


def _order(values: Mapping[str, str], form: str) -> tuple[Order, list[str]]:
    """Order of a row, and sentences about values that are left out.

    Raises
    ------
    RowError, ObjectError
        If the row cannot be used.
    """
    if not values["accession"]:
        raise RowError("it has no accession")
    if not values["patient_id"]:
        raise RowError("it has no patient ID")
    left_out = []
    born, uid = _day(values.get("birth_date", ""), form, date.today()), values.get("study_uid", "")
    if born is None and values.get("birth_date"):
        left_out.append("the date of birth cannot be read and is left out; set orders.date")
    if uid and not is_uid(uid):
        left_out.append("the Study Instance UID is no UID and is left out")
    specimens, asked = _specimens(values), texts_in(values.get("stain", ""))
    order = Order(
        source="csv",
        uid=uid if is_uid(uid) else "",
        patient_id=values["patient_id"],
        issuer=values.get("issuer", ""),
        patient_name=_name(values),
        patient_birth_date=born,
        patient_sex=_SEXES.get(values.get("sex", "").casefold(), ""),
        other_ids=texts_in(values.get("other_ids", "")),
        accession_issuer=values.get("accession_issuer", ""),
        specimens=specimens,
        asked=asked,
        requests=_requests(values, blocks_of(specimens), asked),
    )
    return order, left_out


def _requests(
    values: Mapping[str, str], blocks: tuple[str, ...], asked: tuple[str, ...]
) -> tuple[OrderedRequest, ...]:
    """Request of a row; none where it has no number."""
    request = OrderedRequest(
        placer=fitting(values.get("placer", ""), LO_LENGTH),
        filler=fitting(values.get("filler", ""), LO_LENGTH),
        procedure_id=fitting(values.get("procedure_id", ""), SH_LENGTH),
        procedure=fitting(values.get("stain", ""), LO_LENGTH),
        blocks=blocks,
        asked=asked,
    )
    return (request,) if request.names_order else ()


def _name(values: Mapping[str, str]) -> str:
    """Name as DICOM writes it, from one column or two.

    ``Name`` beside ``Vorname`` is the family's name, unless it holds a given name itself, in any
    case.
    """
    family, given, name = (values.get(each, "") for each in ("family_name", "given_name", "name"))
    if "family_name" not in values and not re.search(r"[\^,]", name):
        words, own = set(name.casefold().split()), set(given.casefold().split())
        family = "" if not own or (own & words and words - own) else name
    if family or (given and not name):
        return f"{family}^{given}".rstrip("^")
    if "^" not in name and name.count(",") == 1:
        family, given = name.split(",")
        return f"{family.strip()}^{given.strip()}".rstrip("^")
    return name


@lru_cache(maxsize=65536)
def _day(cell: str, form: str, today: date) -> date | None:
    found = (day_of_birth(cell, known, today) for known in ((form,) if form else _DATES))
    return next((day for day in found if day is not None), None)


def _specimens(values: Mapping[str, str]) -> tuple[OrderedSpecimen, ...]:
    accession, specimen = values["accession"], values.get("specimen", "")
    container = values.get("container", "")
    block = values.get("block", "").upper()
    block = block or block_in(specimen, accession) or block_in(container, accession)
    if not (specimen or container or block):
        return ()
    stain = values.get("stain", "")
    return (
        OrderedSpecimen(container_id=container, specimen_id=specimen, block=block, stain=stain),
    )
