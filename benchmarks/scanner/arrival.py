"""Arrival of slides: each writes its files piece by piece and yields the seconds to its next piece.

The generators are played in the order of simulated time (`benchmarks.scanner.play`).
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.scanner.plan import Scan
from benchmarks.scanner.profiles import Files

PIECES = 8
STALL_S, CUT_S, LATER_S = 20.0, 90.0, 240.0
"""Simulated seconds of a pause, of a file that stays cut, and until a slide comes again."""
HEADER_BYTES = 16
Wait = Iterator[float]


@dataclass(slots=True, kw_only=True)
class Disk:
    """The scanner's folder. `whole_at` has, for each slide written, the times (s since the epoch)
    of the last write to its files, from which on they were whole."""

    root: Path
    slide_s: float
    dice: random.Random
    whole_at: dict[str, list[float]] = field(default_factory=dict)
    _written_at: dict[Path, float] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Return the path of a file of the folder; its folder is made."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def writes(self, path: Path) -> None:
        """Note that a file is written to now: a reader may see that before the writer goes on."""
        self._written_at[path] = time.time()

    def whole(self, slide: str, files: Iterable[str]) -> None:
        """Note that all files of a slide are there, by names, since the last write to them."""
        last = max(self._written_at[self.root / name] for name in files)
        self.whole_at.setdefault(slide, []).append(last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arriving:
    """A slide on its way: its plan, its files by their final names, and the key of the slide.

    `again` returns the files of a later scan of the same slide, with the given stem.
    """

    scan: Scan
    files: Files
    key: str
    again: Callable[[str], Files]


def arrive(slide: Arriving, disk: Disk) -> Wait:
    """Write a slide with its fault."""
    match slide.scan.fault:
        case "stalls":
            yield from _stall(slide, disk)
        case "series":
            yield from _series(slide, disk)
        case "truncated":
            yield from _truncated(slide, disk, completed=True)
        case "cut":
            yield from _truncated(slide, disk, completed=False)
        case "renames":
            yield from _renamed(slide, disk)
        case "deletions":
            yield from _deleted(slide, disk)
        case "duplicates":
            yield from _plain(slide, disk)
            yield LATER_S
            copies = {f"copies/{name}": data for name, data in slide.files.items()}
            yield from _write_all(copies, disk)
            disk.whole(f"copies/{slide.key}", copies)
        case "rescans":
            yield from _rescanned(slide, disk)
        case "zero":
            for name in slide.files:
                disk.path(name).write_bytes(b"")
        case "garbage":
            yield from _write_all(_garbage(slide, disk), disk)
        case "special":
            special_files(disk.root / slide.scan.folder, slide.scan)
            yield from _plain(slide, disk)
        case "dustbins":
            yield from _write_all(_dustbins(slide), disk)
            yield from _plain(slide, disk)
        case _:
            yield from _plain(slide, disk)


def _plain(slide: Arriving, disk: Disk) -> Wait:
    yield from _write_all(slide.files, disk, header_last=slide.scan.profile == "aperio-svs")
    disk.whole(slide.key, slide.files)


def _stall(slide: Arriving, disk: Disk) -> Wait:
    for wait in _write_all(slide.files, disk):
        yield wait
        if disk.dice.random() < 0.3:
            yield STALL_S
    disk.whole(slide.key, slide.files)


def _series(slide: Arriving, disk: Disk) -> Wait:
    names = disk.dice.sample(list(slide.files), len(slide.files))
    for name in names:
        yield from _write(disk.path(name), slide.files[name], disk, len(names))
        yield disk.dice.choice((0.0, STALL_S))
    disk.whole(slide.key, slide.files)


def _truncated(slide: Arriving, disk: Disk, *, completed: bool) -> Wait:
    """Write all files but the last, and a part of that; the last of many may be missing."""
    *first, last = slide.files
    yield from _write_all({name: slide.files[name] for name in first}, disk)
    data = slide.files[last]
    kept = int(len(data) * disk.dice.uniform(0.3, 0.97))
    path = disk.path(last)
    if not (first and disk.dice.random() < 0.5):
        path.write_bytes(data[:kept])
    if completed:
        yield CUT_S
        disk.writes(path)
        with path.open("ab") as stream:
            stream.write(data[stream.tell() :])
        disk.whole(slide.key, slide.files)


def _renamed(slide: Arriving, disk: Disk) -> Wait:
    if slide.scan.variant == "while-growing":
        ((name, data),) = slide.files.items()
        path = disk.path(name)
        growing = path.with_name(f"SCAN{slide.scan.number:04d}_new{slide.scan.suffix}")
        half = len(data) // 2
        yield from _write(growing, data[:half], disk, 2)
        yield STALL_S
        growing.rename(path)
        disk.writes(path)
        with path.open("ab") as stream:
            stream.write(data[half:])
    else:
        waiting: list[tuple[Path, Path]] = []
        for name, data in slide.files.items():
            path = disk.path(name)
            temporary = path.with_name(f"~{slide.scan.number:04d}-{len(waiting)}.part")
            yield from _write(temporary, data, disk, len(slide.files))
            waiting.append((temporary, path))
        for temporary, path in waiting:
            disk.writes(path)
            temporary.rename(path)
    disk.whole(slide.key, slide.files)


def _deleted(slide: Arriving, disk: Disk) -> Wait:
    if slide.scan.variant == "growing":
        *first, last = slide.files
        yield from _write_all({name: slide.files[name] for name in first}, disk)
        disk.path(last).write_bytes(slide.files[last][: len(slide.files[last]) // 2])
        yield STALL_S
    else:
        yield from _plain(slide, disk)
        yield disk.dice.choice((1.0, LATER_S))
    for name in slide.files:
        disk.path(name).unlink()
    own = disk.path(next(reversed(slide.files))).parent
    if slide.scan.profile in ("mirax", "dicom"):
        own.rmdir()


def _rescanned(slide: Arriving, disk: Disk) -> Wait:
    yield from _plain(slide, disk)
    yield LATER_S
    if slide.scan.variant == "new-name":
        files, key = slide.again(f"{slide.scan.stem}_001"), f"{slide.key} again"
    else:
        files, key = slide.again(slide.scan.stem), slide.key
        if slide.scan.profile == "dicom":  # another series: the scanner clears the folder
            for name in slide.files:
                disk.path(name).unlink()
    yield from _write_all(files, disk)
    disk.whole(key, files)


def _garbage(slide: Arriving, disk: Disk) -> Files:
    start = disk.dice.choice((b"", b"II*\0\x10\0\0\0", b"\0" * 128 + b"DICM"))
    return {name: start + disk.dice.randbytes(len(data) // 2) for name, data in slide.files.items()}


def _write_all(files: Files, disk: Disk, *, header_last: bool = False) -> Wait:
    last = header_last and disk.dice.random() < 0.5
    for name, data in files.items():
        yield from _write(disk.path(name), data, disk, len(files), header_last=last)


def _write(path: Path, data: bytes, disk: Disk, files: int, *, header_last: bool = False) -> Wait:
    """Write a file in pieces; a header that comes last is zeros until then."""
    size = len(data) // PIECES + 1
    wait = 0.5 * disk.slide_s / PIECES / files
    shown = bytes(HEADER_BYTES) + data[HEADER_BYTES:] if header_last else data
    with path.open("wb") as stream:
        for at in range(0, len(data), size):
            disk.writes(path)
            stream.write(shown[at : at + size])
            stream.flush()
            yield wait
        if header_last:
            disk.writes(path)
            stream.seek(0)
            stream.write(data[:HEADER_BYTES])


def special_files(folder: Path, scan: Scan) -> list[Path]:
    """Make entries that are no files, named like slides; return those that could be made."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"S26-9{scan.number:04d}_A{n}_HE{scan.suffix}" for n in range(1, 6)]
    pipe, link, loop, directory, plug = (folder / name for name in names)

    def bind() -> None:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(plug))

    made = []
    makers: tuple[tuple[Path, Callable[[], object]], ...] = (
        (pipe, lambda: os.mkfifo(pipe)),
        (link, lambda: link.symlink_to(folder / "nowhere.svs")),
        (loop, lambda: loop.symlink_to(loop.name)),
        (directory, directory.mkdir),
        (plug, bind),
    )
    for path, make in makers:
        with suppress(OSError):  # a share may refuse such entries, and a socket's path may be long
            make()
            made.append(path)
    return made


def _dustbins(slide: Arriving) -> Files:
    name, data = next(reversed(slide.files.items()))
    name = Path(name).name
    own = slide.scan.folder
    files = {
        f"#recycle/{name}": data,
        f".Trash-1000/files/{name}": data,
        f"@eaDir/{name}/SYNOFILE_THUMB.jpg": b"\xff\xd8\xff",
        f"._{slide.scan.number}{slide.scan.suffix}": bytes(4096),
        "Thumbs.db": bytes(1024),
        f"~{slide.scan.number}{slide.scan.suffix}": data[:1000],
    }
    return {f"{own}/{name}" if own else name: content for name, content in files.items()}
