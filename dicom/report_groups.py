"""Measurement groups of a structured report (TID 1501, 1410): slide, regions, readers' opinions.

A group identifies its algorithm (TID 4019). A measurement that rests on an overlay names it as
Source of Measurement (TID 320).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom import codes
from dicom.derived import DEVICE_NAME
from dicom.placement import to_frame_of_reference
from dicom.report_facts import Measured, OpinionFacts, ReportFacts, RoiFacts
from dicom.segmentation import AlgorithmFacts
from dicom.specimens import parent_of, specimen_of_block, specimens_of
from dicom.uids import deterministic_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Slides:
    """Headers of level 0 of both slides, and of the overlays that lie over them, finest first."""

    anatomy: Dataset
    target: Dataset
    segmentations: Sequence[Dataset]
    heatmaps: Sequence[Dataset]


def measurement_groups(
    facts: ReportFacts, slides: Slides, *, uid_seed: str, software: str
) -> list[Any]:
    """Return the groups of a report: that of the whole slide, then regions, then opinions."""
    from highdicom import sr

    whole = _whole_slide(sr, facts, slides, uid_seed, software)
    regions = [
        _roi(sr, facts, roi, number, slides, uid_seed, software)
        for number, roi in enumerate(facts.rois, start=1)
    ]
    return [
        whole,
        *regions,
        *(_opinion(sr, facts, each, slides, uid_seed) for each in facts.opinions),
    ]


def list_heatmaps(report: Any, heatmaps: Sequence[Dataset], *, as_before: bool = False) -> None:
    """List parametric maps in the image library of a report's content (TID 1600, 1602).

    highdicom 0.28 refuses them there: its table of classes lacks theirs. `as_before`: as of slide
    microscopy, as an earlier edition wrote it.
    """
    from highdicom import sr

    if not heatmaps:
        return
    context = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
    group = sr.ContainerContentItem(
        name=codes.LIBRARY_GROUP, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
    group.ContentSequence = sr.ContentSequence()
    for each in heatmaps:
        image = sr.ImageContentItem(
            name=codes.SOURCE,
            referenced_sop_class_uid=each.SOPClassUID,
            referenced_sop_instance_uid=each.SOPInstanceUID,
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
        image.ContentSequence = sr.ContentSequence(
            [
                sr.CodeContentItem(
                    name=codes.MODALITY,
                    value=codes.SLIDE_MICROSCOPY if as_before else codes.MODALITIES[each.Modality],
                    relationship_type=context,
                ),
                sr.UIDRefContentItem(
                    name=codes.FRAME_OF_REFERENCE,
                    value=each.FrameOfReferenceUID,
                    relationship_type=context,
                ),
            ]
        )
        group.ContentSequence.append(image)
    (library,) = (
        item
        for item in report[0].ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == codes.IMAGE_LIBRARY.value
    )
    library.ContentSequence.append(group)


def _whole_slide(sr: Any, facts: ReportFacts, slides: Slides, uid_seed: str, software: str) -> Any:
    evaluations = [
        sr.QualitativeEvaluation(name, value)
        for name, value in ((facts.score_name, facts.score), *facts.evaluations)
    ]
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=deterministic_uid(uid_seed, "slide"), identifier=f"{facts.title} {facts.block}"
        ),
        finding_type=codes.NEOPLASM,
        measurements=[_measurement(sr, each, slides) for each in facts.measurements],
        qualitative_evaluations=evaluations,
        algorithm_id=_appliance(sr, facts.algorithms, software),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(slides.target)],
    )
    for name, text in (*facts.texts, *_whose(facts, slides.target)):
        # TID 1501 also allows evaluations as text; highdicom offers only coded ones.
        item = sr.TextContentItem(
            name=name, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS
        )
        group[0].ContentSequence.append(item)
    return group


def _whose(facts: ReportFacts, target: Dataset) -> Iterator[tuple[Code, str]]:
    """Yield the accession of the case where the slide's header states none, or another one; and the
    block, where the header tells that the specimen on the slide was sampled from it, or describes
    several and none by an identifier of the block."""
    if facts.as_before:
        return
    if facts.accession and facts.accession != str(target.get("AccessionNumber") or ""):
        yield codes.ACCESSION, facts.accession
    specimen = specimen_of(facts, target)
    if specimen is not None and (block := parent_of(specimen)):
        yield codes.PARENT_SPECIMEN_ID, block
    elif specimen is None and facts.accession and specimens_of(target):
        yield codes.PARENT_SPECIMEN_ID, f"{facts.accession}-{facts.block}"


def specimen_of(facts: ReportFacts, target: Dataset) -> Dataset | None:
    """Return the specimen on the target slide that the report is about; None where none is told."""
    if facts.described_as_before:
        return next(iter(specimens_of(target)), None)
    return specimen_of_block(target, facts.accession, facts.block, first=facts.specimens_as_before)


def _roi(
    sr: Any,
    facts: ReportFacts,
    roi: RoiFacts,
    number: int,
    slides: Slides,
    uid_seed: str,
    software: str,
) -> Any:
    closed = np.vstack([roi.outline_um, roi.outline_um[:1]])
    region = sr.ImageRegion3D(
        graphic_type=sr.GraphicTypeValues3D.POLYGON,
        graphic_data=to_frame_of_reference(closed, slides.target, facts.read_mpp),
        frame_of_reference_uid=slides.target.FrameOfReferenceUID,
    )
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=deterministic_uid(uid_seed, "roi", str(number)), identifier=f"ROI {number}"
        ),
        referenced_region=region,
        finding_type=codes.NEOPLASM,
        algorithm_id=_appliance(sr, facts.algorithms, software),
        measurements=[
            sr.Measurement(codes.AREA, round(_area(roi.outline_um) / 1e6, 4), codes.SQUARE_MM),
            *(_measurement(sr, each, slides) for each in roi.measurements),
        ],
    )


def _opinion(sr: Any, facts: ReportFacts, opinion: OpinionFacts, slides: Slides, seed: str) -> Any:
    """Group of a reader's opinion: its question, the class with the largest share, all shares."""
    judged = [(name, share) for name, share in opinion.shares if any(s for _, s in opinion.shares)]
    said = codes.INDETERMINATE
    if judged:
        said = codes.opinion_class(max(judged, key=lambda each: each[1])[0], opinion.about)
    measurements = [_share(sr, name, share, opinion.about) for name, share in judged]
    if opinion.certainty is not None:
        certainty = round(100 * opinion.certainty, 2)
        measurements.append(sr.Measurement(codes.CERTAINTY, certainty, codes.PERCENT))
    slide = slides.anatomy if opinion.of_anatomy else slides.target
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=deterministic_uid(seed, "opinion", opinion.reader),
            identifier=f"{facts.title} {facts.block}, reader {opinion.reader}",
        ),
        finding_type=codes.NEOPLASM,
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(codes.OPINION_ABOUT, codes.OPINION_QUESTIONS[opinion.about]),
            sr.QualitativeEvaluation(codes.OPINION, said),
        ],
        algorithm_id=sr.AlgorithmIdentification(
            name=opinion.algorithm.name,
            version=opinion.algorithm.version,
            parameters=[_weights(opinion.algorithm)],
            family=codes.ARTIFICIAL_INTELLIGENCE,
        ),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(slide)],
    )


def _share(sr: Any, name: str, share: float, about: str) -> Any:
    """Measurement of a class's share in percent; a modifier names the class (TID 300)."""
    measurement = sr.Measurement(codes.OPINION_SHARE, round(100 * share, 2), codes.PERCENT)
    measurement[0].ContentSequence = sr.ContentSequence(
        [
            sr.CodeContentItem(
                name=codes.OPINION_CLASS,
                value=codes.opinion_class(name, about),
                relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
            )
        ]
    )
    return measurement


def _appliance(sr: Any, algorithms: Sequence[AlgorithmFacts], software: str) -> Any:
    """Algorithm identification of a group (TID 4019): the appliance with its networks."""
    return sr.AlgorithmIdentification(
        name=DEVICE_NAME,
        version=software,
        parameters=[f"{a.name}, version {a.version}, {_weights(a)}" for a in algorithms],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def _weights(algorithm: AlgorithmFacts) -> str:
    return f"weights sha256 {algorithm.weights_sha256}, {algorithm.site_calibration}"


def _measurement(sr: Any, measured: Measured, slides: Slides) -> Any:
    """Measurement with the overlay of the target slide that it rests on, where there is one."""
    sources = []
    for overlay, segment in _resting_on(measured[0], slides):
        source = sr.SourceImageForMeasurement(overlay.SOPClassUID, overlay.SOPInstanceUID)
        if segment is not None:
            source.ReferencedSOPSequence[0].ReferencedSegmentNumber = segment
        sources.append(source)
    return sr.Measurement(*measured, referenced_images=sources or None)


def _resting_on(name: Code, slides: Slides) -> Iterator[tuple[Dataset, int | None]]:
    """Yield the overlay that a measurement rests on, and the segment's number in it.

    A share of a class rests on the class's segment, whose only modifier is the class; a mean
    intensity on the parametric map of intensity. Of a pyramid the finest level counts.
    """
    frame = slides.target.FrameOfReferenceUID
    if modifier := codes.SHARE_SEGMENT.get(name.value):
        for overlay in slides.segmentations:
            for segment in overlay.SegmentSequence:
                kind = segment.SegmentedPropertyTypeCodeSequence[0]
                stated = kind.get("SegmentedPropertyTypeModifierCodeSequence") or []
                if _codes(stated) == [modifier.value] and overlay.FrameOfReferenceUID == frame:
                    yield overlay, int(segment.SegmentNumber)
                    return
    if name == codes.STAIN_INTENSITY:
        for overlay in slides.heatmaps:
            if overlay.FrameOfReferenceUID == frame and name.value in _quantities(overlay):
                yield overlay, None
                return


def _quantities(heatmap: Dataset) -> list[str]:
    """Code values of what the values of a parametric map are (PS3.3 C.7.6.16.2.11)."""
    groups = heatmap.SharedFunctionalGroupsSequence[0]
    return [
        value
        for mapping in groups.get("RealWorldValueMappingSequence", [])
        for item in mapping.get("QuantityDefinitionSequence", [])
        for value in _codes(item.get("ConceptCodeSequence", []))
    ]


def _codes(sequence: Sequence[Dataset]) -> list[str]:
    return [str(item.get("CodeValue", "")) for item in sequence]


def _area(polygon: NDArray[np.float64]) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
