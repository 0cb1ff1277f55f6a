"""Identity of a slide, and the metadata and UIDs that its VL WSM instances get from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID

from dicom import codes
from dicom.characters import CHARACTER_SET
from dicom.errors import ObjectError
from dicom.study import LO_LENGTH, SH_LENGTH, StudyFacts, check_length
from dicom.times import in_zone, zone_at
from dicom.uids import deterministic_uid

PASSED_THROUGH = "tiles passed through"
ENCODED_AGAIN = "decoded and encoded again"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideIdentity:
    """Identity of a slide.

    `stain` is ``HE`` or the code of an immunostain. `accession` has at most 16 characters (SH).
    `specimen_id` is that of the block by the laboratory's order; empty: accession and block.
    `fingerprint` is the hash of the slide's bytes. `scanned` is the time of scanning, and the start
    of the study if `study` has none.

    Raises
    ------
    ObjectError
        If a value does not fit its DICOM attribute.
    """

    accession: str
    block: str
    stain: str
    container_id: str
    study: StudyFacts
    fingerprint: str
    scanned: datetime
    specimen_id: str = ""

    def __post_init__(self) -> None:
        check_length("accession number", self.accession, SH_LENGTH)
        check_length("container identifier", self.container_id, LO_LENGTH)
        check_length("specimen identifier", self.specimen_id, LO_LENGTH)
        if not self.stain:
            raise ObjectError("a slide without a stain cannot be described")

    @property
    def started(self) -> datetime:
        """Start of the study."""
        return self.study.started or self.scanned

    @property
    def zone(self) -> str:
        """Timezone Offset From UTC of all times of the slide: that of the study's start.

        Empty where the header that the study comes from states none.
        """
        return self.study.zone or zone_at(self.started)


def slide_metadata(identity: SlideIdentity, mpp: float, uids: SlideUids) -> Any:
    """Return the metadata of all instances of a slide for wsidicomizer; `mpp` µm per level-0 px."""
    from wsidicom.geometry import SizeMm
    from wsidicom.metadata import (
        Image,
        Overview,
        Patient,
        PatientSex,
        Pyramid,
        Series,
        Study,
    )
    from wsidicomizer.metadata import WsiDicomizerMetadata

    study, started = identity.study, in_zone(identity.started, identity.zone)
    return WsiDicomizerMetadata(
        study=Study(
            uid=UID(study.uid),
            identifier=study.study_id or identity.accession,
            date=started.date(),
            time=started.time(),
            accession_number=identity.accession,
            referring_physician_name=study.referring_physician or None,
        ),
        series=Series(
            uid=uids.of("series"),
            number=1 if identity.stain == "HE" else 2,
            description=f"{identity.stain} {identity.block}",
        ),
        patient=Patient(
            name=study.patient_name or None,
            identifier=study.patient_id or None,
            birth_date=study.patient_birth_date,
            sex=PatientSex[study.patient_sex] if study.patient_sex else None,
        ),
        slide=_slide(identity, uids),
        pyramid=Pyramid(
            Image(pixel_spacing=SizeMm(mpp / 1000, mpp / 1000)), [], uid=uids.of("pyramid")
        ),
        overview=Overview(Image(), [], contains_phi=True),  # it shows the label
        frame_of_reference_uid=uids.of("frame of reference"),
        dimension_organization_uids=[uids.of("dimension organization")],
    )


def _slide(identity: SlideIdentity, uids: SlideUids) -> Any:
    """Container, staining and specimen: a section of the block."""
    from wsidicom.conceptcode import (
        AnatomicPathologySpecimenTypesCode,
        SpecimenSamplingProcedureCode,
        SpecimenStainsCode,
    )
    from wsidicom.metadata import Slide
    from wsidicom.metadata.sample import SlideSample, Specimen, Staining

    block = Specimen(
        identifier=identity.specimen_id or f"{identity.accession}-{identity.block}",
        type=AnatomicPathologySpecimenTypesCode("Tissue section"),
    )
    substances: Any = f"{identity.stain} immunohistochemistry"
    if identity.stain == "HE":
        substances = [
            SpecimenStainsCode.from_code(codes.HEMATOXYLIN),
            SpecimenStainsCode.from_code(codes.EOSIN),
        ]
    sample = SlideSample(
        identifier=identity.container_id,
        sampled_from=block.sample(method=SpecimenSamplingProcedureCode("Block sectioning")),
        uid=uids.of("specimen"),
        short_description=f"Block {identity.block}, {identity.stain}",
    )
    return Slide(
        identifier=identity.container_id,
        stainings=[Staining(substances=substances)],
        samples=[sample],
    )


class SlideUids:
    """UIDs of a slide from everything that determines the bytes: equal UIDs mean equal bytes.

    That includes the way of conversion and the versions of the encoding libraries. `own_frames`:
    frames are those of `dicom.coded_frames`. `whole`: the file states bounds, and the instances are
    not cropped to them, as those of former editions were.
    """

    def __init__(
        self,
        identity: SlideIdentity,
        mpp: float,
        how: str,
        *,
        own_frames: bool = False,
        whole: bool = False,
    ) -> None:
        self.how = how
        libraries = ["wsidicomizer", "wsidicom", "opentile", "pydicom"]
        if how == ENCODED_AGAIN or own_frames:
            libraries += ["openslide-bin", "pillow", "imagecodecs"]
        study = replace(identity.study, started=in_utc(identity.started))
        self._parts = (
            *(str(value) for value in study.stated().values()),
            identity.fingerprint,
            identity.accession,
            identity.block,
            identity.stain,
            identity.container_id,
            in_utc(identity.scanned).isoformat(),
            repr(mpp),
            how,
            CHARACTER_SET,
            *((identity.specimen_id,) if identity.specimen_id else ()),
            f"zone {identity.zone}",
            "input profile",
            "on the glass",
            *(("own frames",) if own_frames else ()),
            *(("derived",) if how == ENCODED_AGAIN else ()),
            *(("whole",) if whole else ()),
            *(f"{name} {version(name)}" for name in libraries),
        )

    def of(self, role: str, *more: str) -> UID:
        """Return the UID of a role: series, specimen, pyramid, …"""
        return UID(deterministic_uid(role, *self._parts, *more))


def uid_generator(uids: SlideUids, made: Collection[tuple[int, int]] = ()) -> Any:
    """Return wsidicom's generator of the instances' UIDs.

    `made` are the sizes (columns, rows) of levels that the file does not hold. Former editions made
    them of other px.
    """
    from wsidicom.metadata import CallableUidGenerator

    class Generator(CallableUidGenerator):
        """Generator of UIDs from flavor and size, which differ between levels."""

        def sop_uid(self, dataset: Dataset) -> UID:
            flavor = dataset.ImageType[2]
            columns, rows = dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows
            is_made = flavor == "VOLUME" and (columns, rows) in made
            return uids.of(f"{flavor} {columns} x {rows}", *(("made",) if is_made else ()))

    count = iter(range(1_000_000))
    return Generator(lambda: uids.of(f"other {next(count)}"))


def in_utc(time: datetime) -> datetime:
    """Convert to UTC; times without a zone stay as they are."""
    return time.astimezone(UTC) if time.tzinfo is not None else time
