"""Converted slides that retention removed: their headers stay, so that results can name them.

A correction repeats the headers of its slides and sends no pixels again. The headers of the
artifact ``wsm/DIGEST`` stay in ``headers/DIGEST``.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from pydicom import Dataset, dcmread

from appliance.artifacts import SUMS_NAME, ArtifactKey, ArtifactStore
from appliance.delivery.index import ObjectFile, index_entry
from appliance.errors import ArtifactDamagedError
from dicom.characters import UNREADABLE

log = logging.getLogger(__name__)

CONVERTED, HEADERS = "wsm", "headers"


def keep_headers(key: ArtifactKey, store: ArtifactStore) -> None:
    """Keep what a converted slide has beside its pixels, before it is removed.

    Raises
    ------
    ArtifactDamagedError
        If the slide's file is no DICOM, so that it stays; or if headers are there and are not what
        was written, so that the next attempt keeps them anew.
    """
    headers, source = headers_of(key), store.path(key)
    if store.has(headers):
        return
    with store.writing(headers) as folder:
        for file in sorted(source.iterdir()):
            if file.suffix == ".dcm":
                header = _header(file)
                header.save_as(folder / file.name, enforce_file_format=True)
            elif file.name != SUMS_NAME:
                shutil.copyfile(file, folder / file.name)


def kept_headers(key: ArtifactKey, store: ArtifactStore) -> bool:
    """Keep the headers of an artifact that has some; return False where it has to stay."""
    if key.step != CONVERTED or not store.path(key).is_dir():
        return True
    try:
        keep_headers(key, store)
    except (ArtifactDamagedError, OSError) as err:
        # One that cannot be read does not keep others from going.
        why = err.strerror if isinstance(err, OSError) else err
        log.warning("%s stays: %s", key, why)
        return False
    return True


def _header(file: Path) -> Dataset:
    try:
        return dcmread(file, stop_before_pixels=True)
    except UNREADABLE as err:
        if isinstance(err, OSError) and err.errno is not None:
            raise
        raise ArtifactDamagedError("The converted slide is no readable DICOM.") from err


def headers_of(key: ArtifactKey) -> ArtifactKey:
    """Return the key of the headers of a converted slide."""
    return ArtifactKey(HEADERS, key.digest)


def is_retired(key: ArtifactKey, store: ArtifactStore) -> bool:
    """Return whether retention removed a converted slide; its headers are there."""
    return (
        key.step == CONVERTED
        and not store.path(key).is_dir()
        and store.path(headers_of(key)).is_dir()
    )


def slide_entry(file: Path, root: Path) -> ObjectFile:
    """Return the entry of a converted slide's file in the index of a case's objects.

    A header stands for the file that was sent: its entry names that file.
    """
    entry = index_entry("WSM", file, root)
    step, _, rest = entry.path.partition("/")
    return replace(entry, path=f"{CONVERTED}/{rest}") if step == HEADERS else entry
