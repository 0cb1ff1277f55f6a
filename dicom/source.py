"""Conversion of slides to VL Whole Slide Microscopy.

Conversion is deterministic: equal slides and identities give equal bytes under equal UIDs.
"""

from __future__ import annotations

import errno
import logging
import struct
import warnings
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom.config
from pydicom import Dataset

from dicom.characters import CHARACTER_SET
from dicom.concatenation import split_instance
from dicom.dyadic import is_taken, made_sizes
from dicom.errors import ObjectError, SourceError
from dicom.header import DicomSlideFacts, read_headers, slide_facts
from dicom.pyramid_source import (
    Pyramid,
    anew,
    coding_of,
    encoding_source,
    on_glass,
    passing_source,
)
from dicom.slide_metadata import (
    ENCODED_AGAIN,
    PASSED_THROUGH,
    SlideIdentity,
    SlideUids,
    in_utc,
    slide_metadata,
    uid_generator,
)
from dicom.times import in_zone

__all__ = [
    "ENCODED_AGAIN",
    "PASSED_THROUGH",
    "DicomSlideFacts",
    "SlideIdentity",
    "WsmInstances",
    "convert_slide",
    "read_headers",
    "slide_facts",
]

log = logging.getLogger(__name__)

TILE_PX = 512
"""Edge of re-encoded tiles."""
HEAD_BYTES = 8192
"""Bytes of a file's start that hold content date and time; these lie in the first few hundred."""
DISK_TROUBLE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES),  # where we write
        *(errno.ENOENT, errno.ESTALE, errno.EIO),  # the scanner's share went away
    }
)
"""Errors of the installation, not of the slide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WsmInstances:
    """Files of a converted slide; `how` names the way of conversion, for log and event."""

    paths: tuple[Path, ...]
    how: str


def convert_slide(
    path: Path,
    out_dir: Path,
    identity: SlideIdentity,
    *,
    mpp: float,
    with_label: bool = False,
    workers: int = 1,
    pyramid: Pyramid | None = None,
    max_bytes: int = 0,
) -> WsmInstances:
    """Write the slide's levels as VL WSM instances into `out_dir`.

    `with_label`: also write the photographs of the label, and of the whole slide with it. They show
    the printed text (PHI).

    Tiles become frames as they are: those that `pyramid` has by `passing_source`, those of other
    formats (NDPI, Philips) by the converter's reader, if libturbojpeg is installed. Else the pixels
    are decoded and encoded again (slower; `how` and the objects say so). The ways give different
    bytes and so different UIDs. `mpp` is in µm per level-0 px; `workers` threads encode.

    Raises
    ------
    SourceError
        If no way works.
    OSError
        If `out_dir` cannot be written or is full, or the slide's disk is gone: not the slide's
        fault.
    """
    path.stat()  # OSError: a missing slide is not a bad slide
    before = set(out_dir.glob("*")) if out_dir.is_dir() else set()
    failures = _failures()

    def convert(how: str) -> WsmInstances:
        made = _convert(path, out_dir, identity, mpp, with_label, how, workers, pyramid)
        if not max_bytes:
            return made
        parts = [part for file in made.paths for part in split_instance(file, max_bytes)]
        return replace(made, paths=tuple(sorted(parts)))

    try:
        if pyramid is None or pyramid.coded or not (pyramid.own or pyramid.bounded):
            return convert(PASSED_THROUGH)
    except failures as err:
        _raise_disk_trouble(err)
        why = str(err) if isinstance(err, SourceError) else type(err).__name__
        log.info("tiles cannot pass through (%s); converting the slower way", why)
        for left in set(out_dir.glob("*")) - before:
            left.unlink()
    try:
        return convert(ENCODED_AGAIN)
    except failures as err:
        _raise_disk_trouble(err)
        # Messages of the libraries name the file, and file names hold the accession (PHI).
        raise SourceError(
            f"the slide cannot be converted to DICOM ({type(err).__name__}). Export DICOM on the "
            "scanner, or report the slide's format."
        ) from err


def _failures() -> tuple[type[Exception], ...]:
    """Exceptions of the libraries for slides that they cannot convert; these have no common
    base."""
    import openslide

    with warnings.catch_warnings():
        # dicomweb-client, a dependency of wsidicom, imports a function deprecated in pydicom 4.
        warnings.filterwarnings("ignore", "get_frame_offsets is deprecated", DeprecationWarning)
        from wsidicom import errors

    # opentile ships no types.
    from opentile.formats.svs.svs_image import (  # type: ignore[import-untyped]
        NonSupportedCompressionException,
    )
    from opentile.jpeg.jpeg import (  # type: ignore[import-untyped]
        JpegCropError,
        JpegTagNotFound,
    )

    own = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    return (
        *own,
        SourceError,  # a tile that cannot be a frame as it is
        ObjectError,  # frames that cannot be shared out
        openslide.OpenSlideError,
        NonSupportedCompressionException,
        JpegCropError,
        JpegTagNotFound,
        ArithmeticError,
        AttributeError,
        ImportError,  # no libturbojpeg
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        struct.error,
    )


def _raise_disk_trouble(err: Exception) -> None:
    if isinstance(err, OSError) and err.errno in DISK_TROUBLE:
        raise err


def _convert(
    path: Path,
    out_dir: Path,
    identity: SlideIdentity,
    mpp: float,
    with_label: bool,
    how: str,
    workers: int,
    pyramid: Pyramid | None,
) -> WsmInstances:
    strict = pydicom.config.enforce_valid_values
    from wsidicomizer.wsidicomizer import WsiDicomizer

    # The import makes pydicom raise for what it reads, in all of the process: a text of 16
    # characters that is padded to even length counts as too long there.
    pydicom.config.enforce_valid_values = strict
    out_dir.mkdir(parents=True, exist_ok=True)
    scanned = in_utc(identity.scanned)
    source, encoding = _source(pyramid, mpp, how)
    whole = pyramid is not None and pyramid.bounded
    uids = SlideUids(identity, mpp, how, own_frames=encoding is not None, whole=whole)
    made = frozenset() if pyramid is None else made_sizes(pyramid.levels)
    written = WsiDicomizer.convert(
        path,
        out_dir,
        metadata=slide_metadata(identity, mpp, uids),
        tile_size=TILE_PX,
        uid_generator=uid_generator(uids, made),
        include_label=with_label,
        include_overview=with_label,
        include_thumbnail=False,
        include_confidential=False,
        metadata_post_processor=lambda dataset, _metadata: _acquired(dataset, identity, scanned),
        workers=workers,
        preferred_source=on_glass(source),
        encoding=encoding,
    )
    for file in written:
        _set_content_time(Path(file), in_zone(identity.scanned, identity.zone))
    return WsmInstances(paths=tuple(sorted(Path(file) for file in written)), how=uids.how)


def _source(pyramid: Pyramid | None, mpp: float, how: str) -> tuple[Any, Any]:
    """Return the converter's source, and its coding where the frames are those of `pyramid`.

    The converter's own choice may be a reader that encodes again without saying so.
    """
    from wsidicomizer.sources import OpenTileSource

    if how == PASSED_THROUGH:
        if pyramid is None or not pyramid.coded:
            return OpenTileSource, None
        return passing_source(pyramid, mpp), coding_of(pyramid)
    if pyramid is not None and (
        pyramid.own or pyramid.coded or pyramid.bounded or not is_taken(pyramid.levels)
    ):
        return encoding_source(pyramid, mpp), None
    from wsidicomizer.extras.openslide.openslide_source import OpenSlideSource

    return anew(OpenSlideSource), None


def _acquired(dataset: Dataset, identity: SlideIdentity, scanned: datetime) -> Dataset:
    dataset.SpecificCharacterSet = CHARACTER_SET
    dataset.update(identity.study.further_attributes())
    acquired = in_zone(scanned, identity.zone)
    dataset.AcquisitionDateTime = acquired.strftime("%Y%m%d%H%M%S%z")
    if identity.zone:
        dataset.TimezoneOffsetFromUTC = identity.zone
    for path in dataset.get("OpticalPathSequence", []):
        if profile := path.get("ICCProfile"):
            path.ICCProfile = input_profile(profile, scanned)
    return dataset


def input_profile(profile: bytes, made: datetime) -> bytes:
    """Return a color profile as the profile of an input device (PS3.3 C.11.15.1.1) made at a time.

    The converter writes sRGB as the profile of a display, with the time of conversion. A display's
    profile has all tags that an input device's must have, and the same transform (ICC.1:2022 8.3,
    8.4). The header states class (bytes 12 to 15), date (24 to 35) and a checksum (84 to 99),
    which is zero where it was not computed.
    """
    kind = b"scnr" if profile[12:16] == b"mntr" else profile[12:16]
    date = struct.pack(">6H", *made.timetuple()[:6])
    return profile[:12] + kind + profile[16:24] + date + profile[36:84] + bytes(16) + profile[100:]


def _set_content_time(path: Path, scanned: datetime) -> None:
    """Replace the time of conversion, which the library wrote, by the time of scanning.

    In place and at the same length: rewriting the file would read all of its pixels into memory.
    """
    with path.open("r+b") as stream:
        head = stream.read(HEAD_BYTES)
        for tag, vr, value in (
            (b"\x08\x00\x23\x00", b"DA", scanned.strftime("%Y%m%d")),
            (b"\x08\x00\x33\x00", b"TM", scanned.strftime("%H%M%S.%f")),
        ):
            at = head.find(tag + vr)
            length = int.from_bytes(head[at + 6 : at + 8], "little")
            if at < 0 or length < len(value):
                raise SourceError(f"{path.name}: no place for the time of scanning")
            stream.seek(at + 8)
            stream.write(value.ljust(length).encode("ascii"))
