"""Parts of a DICOM whole slide: whether a series has level 0, and all its frames.

A pyramid is one series of several instances (PS3.3 A.32.8). Exports write them in any order, over a
long time, and in several files where a level is large (concatenations, PS3.3 C.7.6.16.2.2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from appliance.slides.dicom_header import WHOLE_SLIDE, DicomHeader, header_of

Part = DicomHeader | None
"""Header of a file of a series; None for a file that is no DICOM file."""

Specimen: TypeAlias = tuple[str, str]
"""Study and Container Identifier (PS3.3 C.7.6.22), both empty where a slide does not name them."""


def part_of(path: Path) -> Part:
    """Header of a file; raises OSError where it cannot be read."""
    facts = path.stat()
    return header_of(path, facts.st_size, facts.st_mtime_ns)


def has_base(parts: Iterable[Part]) -> bool:
    """Return whether a series holds level 0, or is no pyramid of which level 0 can be missed.

    Coarser levels are RESAMPLED by ImageType value 4 (PS3.3 C.8.12.4.1.1). A file without ImageType
    tells nothing: identify names what it lacks.
    """
    slides = [part for part in parts if part is not None and part.class_uid == WHOLE_SLIDE]
    if not slides or any(not part.image_type for part in slides):
        return True
    return any(part.is_base for part in slides)


def is_beside(parts: Iterable[Part]) -> bool:
    """Return whether a series holds nothing but label, overview or thumbnail of a slide."""
    slides = [part for part in parts if part is not None and part.class_uid == WHOLE_SLIDE]
    return bool(slides) and all(len(p.image_type) > 2 and not p.is_volume for p in slides)


def specimen_of(parts: Iterable[Part]) -> Specimen:
    """Return the specimen that all parts of a series name; empty where one names none."""
    named = {(part.study_uid, part.container) for part in parts if part is not None}
    found = named.pop() if len(named) == 1 else ("", "")
    return found if all(found) else ("", "")


def series_is_whole(parts: Sequence[Part]) -> bool:
    """Return whether a series has level 0, and each of its levels all parts and frames."""
    if any(part is None for part in parts) or not has_base(parts):
        return False
    levels: dict[tuple[int, int], list[DicomHeader]] = defaultdict(list)
    for part in parts:
        if part is not None and part.is_volume:
            levels[part.matrix_columns, part.matrix_rows].append(part)
    return all(_level_is_whole(level) for level in levels.values())


def _level_is_whole(level: Sequence[DicomHeader]) -> bool:
    concatenations: dict[str, list[DicomHeader]] = defaultdict(list)
    for part in level:
        concatenations[part.concatenation_uid].append(part)
    alone = concatenations.pop("", [])
    return all(_has_all_frames([part]) for part in alone) and all(
        _has_all_parts(parts) and _has_all_frames(parts) for parts in concatenations.values()
    )


def _has_all_parts(parts: Sequence[DicomHeader]) -> bool:
    """Return whether a concatenation is complete; its number of parts need not be stated."""
    total = max(part.parts for part in parts)
    return total == 0 or {part.part for part in parts} >= set(range(1, min(total, 65536) + 1))


def _has_all_frames(parts: Sequence[DicomHeader]) -> bool:
    """Return whether the frames of a TILED_FULL image cover its matrix.

    Frames follow each other by focal plane and optical path (PS3.3 C.7.6.17.3).
    """
    first = parts[0]
    if first.organization != "TILED_FULL" or not (first.columns and first.rows):
        return True
    tiles = -(-first.matrix_columns // first.columns) * -(-first.matrix_rows // first.rows)
    planes = max(1, first.focal_planes) * max(1, first.optical_paths)
    return sum(part.frames for part in parts) >= tiles * planes
