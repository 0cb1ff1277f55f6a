"""Orders of HL7 v2 messages as files of a folder (`order_message`)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias, TypeVar

from appliance.delivery.hl7_characters import CharactersError, header_of, text_of
from appliance.delivery.order_entry import Merged, OrderEntry
from appliance.delivery.order_files import (
    MOST_PROBLEMS,
    WRITING_S,
    OrderProblem,
    OrdersRead,
    marked,
)
from appliance.delivery.order_message import ORDERS, MessageError, entries_of
from appliance.delivery.order_standing import MessagePlace, by_accession, gone, standing
from appliance.errors import WorklistUnavailableError
from appliance.settings.orders import Orders
from dicom.errors import ObjectError
from dicom.order import Order
from dicom.request import TakenBack

MOST_MESSAGE_BYTES = 4 * 2**20
"""Largest file of messages that is read."""
_ENVELOPE = (b"FHS", b"BHS", b"BTS", b"FTS")
_Listed: TypeAlias = tuple[tuple[str, int, int], ...]
"""Names of files, their times of change and their sizes."""
_Parsed: TypeAlias = tuple[tuple[OrderEntry, ...], tuple[OrderProblem, ...]]
_Each = TypeVar("_Each")
_ByAccession: TypeAlias = Mapping[str, tuple[_Each, ...]]


@dataclass(slots=True)
class _Folder:
    """Present files of a folder as they were read, each with its time of change and its size.

    `standing` has the files and the merged IDs that it is of, the orders that stand by accession,
    and the requests of those that were taken back.
    """

    files: dict[str, tuple[int, int, _Parsed]] = field(default_factory=dict)
    standing: tuple[tuple[_Listed, Merged], _ByAccession[Order], _ByAccession[TakenBack]] = (
        ((), ()),
        {},
        {},
    )


@lru_cache(maxsize=4)
def _folder(path: Path, fields: tuple[str, ...]) -> _Folder:
    """Keep a folder as it is read with `fields`; it is the same one at each call."""
    return _Folder()


def read_hl7(
    folder: Path, settings: Orders, longest_s: float | None = None, merged: Merged = ()
) -> OrdersRead:
    """Read the messages of a folder; files that did not change are not parsed again.

    A later message about an order replaces the earlier one (`order_standing`).

    Raises
    ------
    WorklistUnavailableError
        If it takes longer than `longest_s`. The next call goes on with the files that are left.
    OSError
        If the folder cannot be read.
    """
    now, begun = time.time(), time.monotonic()
    kept = _folder(folder, settings.hl7_accession)
    files: list[tuple[str, int, int]] = []
    entries: list[tuple[MessagePlace, OrderEntry]] = []
    problems: list[OrderProblem] = []
    for name, facts in _files(folder):
        age_s = now - facts.st_mtime
        if age_s > settings.hl7_days * 86400:
            continue
        if longest_s is not None and time.monotonic() - begun > longest_s:
            raise WorklistUnavailableError(
                "The messages of orders.hl7 are many and were not all read yet. They are read on "
                "by themselves; fewer files, or a lower orders.hl7_days, make it faster."
            )
        modified_ns, size = facts.st_mtime_ns, facts.st_size
        files.append((name, modified_ns, size))
        found, wrong = _read(kept, folder / name, modified_ns, size, settings.hl7_accession)
        entries += [((entry.at, modified_ns, name, entry.line), entry) for entry in found]
        if not 0 <= age_s < WRITING_S:
            problems += wrong
    for name in set(kept.files) - {name for name, *_ in files}:
        kept.files.pop(name, None)
    listed = tuple(files), merged
    if kept.standing[0] != listed:
        entries.sort(key=lambda item: item[0])
        stand, ended = standing(entries, merged)
        kept.standing = listed, by_accession(stand), gone(ended, stand)
    _, orders, canceled = kept.standing
    return OrdersRead(orders=orders, canceled=canceled, problems=tuple(problems[:MOST_PROBLEMS]))


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Files of a folder in the order of their names; hidden ones are left out."""
    with os.scandir(folder) as listed:
        items = sorted(listed, key=lambda item: item.name)
    for item in items:
        # The laboratory may take a file away meanwhile.
        with suppress(FileNotFoundError):
            if not item.name.startswith(".") and item.is_file():
                yield item.name, item.stat()


def _read(
    kept: _Folder, path: Path, modified_ns: int, size: int, fields: tuple[str, ...]
) -> _Parsed:
    """Parse a file, or return what was parsed of it where it did not change."""
    known = kept.files.get(path.name)
    if known is not None and known[:2] == (modified_ns, size):
        return known[2]
    if size > MOST_MESSAGE_BYTES:
        text = f"the file is larger than {MOST_MESSAGE_BYTES // 2**20} MiB"
        parsed: _Parsed = (), (OrderProblem(file=path.name, line=1, text=text, whole=True),)
    else:
        try:
            parsed = parse_messages(path.name, path.read_bytes(), fields)
        except FileNotFoundError:  # the laboratory took it away meanwhile
            return (), ()
    kept.files[path.name] = modified_ns, size, parsed
    return parsed


def parse_messages(
    name: str, data: bytes, fields: Sequence[str]
) -> tuple[tuple[OrderEntry, ...], tuple[OrderProblem, ...]]:
    """Parse the messages of a file; `fields` may hold the accession, the first filled one does."""
    entries: list[OrderEntry] = []
    problems: list[OrderProblem] = []
    text = marked(data)
    for line, message in _messages(data if text is None else text.encode()):
        if _is_left_alone(message):
            continue
        try:
            # A marked file is Unicode whatever its messages state.
            whole = text_of(message) if text is None else message.decode(errors="replace")
            entries += [replace(entry, line=line) for entry in entries_of(whole, fields)]
        except (MessageError, CharactersError, ObjectError) as err:
            told = f"the message is not used: {err}"
            problems.append(OrderProblem(file=name, line=line, text=told))
    return tuple(entries), tuple(problems)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Messages of a file with the numbers of their first lines; frames of MLLP are left out."""
    plain = data.replace(b"\x0b", b"").replace(b"\x1c", b"")
    lines = plain.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    first, segments = 1, list[bytes]()
    for number, line in enumerate(lines, start=1):
        if line.startswith(b"MSH") and segments:
            yield first, b"\r".join(segments)
            segments = []
        if line.strip() and not line.startswith(_ENVELOPE):
            first = first if segments else number
            segments.append(line.rstrip())
    if segments:
        yield first, b"\r".join(segments)


def _is_left_alone(message: bytes) -> bool:
    """Return whether a message is of a type that holds no orders, whatever its characters."""
    kind = "".join(header_of(message)[9:10])[:3]
    return bool(kind) and kind not in ORDERS
