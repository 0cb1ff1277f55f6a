"""Structured report of a case: Comprehensive 3D SR, template TID 1500 (PS3.16)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom import codes
from dicom.characters import CHARACTER_SET
from dicom.derived import DEVICE_NAME, MANUFACTURER, SERIAL, observer_uid, stamp
from dicom.errors import ObjectError
from dicom.report_facts import ReportFacts, VerifierFacts
from dicom.report_groups import Slides, list_heatmaps, measurement_groups, specimen_of
from dicom.request import request_item
from dicom.study import LO_LENGTH, SH_LENGTH
from dicom.times import in_zone
from dicom.uids import deterministic_uid, named_by_bytes

SERIES_NUMBER = 200
NOT_STATED = "not stated"
"""Organization of a person where nothing is known of it."""
NOTICE = "For research use only. Not for diagnostic use."


def build_report(
    facts: ReportFacts,
    *,
    he_images: Sequence[Dataset],
    ihc_images: Sequence[Dataset],
    segmentations: Sequence[Dataset],
    heatmaps: Sequence[Dataset] = (),
    created: datetime,
    uid_seed: str,
    software: str,
    predecessors: Sequence[Dataset] = (),
) -> Dataset:
    """Build the report: complete, PRELIMINARY and UNVERIFIED until a person stands for it.

    The report belongs to the study of the target slide (`ihc_images`). It refers to both slides,
    their overlays, and the reports (`predecessors`) that it replaces, with those that these
    replaced: an archive may have refused one of them. Equal arguments give equal bytes.

    Raises
    ------
    ObjectError
        If an outline is not a polygon of shape (N >= 3, 2).
    """
    _check(facts)
    from highdicom import sr

    slides = Slides(
        anatomy=he_images[0] if he_images else ihc_images[0],
        target=ihc_images[0],
        segmentations=segmentations,
        heatmaps=heatmaps,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dataset = sr.Comprehensive3DSR(
            # highdicom copies patient and study from the first image.
            evidence=[*ihc_images, *he_images, *segmentations, *heatmaps],
            content=_content(sr, facts, slides, uid_seed, software),
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
    _name_earlier(dataset, predecessors)
    dataset.SeriesDescription = _description(facts)
    _add_equipment(dataset, software, facts.request.procedure_codes)
    _verify(dataset, facts.verifiers, ihc_images[0])
    stamp(dataset, ihc_images[0], created)
    return named_by_bytes(dataset, uid_seed)


def _content(sr: Any, facts: ReportFacts, slides: Slides, uid_seed: str, software: str) -> Any:
    """Content tree (TID 1500): observers, image library, measurement groups."""
    anatomy = [] if slides.anatomy is slides.target else [slides.anatomy]
    content = sr.MeasurementReport(
        observation_context=_context(sr, facts, slides.target, software),
        procedure_reported=facts.score_name,
        imaging_measurements=measurement_groups(
            facts, slides, uid_seed=uid_seed, software=software
        ),
        referenced_images=[slides.target, *anatomy, *slides.segmentations],
    )
    list_heatmaps(content, slides.heatmaps, as_before=facts.described_as_before)
    return content


def _name_earlier(dataset: Dataset, predecessors: Sequence[Dataset]) -> None:
    """Add to the predecessors of a report those that its predecessors name (PS3.3 C.17.2).

    Without them two reports would be in force where the one between them never came to an archive.
    """
    named = dataset.get("PredecessorDocumentsSequence", [])
    studies = {study.StudyInstanceUID: study.ReferencedSeriesSequence for study in named}
    for report in predecessors:
        for study in deepcopy(list(report.get("PredecessorDocumentsSequence", ()))):
            if study.StudyInstanceUID not in studies:
                named.append(study)
                studies[study.StudyInstanceUID] = study.ReferencedSeriesSequence
                continue
            there = studies[study.StudyInstanceUID]
            series = {each.SeriesInstanceUID: each.ReferencedSOPSequence for each in there}
            for each in study.ReferencedSeriesSequence:
                if each.SeriesInstanceUID in series:
                    series[each.SeriesInstanceUID].extend(each.ReferencedSOPSequence)
                else:
                    there.append(each)


def _add_equipment(dataset: Dataset, software: str, ordered: Sequence[Code]) -> None:
    """Set what highdicom leaves open of the equipment, and identify the private codes.

    Among these are the laboratory's own, by which a procedure was `ordered`.
    """
    dataset.DeviceSerialNumber = SERIAL
    dataset.ManufacturerModelName = DEVICE_NAME
    dataset.SoftwareVersions = software
    dataset.CodingSchemeIdentificationSequence = codes.private_schemes(ordered)


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
    """Request that the report answers, by the accession that was identified (PS3.3 C.17.2)."""
    accession = facts.accession
    if accession and facts.as_before:
        accession = str(ihc.get("AccessionNumber") or "")
    fits = len(accession) <= SH_LENGTH and "\\" not in accession
    if not (accession and fits):
        return []
    return [request_item(facts.request, ihc, accession, as_before=facts.numbered_as_before)]


def _description(facts: ReportFacts) -> str:
    # The category follows the score, so that a list of series does not show a bare 3+ that the
    # guideline calls negative.
    said = ", ".join(word for word in (facts.said or "not scored", facts.category) if word)
    notice = " (research use only)"
    return f"{facts.title} {said}"[: LO_LENGTH - len(notice)] + notice


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
    device, subject = _device(sr, software, facts.installation), _subject(sr, facts, ihc)
    for observer in (*people, device, subject or ()):
        context.extend(observer)
    return context


def _device(sr: Any, software: str, installation: str) -> Any:
    """Observer context of the appliance (TID 1004)."""
    return sr.ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=observer_uid(software, installation),
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


def _subject(sr: Any, facts: ReportFacts, ihc: Dataset) -> Any:
    """Specimen of the block on the target slide (TID 1009), where its header names it."""
    specimen = specimen_of(facts, ihc)
    if specimen is None or not specimen.get("SpecimenUID"):
        return None
    return sr.SubjectContext(
        subject_class=codes.SPECIMEN,
        subject_class_specific_context=sr.SubjectContextSpecimen(
            uid=str(specimen.SpecimenUID),
            identifier=str(specimen.get("SpecimenIdentifier") or "") or None,
            container_identifier=str(ihc.get("ContainerIdentifier") or "") or None,
        ),
    )
