"""Note that rejects replaced results: Key Object Selection Document (PS3.3 A.35.4, TID 2010).

The note is that of the IHE profile Imaging Object Change Management: an archive that knows the
profile no longer shows what the note names. Titles are of CID 7010 (PS3.16).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom import codes
from dicom.characters import CHARACTER_SET
from dicom.derived import DEVICE_NAME, MANUFACTURER, SERIAL, observer_uid, stamp
from dicom.errors import ObjectError
from dicom.uids import deterministic_uid, named_by_bytes

SERIES_NUMBER = 204
NOTICE = "For research use only."


def build_rejection_note(
    rejected: Sequence[Dataset],
    *,
    title: Code,
    replaced_by: str,
    created: datetime,
    uid_seed: str,
    software: str,
    installation: str = "",
    as_before: bool = False,
) -> Dataset:
    """Build the note in the study of the rejected objects; equal arguments give equal bytes.

    `rejected` are headers of objects of one study, `title` says why they are rejected, and
    `replaced_by` is the SOP Instance UID of the report that is in force, `installation` the name of
    the one that rejects them. `as_before`: as by an edition whose notes had no modifier.

    Raises
    ------
    ObjectError
        If nothing is rejected, or the objects lie in several studies.
    """
    if len({header.StudyInstanceUID for header in rejected}) != 1:
        raise ObjectError("a note of rejection names objects of one study")
    from highdicom import ko, sr

    device = sr.ObserverContext(
        observer_type=codes.DEVICE,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=observer_uid(software, installation),
            name=DEVICE_NAME,
            manufacturer_name=MANUFACTURER,
            model_name=f"{DEVICE_NAME} {software}",
        ),
    )
    words = f"A newer result replaces these objects; its report is {replaced_by}."
    content = ko.KeyObjectSelection(
        title, rejected, observer_device_context=device, description=f"{words} {NOTICE}"
    )
    if title == codes.REJECTED_FOR_QUALITY and not as_before:
        content[0].ContentSequence.insert(0, _modifier(sr))
    note = ko.KeyObjectSelectionDocument(
        evidence=rejected,
        content=content,
        series_instance_uid=deterministic_uid(uid_seed, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=deterministic_uid(uid_seed, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        specific_character_set=CHARACTER_SET,
    )
    note.copy_patient_and_study_information(rejected[0])
    note.SeriesDescription = f"{title.meaning} (research use only)"
    note.DeviceSerialNumber = SERIAL
    note.ManufacturerModelName = DEVICE_NAME
    note.SoftwareVersions = software
    stamp(note, rejected[0], created)
    return named_by_bytes(note, uid_seed)


def _modifier(sr: Any) -> Any:
    """Reason that TID 2010 asks of the title of quality; none of CID 7011 says "replaced"."""
    return sr.CodeContentItem(
        name=codes.TITLE_MODIFIER,
        value=codes.OTHER_FAILURE,
        relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
    )
