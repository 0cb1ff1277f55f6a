"""Source of a slide: scan time and headers, frozen when learnt; the same files at every read.

Scanners' folders are cleared, and a correction or a rerun may come after that. A slide may also be
overwritten while it is read, and be put back with its former size and time. Its signature holds
what no copy keeps: the inode, and the time of the last change of the inode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from appliance.artifacts import ArtifactKey, ArtifactStore, is_as_written
from appliance.domain import QuarantineReason, SlideFacts
from appliance.errors import SlideError, SourceChangedError
from appliance.slides.files import fingerprints, modified_ns, slide_files
from appliance.slides.general import open_handle
from appliance.slides.header import BOUNDED, bounds_offset
from appliance.slides.places import daemons_path, place_of
from dicom.header import read_volumes, write_header

SOURCE = "source"
"""Step of the artifacts that hold what was frozen of a slide."""
SCANNED_NAME, OFFSET_NAME = "scanned.txt", "bounds-offset.txt"
SEEN_NAME = "seen.txt"
Signature: TypeAlias = tuple[tuple[int, int, int, int], ...]
"""Size, mtime (ns), inode and ctime (ns) of each file of a slide, in order of their names."""


def signature(path: Path) -> Signature:
    """Return the signature of the files of a slide.

    Raises
    ------
    SlideError
        VANISHED, if a file is gone; UNREADABLE, if the right to read one is missing.
    OSError
        If the file system fails.
    """
    try:
        return tuple(_file_signature(file) for file in slide_files(path))
    except (FileNotFoundError, NotADirectoryError) as err:
        gone = daemons_path(path)
        raise SlideError(QuarantineReason.VANISHED, "a file of it is gone", gone) from err
    except PermissionError as err:
        detail = "a file or folder of it may not be read by Tandem's user"
        raise SlideError(QuarantineReason.UNREADABLE, detail) from err


def _file_signature(file: Path) -> tuple[int, int, int, int]:
    # Opened: network file systems ask the server for the attributes of a file that is opened.
    with file.open("rb") as stream:
        facts = os.fstat(stream.fileno())
    return facts.st_size, modified_ns(facts), facts.st_ino, facts.st_ctime_ns


@contextmanager
def same_source(facts: SlideFacts, store: ArtifactStore) -> Iterator[None]:
    """Guard a read: the slide's files are the identified ones, and stay so while the block runs.

    The bytes are compared (by fingerprint) where the signature was not seen before.

    Raises
    ------
    SourceChangedError
        If they are not; nothing that the block read may be kept.
    SlideError
        VANISHED, if a file is gone.
    """
    path = place_of(facts.path)
    before = signature(path)
    if not store.has(_seen_key(facts, before)):
        if facts.fingerprint not in fingerprints(path):
            raise SourceChangedError(facts.path)
        remember_source(facts, before, store)
    try:
        yield
    finally:
        # After an error, too: bytes of two files in one slide look like damage.
        require_signature(path, before)


def require_identified(facts: SlideFacts, store: ArtifactStore) -> Signature:
    """Return the signature of a slide's files, which are the identified ones; write nothing.

    The bytes are compared (by fingerprint) where the signature was not seen before.

    Raises
    ------
    SourceChangedError
        If they are other files.
    SlideError
        VANISHED, if a file is gone.
    """
    path = place_of(facts.path)
    found = signature(path)
    if not is_as_written(store.path(_seen_key(facts, found))) and (
        facts.fingerprint not in fingerprints(path)
    ):
        raise SourceChangedError(facts.path)
    return found


def known_fingerprint(path: Path, store: ArtifactStore) -> str:
    """Return the fingerprint of a slide: that of former editions where it was frozen under it.

    So a DICOM series that is known keeps its results.
    """
    now, former = fingerprints(path)
    is_known = store.path(ArtifactKey.of(SOURCE, slide=former)).is_dir()
    return former if is_known else now


def require_signature(path: Path, before: Signature) -> None:
    """Check that the files of a slide still have a signature.

    Raises
    ------
    SourceChangedError
        If they do not.
    """
    if signature(path) != before:
        raise SourceChangedError(str(path))


def remember_source(facts: SlideFacts, before: Signature, store: ArtifactStore) -> None:
    """Remember that files of a signature have the fingerprint; `before` is from before hashing.

    Raises
    ------
    SourceChangedError
        If the signature changed meanwhile.
    """
    require_signature(place_of(facts.path), before)
    with store.writing(_seen_key(facts, before)) as folder:
        (folder / SEEN_NAME).write_text(facts.fingerprint)


def _seen_key(facts: SlideFacts, files: Signature) -> ArtifactKey:
    return ArtifactKey.of("seen", slide=facts.fingerprint, path=facts.path, files=files)


def freeze_source(facts: SlideFacts, store: ArtifactStore) -> tuple[datetime, list[Path]]:
    """Time of the scan (UTC), and files of the headers where the slide is DICOM, as it states them.

    The artifact is made the first time; later calls do not open the slide.

    Raises
    ------
    dicom.errors.DicomError
        If the headers of a DICOM slide cannot be read, or a value of them cannot be repeated.
    SlideError
        VANISHED, if the slide is gone and was not frozen.
    SourceChangedError
        If the slide's file is another one by now.
    ValueError
        If the fingerprint is empty: all such slides would share one source.
    """
    if not facts.fingerprint:
        raise ValueError("a slide without a fingerprint has no source of its own")
    key = ArtifactKey.of(SOURCE, slide=facts.fingerprint)
    if not store.has(key):
        path = place_of(facts.path)
        with store.writing(key) as folder, same_source(facts, store):
            # Time of the file: the dates of headers have no time zone.
            (folder / SCANNED_NAME).write_text(str(modified_ns(path.stat()) // 10**9))
            headers = read_volumes(slide_files(path)) if facts.is_dicom else []
            for number, header in enumerate(headers):
                write_header(header, folder / f"{number:02d}.dcm")
            if facts.format in BOUNDED:
                (folder / OFFSET_NAME).write_text("{} {}".format(*_offset(path)))
    folder = store.path(key)
    scanned = datetime.fromtimestamp(int((folder / SCANNED_NAME).read_text()), tz=UTC)
    return scanned, sorted(folder.glob("*.dcm"))


def _offset(path: Path) -> tuple[int, int]:
    handle = open_handle(path)
    try:
        return bounds_offset(handle.properties)
    finally:
        handle.close()


def frozen_offset(facts: SlideFacts, store: ArtifactStore) -> tuple[int, int]:
    """Return `bounds_offset` of a slide as it was frozen; (0, 0) where an earlier edition froze it.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is not what was written.
    """
    folder = store.path(ArtifactKey.of(SOURCE, slide=facts.fingerprint))
    file = folder / OFFSET_NAME
    if facts.format not in BOUNDED or not file.is_file():
        return 0, 0
    if not is_as_written(folder):
        raise ValueError(f"{folder.name} is not what was written")
    x, y = file.read_text().split()
    return int(x), int(y)
