"""Slides of a listed folder: single files, MRXS with their folder, DICOM series."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.intake.completeness import Signature
from appliance.intake.listing import Folder, ListedFile
from appliance.intake.path_names import name_of, suffix_of
from appliance.intake.series import Part, Specimen, has_base, is_beside, specimen_of
from appliance.slides.dicom_header import header_of
from appliance.slides.files import SLIDE_SUFFIXES, data_of_mrxs, may_be_dicom, modified_ns


@dataclass(frozen=True, slots=True)
class FoundSlide:
    """A slide as its files lie in the folder; `path` is the file that stands for it.

    `series` is a DICOM slide's; empty for others. `has_base`: level 0 of the series is there.
    `is_beside`: the series holds a label or overview alone, maybe of another one of its `specimen`.
    `unreadable` is the folder of an MRXS slide whose files cannot be looked at; they are left out.
    """

    path: str
    files: tuple[ListedFile, ...]
    series: str = ""
    has_base: bool = True
    unreadable: str = ""
    is_beside: bool = False
    specimen: Specimen = ("", "")

    @property
    def signature(self) -> Signature:
        """Size and time over all files."""
        return Signature(
            sum(file.size_bytes for file in self.files),
            max(file.modified_ns for file in self.files),
        )


def slides_in(folder: Folder, known: Container[str]) -> Iterator[FoundSlide]:
    """Yield the slides of a folder.

    The first file of a DICOM series stands for it, or the first that is `known` as a slide: files
    that come later do not make it another slide.
    """
    series: dict[str, list[tuple[ListedFile, Part]]] = defaultdict(list)
    for file in folder.files:
        name = name_of(file.path)
        if may_be_dicom(name):
            header = _header(file)
            if header is not None and header.series_uid:
                series[header.series_uid].append((file, header))
            elif header is not None or suffix_of(name) in SLIDE_SUFFIXES:
                yield FoundSlide(file.path, (file,))
        elif suffix_of(name) == ".mrxs":
            yield _mrxs(file)
        else:
            yield FoundSlide(file.path, (file,))
    for uid, parts in series.items():
        files = tuple(file for file, _ in parts)
        path = next((file.path for file in files if file.path in known), files[0].path)
        headers = [header for _, header in parts]
        yield _of_series(path, files, uid, headers)


def found_again(slide: FoundSlide) -> FoundSlide | None:
    """Return a slide with the sizes and times that its files have now; None where one has gone.

    Raises
    ------
    OSError
        If a file cannot be looked at for another reason.
    """
    try:
        if suffix_of(slide.path) == ".mrxs":
            return _mrxs(_listed(slide.path))
        files = [_listed(file.path) for file in slide.files]
    except FileNotFoundError:
        return None
    if slide.series:
        headers = [_header(file) for file in files]
        return _of_series(slide.path, tuple(files), slide.series, headers)
    return replace(slide, files=tuple(files))


def _of_series(
    path: str, files: tuple[ListedFile, ...], uid: str, headers: Sequence[Part]
) -> FoundSlide:
    return FoundSlide(
        path,
        files,
        uid,
        has_base(headers),
        is_beside=is_beside(headers),
        specimen=specimen_of(headers),
    )


def former_signature(slide: FoundSlide) -> Signature | None:
    """Return the signature that former editions kept of an MRXS slide; None of others.

    They counted what servers leave in its folder, too.
    """
    if suffix_of(slide.path) != ".mrxs":
        return None
    try:
        files = (slide.files[0], *_data_of_mrxs(slide.path, junk=True))
    except OSError:
        return None
    return replace(slide, files=files).signature


def found_file(path: str) -> FoundSlide | None:
    """Return the slide of a single file; None where it is no regular file."""
    if not os.path.isfile(path):  # noqa: PTH113  paths are text here
        return None
    return FoundSlide(path, (_listed(path),))


def _listed(path: str) -> ListedFile:
    facts = os.stat(path)  # noqa: PTH116  paths are text here
    return ListedFile(path, facts.st_size, modified_ns(facts))


def _header(file: ListedFile) -> Part:
    try:
        return header_of(*file)
    except OSError:
        return None


def _mrxs(file: ListedFile) -> FoundSlide:
    """Return an MRXS slide; without its data where a right, the share or the folder lacks."""
    try:
        return FoundSlide(file.path, (file, *_data_of_mrxs(file.path)))
    except OSError:
        return FoundSlide(file.path, (file,), unreadable=str(Path(file.path).with_suffix("")))


def _data_of_mrxs(path: str, *, junk: bool = False) -> list[ListedFile]:
    return [_listed(str(file)) for file in data_of_mrxs(Path(path), junk=junk)]
