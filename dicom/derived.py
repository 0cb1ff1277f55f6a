"""Attributes that all derived objects share: equipment, first series number, times of creation."""

from __future__ import annotations

from datetime import datetime

from pydicom import Dataset

from dicom.characters import CHARACTER_SET
from dicom.times import in_zone, is_zone
from dicom.uids import deterministic_uid

CREATOR = "Tandem^^^^"
MANUFACTURER = "Tandem"
DEVICE_NAME = "Tandem HER2"
SERIAL = "1"
FIRST_SERIES_NUMBER = 100

LABEL_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
"""Characters of a code string (PS3.5 6.2) that a label uses."""


def finish(dataset: Dataset, base: Dataset, series_description: str, created: datetime) -> None:
    """Set what highdicom leaves open or draws at random, for an object laid over a slide.

    `base` is the header of the slide's level 0.
    """
    dataset.SpecificCharacterSet = CHARACTER_SET
    dataset.SeriesDescription = series_description[:64]
    dataset.PatientOrientation = None
    organization = deterministic_uid(dataset.SOPInstanceUID, "dimension organization")
    for item in (
        *dataset.DimensionOrganizationSequence,
        *dataset.get("DimensionIndexSequence", []),  # not of TILED_FULL
    ):
        item.DimensionOrganizationUID = organization
    stamp(dataset, base, created)


def stamp(dataset: Dataset, base: Dataset, created: datetime) -> None:
    """Set all times of creation to `created`, so that equal facts give equal bytes.

    They are in the zone that the header of the slide (`base`) states, as the times copied from it.
    """
    zone = str(base.get("TimezoneOffsetFromUTC") or "")
    if is_zone(zone):
        dataset.TimezoneOffsetFromUTC = zone
    date, time = in_zone(created, zone).strftime("%Y%m%d %H%M%S").split()
    for contribution in dataset.get("ContributingEquipmentSequence", []):
        contribution.ContributionDateTime = f"{date}{time}"
    for keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
        if keyword in dataset or keyword == "ContentDate":
            setattr(dataset, keyword, date)
    for keyword in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        if keyword in dataset or keyword == "ContentTime":
            setattr(dataset, keyword, time)


def observer_uid(software: str, installation: str) -> str:
    """Return the Device Observer UID of Tandem in an installation, empty for none."""
    return deterministic_uid("device", software, *filter(None, (installation,)))


def content_label(text: str) -> str:
    """Content Label (CS) from the first word of a text: ``HER2 0`` gives ``HER2``."""
    first = text.split()[0] if text.split() else ""
    return "".join(c for c in first.upper() if c in LABEL_CHARACTERS)[:16] or "RESULT"
