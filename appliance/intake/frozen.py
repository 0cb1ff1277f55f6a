"""Source of a slide, frozen when it is learnt: scan time and DICOM headers.

Scanners' folders are cleared, and a correction or a rerun may come after that.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import SlideFacts
from appliance.slides.files import slide_files
from dicom.header import read_headers

SCANNED_NAME = "scanned.txt"


def freeze_source(facts: SlideFacts, store: ArtifactStore) -> tuple[datetime, list[Path]]:
    """Time of the scan (UTC), and files of the headers where the slide is DICOM.

    The artifact is made the first time; later calls do not open the slide.

    Raises
    ------
    dicom.errors.DicomError
        If the headers of a DICOM slide cannot be read.
    OSError
        If the slide is gone and was not frozen.
    ValueError
        If the fingerprint is empty: all such slides would share one source.
    """
    if not facts.fingerprint:
        raise ValueError("a slide without a fingerprint has no source of its own")
    key = ArtifactKey.of("source", slide=facts.fingerprint)
    if not store.exists(key):
        path = Path(facts.path)
        with store.writing(key) as folder:
            # Time of the file: the dates of headers have no time zone.
            (folder / SCANNED_NAME).write_text(str(int(path.stat().st_mtime)))
            headers = read_headers(slide_files(path)) if facts.is_dicom else []
            for number, header in enumerate(headers):
                header.save_as(folder / f"{number:02d}.dcm", enforce_file_format=True)
    folder = store.path(key)
    scanned = datetime.fromtimestamp(int((folder / SCANNED_NAME).read_text()), tz=UTC)
    return scanned, sorted(folder.glob("*.dcm"))
