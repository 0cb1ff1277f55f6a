"""Structured report of a case: Comprehensive 3D SR, template TID 1500 (PS3.16)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom import codes
from dicom.characters import CHARACTER_SET
from dicom.derived import MANUFACTURER, SERIAL, stamp
from dicom.errors import ObjectError
from dicom.placement import slide_mpp
from dicom.segmentation import AlgorithmFacts
from dicom.times import in_zone
from dicom.uids import deterministic_uid, named_by_bytes

SERIES_NUMBER = 200
DEVICE_NAME = "Tandem HER2"
NOT_STATED = "not stated"
"""Organization of a person where nothing is known of it."""
NOTICE = "For research use only. Not for diagnostic use."


Measured = tuple[Code, float, Code]
"""Name, value and unit (UCUM)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiFacts:
    """Region that decided the score.

    `outline_um` is (N, 2), (x, y) in µm of the target slide from its top left corner.
    """

    outline_um: NDArray[np.float64]
    measurements: Sequence[Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionFacts:
    """Score of a person in place of the appliance's.

    `by` is a DICOM person name, `why` the reason, `was` the score that the appliance had given.
    """

    by: str
    why: str
    was: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierFacts:
    """Person who stands for the report: a DICOM person name, their organization, and when.

    The organization is empty where it is not stated.
    """

    by: str
    organization: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """Content of the report.

    Attributes
    ----------
    accession
        Accession that was identified; empty: the report answers no request.
    title
        Target of the score, such as ``HER2``.
    said
        Score as printed; None where there was nothing to score.
    score_name, score
        Coded name of the score, and its coded value.
    category
        Meaning of the score by the guideline; empty where it states none.
    measurements, evaluations, texts
        (name, value, unit), (name, value) and (name, text) of the case, in the order of writing.
    verifiers
        People who stand for the report; without one it is UNVERIFIED.
    """

    accession: str
    block: str
    title: str
    said: str | None
    score_name: Code
    score: Code
    category: str
    measurements: Sequence[Measured]
    evaluations: Sequence[tuple[Code, Code]]
    texts: Sequence[tuple[Code, str]]
    algorithms: Sequence[AlgorithmFacts]
    rois: Sequence[RoiFacts]
    correction: CorrectionFacts | None = None
    verifiers: Sequence[VerifierFacts] = ()


def build_report(
    facts: ReportFacts,
    *,
    he_images: Sequence[Dataset],
    ihc_images: Sequence[Dataset],
    segmentations: Sequence[Dataset],
    created: datetime,
    uid_seed: str,
    software: str,
    predecessors: Sequence[Dataset] = (),
) -> Dataset:
    """Build the report: complete, PRELIMINARY and UNVERIFIED until a person stands for it.

    The report belongs to the study of the target slide (`ihc_images`). It refers to both slides,
    their segmentations, and the reports (`predecessors`) that it replaces. Equal arguments give
    equal bytes.

    Raises
    ------
    ObjectError
        If an outline is not a polygon of shape (N >= 3, 2).
    """
    _check(facts)
    from highdicom import sr

    groups = [_whole_slide(sr, facts, ihc_images[0], uid_seed, software)]
    groups += [
        _roi(sr, facts, roi, number, ihc_images[0], uid_seed, software)
        for number, roi in enumerate(facts.rois, start=1)
    ]
    report = sr.MeasurementReport(
        observation_context=_context(sr, facts, ihc_images[0], software),
        procedure_reported=facts.score_name,
        imaging_measurements=groups,
        referenced_images=[ihc_images[0], *he_images[:1], *segmentations],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dataset = sr.Comprehensive3DSR(
            # highdicom copies patient and study from the first image.
            evidence=[*ihc_images, *he_images, *segmentations],
            content=report,
            series_instance_uid=deterministic_uid(uid_seed, "series"),
            series_number=SERIES_NUMBER,
            sop_instance_uid=deterministic_uid(uid_seed, "instance"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            is_complete=True,
            is_final=False,
            is_verified=False,
            specific_character_set=CHARACTER_SET,
            previous_versions=predecessors or None,
            requested_procedures=_requests(facts, ihc_images[0]) or None,
        )
    dataset.SeriesDescription = _description(facts)
    _add_equipment(dataset, software)
    _verify(dataset, facts.verifiers, ihc_images[0])
    stamp(dataset, ihc_images[0], created)
    return named_by_bytes(dataset, uid_seed)


def _add_equipment(dataset: Dataset, software: str) -> None:
    """Set what highdicom leaves open of the equipment, and identify the private codes."""
    dataset.DeviceSerialNumber = SERIAL
    dataset.ManufacturerModelName = DEVICE_NAME
    dataset.SoftwareVersions = software
    dataset.CodingSchemeIdentificationSequence = [codes.private_scheme()]


def _verify(dataset: Dataset, verifiers: Sequence[VerifierFacts], ihc: Dataset) -> None:
    """Make a report FINAL and VERIFIED by the people who stand for it (PS3.3 C.17.2).

    highdicom would write one person alone, with the time of writing. The times are in the zone of
    the other times of the report, which each of them states.
    """
    if not verifiers:
        return
    zone = str(ihc.get("TimezoneOffsetFromUTC") or "")
    dataset.PreliminaryFlag, dataset.VerificationFlag = "FINAL", "VERIFIED"
    dataset.VerifyingObserverSequence = []
    for person in verifiers:
        item = Dataset()
        item.VerifyingObserverName = person.by
        item.VerifyingOrganization = person.organization or NOT_STATED  # of type 1
        item.VerificationDateTime = in_zone(person.at, zone).strftime("%Y%m%d%H%M%S%z")[:19]
        item.VerifyingObserverIdentificationCodeSequence = []  # of type 2
        dataset.VerifyingObserverSequence.append(item)


def _requests(facts: ReportFacts, ihc: Dataset) -> list[Dataset]:
    """Request that the report answers, by the accession of the slide (PS3.3 C.17.2)."""
    if not (facts.accession and ihc.get("AccessionNumber")):
        return []
    request = Dataset()
    request.StudyInstanceUID = ihc.StudyInstanceUID
    request.AccessionNumber = ihc.AccessionNumber
    if issuer := ihc.get("IssuerOfAccessionNumberSequence"):
        request.IssuerOfAccessionNumberSequence = issuer
    # Of type 2, and not known here.
    for keyword in ("RequestedProcedureID", "RequestedProcedureDescription"):
        setattr(request, keyword, None)
    for keyword in ("PlacerOrderNumber", "FillerOrderNumber"):
        setattr(request, f"{keyword}ImagingServiceRequest", None)
    request.ReferencedStudySequence, request.RequestedProcedureCodeSequence = [], []
    return [request]


def _description(facts: ReportFacts) -> str:
    # The category follows the score, so that a list of series does not show a bare 3+ that the
    # guideline calls negative.
    said = ", ".join(word for word in (facts.said or "not scored", facts.category) if word)
    return f"{facts.title} {said} (research use only)"


def _context(sr: Any, facts: ReportFacts, ihc: Dataset, software: str) -> Any:
    """Observation context (TID 1001): observers and specimen.

    People come first: who gave the score, then who verified that of the appliance.
    """
    gave = None if facts.correction is None else facts.correction.by
    organizations = {person.by: person.organization for person in facts.verifiers}
    people = [] if gave is None else [_person(sr, gave, organizations.get(gave, ""), None)]
    people += [
        _person(sr, by, organization, codes.VERIFYING)
        for by, organization in organizations.items()
        if by != gave
    ]
    context = sr.ObservationContext()
    for observer in (*people, _device(sr, software), _subject(sr, ihc) or ()):
        context.extend(observer)
    return context


def _device(sr: Any, software: str) -> Any:
    """Observer context of the appliance (TID 1004)."""
    return sr.ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=deterministic_uid("device", software),
            name=DEVICE_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=f"{DEVICE_NAME} {software}",
        ),
    )


def _check(facts: ReportFacts) -> None:
    for roi in facts.rois:
        polygon = roi.outline_um
        if polygon.ndim != 2 or polygon.shape[0] < 3 or polygon.shape[1] != 2:
            raise ObjectError(f"an outline of shape {polygon.shape} is no polygon (N >= 3, 2)")


def _person(sr: Any, by: str, organization: str, role: Code | None) -> Any:
    """Observer context of a person (TID 1003); `role` is the part in the procedure."""
    with warnings.catch_warnings():
        # A family name alone is a name, too.
        warnings.simplefilter("ignore", UserWarning)
        return sr.ObserverContext(
            observer_type=codes.PERSON,
            observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(
                name=by, organization_name=organization or None, role_in_procedure=role
            ),
        )


def _subject(sr: Any, ihc: Dataset) -> Any:
    """Specimen on the target slide (TID 1009), where its header names one."""
    specimens = ihc.get("SpecimenDescriptionSequence") or []
    if not specimens or not specimens[0].get("SpecimenUID"):
        return None
    specimen = specimens[0]
    return sr.SubjectContext(
        subject_class=codes.SPECIMEN,
        subject_class_specific_context=sr.SubjectContextSpecimen(
            uid=str(specimen.SpecimenUID),
            identifier=str(specimen.get("SpecimenIdentifier") or "") or None,
            container_identifier=str(ihc.get("ContainerIdentifier") or "") or None,
        ),
    )


def _whole_slide(sr: Any, facts: ReportFacts, ihc: Dataset, uid_seed: str, software: str) -> Any:
    measurements = [sr.Measurement(*measured) for measured in facts.measurements]
    evaluations = [
        sr.QualitativeEvaluation(name, value)
        for name, value in ((facts.score_name, facts.score), *facts.evaluations)
    ]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=deterministic_uid(uid_seed, "slide"), identifier=f"{facts.title} {facts.block}"
        ),
        finding_type=codes.NEOPLASM,
        measurements=measurements,
        qualitative_evaluations=evaluations,
        algorithm_id=_algorithm(sr, facts, software),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(ihc)],
    )
    for name, text in facts.texts:
        # TID 1501 also allows evaluations as text; highdicom offers only coded ones.
        item = sr.TextContentItem(
            name=name, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(item)
    return group


def _algorithm(sr: Any, facts: ReportFacts, software: str) -> Any:
    """Algorithm identification of a group (TID 4019): the appliance with its networks."""
    return sr.AlgorithmIdentification(
        name=DEVICE_NAME,
        version=software,
        parameters=[
            f"{a.name}, version {a.version}, weights sha256 {a.weights_sha256}, "
            f"{a.site_calibration}"
            for a in facts.algorithms
        ],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def _roi(
    sr: Any,
    facts: ReportFacts,
    roi: RoiFacts,
    number: int,
    ihc: Dataset,
    uid_seed: str,
    software: str,
) -> Any:
    closed = np.vstack([roi.outline_um, roi.outline_um[:1]])
    region = sr.ImageRegion3D(
        graphic_type=sr.GraphicTypeValues3D.POLYGON,
        graphic_data=to_frame_of_reference(closed, ihc),
        frame_of_reference_uid=ihc.FrameOfReferenceUID,
    )
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=deterministic_uid(uid_seed, "roi", str(number)), identifier=f"ROI {number}"
        ),
        referenced_region=region,
        finding_type=codes.NEOPLASM,
        algorithm_id=_algorithm(sr, facts, software),
        measurements=[
            sr.Measurement(codes.AREA, round(_area(roi.outline_um) / 1e6, 4), codes.SQUARE_MM),
            *(sr.Measurement(*measured) for measured in roi.measurements),
        ],
    )


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def to_frame_of_reference(points_um: NDArray[np.float64], image: Dataset) -> NDArray[np.float64]:
    """Convert slide µm (x, y), shape (N, 2), to mm of the slide's frame of reference, shape (N, 3).

    PS3.3 C.8.12.4.1.1: the total pixel matrix starts, with the center of its first px, at
    TotalPixelMatrixOriginSequence and runs along ImageOrientationSlide.
    """
    origin = image.TotalPixelMatrixOriginSequence[0]
    start = np.array(
        [
            float(origin.XOffsetInSlideCoordinateSystem),
            float(origin.YOffsetInSlideCoordinateSystem),
            float(origin.get("ZOffsetInSlideCoordinateSystem", 0) or 0),
        ]
    )
    along = np.array([float(v) for v in image.ImageOrientationSlide]).reshape(2, 3)
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    down, right = (float(v) for v in measures.PixelSpacing)
    from_center_px = points_um / slide_mpp(image) - 0.5
    result: NDArray[np.float64] = start + (from_center_px * [right, down]) @ along
    return result
