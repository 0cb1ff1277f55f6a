"""The result as Comprehensive 3D SR, template TID 1500 (PS3.16)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom import codes
from dicom.derived import MANUFACTURER, stamp
from dicom.errors import ObjectError
from dicom.placement import slide_mpp
from dicom.segmentation import AlgorithmFacts
from dicom.study import CHARACTER_SET
from dicom.uids import deterministic_uid, named_by_bytes

SERIES_NUMBER = 200
DEVICE_NAME = "Tandem HER2"
NOTICE = "For research use only. Not for diagnostic use."


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiFacts:
    """A block of tiles that decided the score: its outline (N, 2), (x, y) in µm of the IHC slide
    from its top left corner, and the share (0-100) per class of its tumor area."""

    outline_um: NDArray[np.float64]
    percent_by_class: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectionFacts:
    """A person's word against the appliance's: `by` whom (a DICOM person name), `why`, and the
    score that the appliance had given."""

    by: str
    why: str
    was: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFacts:
    """What the report says. Percentages 0-100 of the scored tumor area, areas in mm².

    `score` is None where there was nothing to score. `rule` is the guideline's rule that decided,
    `category` what it says the score means; empty where none. `low` is ``HER2-low`` or
    ``HER2-ultralow`` where a breast score of 1+ or 0 is also that; `comment` says so to people.
    `completeness` is the mean stained share (0-1) of the membranes of cells per class, and
    `intense_complete_percent` the share (0-100) of cells that are 3+ with a complete membrane,
    where cells were measured.
    """

    accession: str
    block: str
    organ: str
    score: str | None
    estimated: bool
    guideline: str
    guideline_version: str
    percent_by_class: Mapping[str, float]
    tumor_area_mm2: float
    unscored_tumor_area_mm2: float
    h_score: float
    paper_score: str | None
    wsi_percent: float
    comment: str
    review_reasons: Sequence[str]
    registration_error_um: float
    algorithms: Sequence[AlgorithmFacts]
    rois: Sequence[RoiFacts]
    rule: str = ""
    category: str = ""
    low: str = ""
    completeness: Mapping[str, float] = field(default_factory=dict)
    intense_complete_percent: float | None = None
    correction: CorrectionFacts | None = None


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
    """The report, complete, not final, not verified: PRELIMINARY and UNVERIFIED until a
    pathologist signs. It lies in the IHC slide's study and refers to both slides, their
    segmentations, and the reports (`predecessors`) that it takes the place of. Equal arguments
    make equal bytes.

    Raises
    ------
    ObjectError
        If a score or a class is none of ``0, 1+, 2+, 3+``, or an outline is no polygon.
    """
    _check(facts)
    from highdicom import sr

    device = sr.ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=deterministic_uid("device", software),
            name=DEVICE_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=f"{DEVICE_NAME} {software}",
        ),
    )
    groups = [_whole_slide(sr, facts, ihc_images[0], uid_seed, software)]
    groups += [
        _roi(sr, roi, number, ihc_images[0], uid_seed)
        for number, roi in enumerate(facts.rois, start=1)
    ]
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_person_context=None if facts.correction is None else _person(sr, facts),
            observer_device_context=device,
            subject_context=_subject(sr, ihc_images[0]),
        ),
        procedure_reported=_score_name(facts),
        imaging_measurements=groups,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dataset = sr.Comprehensive3DSR(
            # The first one lends its patient and study.
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
        )
    # A list of series must not show a bare 3+ that the guideline calls negative.
    said = ", ".join(word for word in (facts.score or "not scored", facts.category) if word)
    dataset.SeriesDescription = f"HER2 {said} (research use only)"
    dataset.ManufacturerModelName = DEVICE_NAME
    dataset.SoftwareVersions = software
    stamp(dataset, created)
    return named_by_bytes(dataset, uid_seed)


def _check(facts: ReportFacts) -> None:
    for score in (facts.score, facts.paper_score, *facts.percent_by_class):
        if score is not None and score not in codes.SCORES:
            raise ObjectError(f"'{score}' is no HER2 score; scores are {', '.join(codes.SCORES)}")
    for roi in facts.rois:
        polygon = roi.outline_um
        if polygon.ndim != 2 or polygon.shape[0] < 3 or polygon.shape[1] != 2:
            raise ObjectError(f"an outline of shape {polygon.shape} is no polygon (N >= 3, 2)")


def _person(sr: Any, facts: ReportFacts) -> Any:
    """Who corrected the score (TID 1003)."""
    name = "" if facts.correction is None else facts.correction.by
    return sr.ObserverContext(
        observer_type=codes.PERSON,
        observer_identifying_attributes=sr.PersonObserverIdentifyingAttributes(name=name),
    )


def _subject(sr: Any, ihc: Dataset) -> Any:
    """The specimen on the IHC slide (TID 1009), where its header names one."""
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
    measurements = [
        sr.Measurement(codes.TUMOR_SHARE[name], round(share, 2), codes.PERCENT)
        for name, share in facts.percent_by_class.items()
    ]
    for name, value, unit in (
        (codes.TUMOR_AREA, facts.tumor_area_mm2, codes.SQUARE_MM),
        (codes.UNSCORED_AREA, facts.unscored_tumor_area_mm2, codes.SQUARE_MM),
        (codes.H_SCORE, facts.h_score, codes.NO_UNITS),
        (codes.WSI_PERCENT, facts.wsi_percent, codes.PERCENT),
        (codes.REGISTRATION_ERROR, facts.registration_error_um, codes.MICROMETER),
    ):
        measurements.append(sr.Measurement(name, round(value, 3), unit))
    measurements += [
        sr.Measurement(codes.COMPLETENESS[name], round(100 * share, 1), codes.PERCENT)
        for name, share in facts.completeness.items()
    ]
    if facts.intense_complete_percent is not None:
        share = round(facts.intense_complete_percent, 2)
        measurements.append(sr.Measurement(codes.COMPLETE_INTENSE_SHARE, share, codes.PERCENT))
    evaluations = [sr.QualitativeEvaluation(_score_name(facts), _score(facts.score))]
    if facts.paper_score is not None:
        evaluations.append(
            sr.QualitativeEvaluation(codes.PAPER_SCORE, codes.SCORES[facts.paper_score])
        )
    if facts.low:
        evaluations.append(sr.QualitativeEvaluation(codes.LOW_CLASS, codes.LOW_CLASSES[facts.low]))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=deterministic_uid(uid_seed, "slide"), identifier=f"HER2 {facts.block}"
        ),
        finding_type=codes.NEOPLASM,
        measurements=measurements,
        qualitative_evaluations=evaluations,
        algorithm_id=sr.AlgorithmIdentification(
            name=DEVICE_NAME,
            version=software,
            parameters=[
                f"{a.name}, version {a.version}, weights sha256 {a.weights_sha256}"
                for a in facts.algorithms
            ],
            family=codes.ARTIFICIAL_INTELLIGENCE,
        ),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(ihc)],
    )
    certainty = ""
    if facts.correction is not None:
        certainty = (
            f" (corrected by a person; the appliance had said {facts.correction.was or '-'})"
        )
    elif facts.estimated:
        certainty = " (estimated from areas, not from cells)"
    texts = [
        (codes.COMMENT, f"HER2 IHC score: {facts.score or 'not scored'}{certainty}"),
        (codes.GUIDELINE, f"{facts.guideline}, {facts.guideline_version}"),
        (codes.RESEARCH_NOTICE, NOTICE),
        *((codes.REVIEW, reason) for reason in facts.review_reasons),
    ]
    if facts.correction is not None:
        texts.append((codes.CORRECTION, facts.correction.why))
    if facts.category:
        texts.append((codes.CATEGORY, facts.category))
    if facts.rule:
        texts.append((codes.RULE, facts.rule))
    if facts.comment:
        texts.append((codes.LOW_COMMENT, facts.comment))
    for name, text in texts:
        # TID 1501 takes evaluations as text, too; highdicom only offers coded ones.
        item = sr.TextContentItem(
            name=name, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(item)
    return group


def _roi(sr: Any, roi: RoiFacts, number: int, ihc: Dataset, uid_seed: str) -> Any:
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
        measurements=[
            sr.Measurement(codes.AREA, round(_area(roi.outline_um) / 1e6, 4), codes.SQUARE_MM),
            *(
                sr.Measurement(codes.TUMOR_SHARE[name], round(share, 2), codes.PERCENT)
                for name, share in roi.percent_by_class.items()
            ),
        ],
    )


def _score_name(facts: ReportFacts) -> Code:
    """LOINC's name of the score: one for breast, one for any other tissue."""
    return codes.HER2_SCORE if facts.organ == "breast" else codes.HER2_IN_TISSUE


def _score(score: str | None) -> Code:
    return codes.INDETERMINATE if score is None else codes.SCORES[score]


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def to_frame_of_reference(points_um: NDArray[np.float64], image: Dataset) -> NDArray[np.float64]:
    """Slide µm (x, y), shape (N, 2), to mm of the slide's frame of reference, shape (N, 3).

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
