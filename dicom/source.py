"""Slides as DICOM: convert what scanners wrote to VL Whole Slide Microscopy, and read headers.

Conversion is deterministic: equal slides and identities make equal bytes under equal UIDs.
"""

from __future__ import annotations

import ctypes.util
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from dicom import codes
from dicom.errors import SourceError
from dicom.uids import deterministic_uid

log = logging.getLogger(__name__)

WSM_STORAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
TILE_PX = 512
"""Edge of the tiles where they have to be made anew."""
HEAD_BYTES = 8192
"""Content date and time lie in the first few hundred bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideIdentity:
    """Whose slide it is. `stain` is ``HE`` or ``HER2``; `accession` at most 16 characters (SH);
    `fingerprint` the hash of the slide's bytes; `scanned` becomes date and time of the study."""

    accession: str
    block: str
    stain: str
    container_id: str
    study_uid: str
    fingerprint: str
    scanned: datetime
    patient_id: str = ""
    patient_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WsmInstances:
    """The files of a converted slide, and `how` they came about (for log and event)."""

    paths: tuple[Path, ...]
    how: str


def convert_slide(
    path: Path, out_dir: Path, identity: SlideIdentity, *, mpp: float
) -> WsmInstances:
    """Write the slide's levels as VL WSM instances into `out_dir`; no label, no macro image.

    SVS tiles pass through untouched where libturbojpeg is there; else, and for other formats, the
    pixels are decoded by OpenSlide and encoded again (slower, and said in `how`). `mpp` is in
    µm per level-0 px.

    Raises
    ------
    SourceError
        If neither way works.
    """
    if ctypes.util.find_library("turbojpeg") is not None:
        try:
            return _convert(path, out_dir, identity, mpp, passthrough=True)
        except Exception as err:  # noqa: BLE001  the library raises anything at odd slides
            why = type(err).__name__
            log.warning("tiles cannot pass through (%s); converting the slower way", why)
            for left in out_dir.glob("*.dcm"):
                left.unlink()
    try:
        return _convert(path, out_dir, identity, mpp, passthrough=False)
    except (ValueError, OSError, KeyError, RuntimeError) as err:
        raise SourceError(
            f"the slide cannot be converted to DICOM ({err}). Export DICOM on the scanner, or "
            "report the slide's format."
        ) from err


def _convert(
    path: Path, out_dir: Path, identity: SlideIdentity, mpp: float, *, passthrough: bool
) -> WsmInstances:
    from wsidicomizer.wsidicomizer import SourceIdentifier, WsiDicomizer

    out_dir.mkdir(parents=True, exist_ok=True)
    written = WsiDicomizer.convert(
        path,
        out_dir,
        metadata=_metadata(identity, mpp),
        tile_size=TILE_PX,
        uid_generator=_uids(identity),
        include_label=False,
        include_overview=False,
        include_thumbnail=False,
        include_confidential=False,
        metadata_post_processor=lambda dataset, _metadata: _acquired(dataset, identity.scanned),
        workers=1,
        preferred_source=None if passthrough else SourceIdentifier.OPENSLIDE,
    )
    for file in written:
        _set_content_time(Path(file), identity.scanned)
    how = "tiles passed through" if passthrough else "decoded and encoded again"
    return WsmInstances(paths=tuple(sorted(Path(file) for file in written)), how=how)


def _metadata(identity: SlideIdentity, mpp: float) -> Any:
    from wsidicom.conceptcode import (
        AnatomicPathologySpecimenTypesCode,
        SpecimenSamplingProcedureCode,
        SpecimenStainsCode,
    )
    from wsidicom.geometry import SizeMm
    from wsidicom.metadata import Image, Patient, Pyramid, Series, Slide, Study
    from wsidicom.metadata.sample import SlideSample, Specimen, Staining
    from wsidicomizer.metadata import WsiDicomizerMetadata

    block = Specimen(
        identifier=f"{identity.accession}-{identity.block}",
        type=AnatomicPathologySpecimenTypesCode("Tissue section"),
    )
    substances: Any = f"{identity.stain} immunohistochemistry"
    if identity.stain == "HE":
        substances = [
            SpecimenStainsCode.from_code(codes.HAEMATOXYLIN),
            SpecimenStainsCode.from_code(codes.EOSIN),
        ]
    sample = SlideSample(
        identifier=identity.container_id,
        sampled_from=block.sample(method=SpecimenSamplingProcedureCode("Block sectioning")),
        uid=_uid(identity, "specimen"),
        short_description=f"Block {identity.block}, {identity.stain}",
    )
    return WsiDicomizerMetadata(
        study=Study(
            uid=_as_uid(identity.study_uid),
            identifier=identity.accession,
            date=identity.scanned.date(),
            time=identity.scanned.time(),
            accession_number=identity.accession,
        ),
        series=Series(
            uid=_uid(identity, "series"),
            number=1 if identity.stain == "HE" else 2,
            description=f"{identity.stain} {identity.block}",
        ),
        patient=Patient(name=identity.patient_name or None, identifier=identity.patient_id or None),
        slide=Slide(
            identifier=identity.container_id,
            stainings=[Staining(substances=substances)],
            samples=[sample],
        ),
        pyramid=Pyramid(
            Image(pixel_spacing=SizeMm(mpp / 1000, mpp / 1000)), [], uid=_uid(identity, "pyramid")
        ),
        frame_of_reference_uid=_uid(identity, "frame of reference"),
        dimension_organization_uids=[_uid(identity, "dimension organization")],
    )


def _as_uid(value: str) -> Any:
    from pydicom.uid import UID

    return UID(value)


def _uid(identity: SlideIdentity, role: str) -> Any:
    """Of everything that goes into the bytes, so that equal UIDs mean equal bytes."""
    return _as_uid(
        deterministic_uid(
            role,
            identity.study_uid,
            identity.fingerprint,
            identity.accession,
            identity.block,
            identity.stain,
            identity.container_id,
            identity.patient_id,
            identity.patient_name,
            identity.scanned.isoformat(),
        )
    )


def _uids(identity: SlideIdentity) -> Any:
    from wsidicom.metadata import CallableUidGenerator

    class Uids(CallableUidGenerator):
        """Instances are told apart by their size: no two levels have the same."""

        def sop_uid(self, dataset: Dataset) -> Any:
            columns = dataset.TotalPixelMatrixColumns
            return _uid(identity, f"instance {columns} x {dataset.TotalPixelMatrixRows}")

    count = iter(range(1_000_000))
    return Uids(lambda: _uid(identity, f"other {next(count)}"))


def _acquired(dataset: Dataset, scanned: datetime) -> Dataset:
    dataset.AcquisitionDateTime = scanned.strftime("%Y%m%d%H%M%S+0000")
    for path in dataset.get("OpticalPathSequence", []):
        profile = path.get("ICCProfile")
        if profile:
            # A profile made on the fly is dated too: ICC.1 7.2.8, bytes 24 to 35 of its header.
            date = struct.pack(">6H", *scanned.timetuple()[:6])
            path.ICCProfile = profile[:24] + date + profile[36:]
    return dataset


def _set_content_time(path: Path, scanned: datetime) -> None:
    """Put the time of scanning where the library wrote the time of conversion.

    In place, at the same length: rewriting the file would read all of its pixels into memory.
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


def read_headers(paths: Sequence[Path]) -> list[Dataset]:
    """Headers (no pixels) of a slide's VOLUME images, level 0 first.

    Raises
    ------
    SourceError
        If none of the files is a VL WSM volume image.
    """
    found = []
    for path in paths:
        try:
            header = dcmread(path, stop_before_pixels=True)
        except (InvalidDicomError, OSError, EOFError, ValueError, struct.error) as err:
            raise SourceError(f"{path.name}: not a readable DICOM file ({err})") from err
        if header.get("SOPClassUID") == WSM_STORAGE and "VOLUME" in header.get("ImageType", []):
            found.append(header)
    if not found:
        raise SourceError("none of the files is a whole slide volume image; export the slide again")
    return sorted(found, key=lambda h: -int(h.TotalPixelMatrixColumns))
