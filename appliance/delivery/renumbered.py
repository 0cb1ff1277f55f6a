"""A result that a laboratory's system knows under another number than its correction has.

Earlier editions built the number from the accession in the slide's header. Where that is none, or
another one than was identified, a correction has a number of its own, and does not take the place
of the former result there.
"""

from __future__ import annotations

from pathlib import Path

from appliance.delivery.index import object_path, sound_contents
from appliance.settings.destinations import FhirDestination, Hl7Destination
from appliance.settings.settings import Settings
from dicom.errors import ObjectError
from dicom.result import read_result

RENUMBERED = (
    "a laboratory's system that has the former result of this case (HL7, FHIR) has it under "
    "another number, by the accession in the slide's header, and keeps it: withdraw it there"
)


def renumbered(replaced: str, report: Path, settings: Settings) -> list[str]:
    """Return a note where a result has another number than the one that it replaces.

    `replaced` is the key of the former objects, empty for none, `report` the new report's file.
    """
    tells = any(
        isinstance(each, (FhirDestination, Hl7Destination)) for each in settings.destinations
    )
    contents = sound_contents(replaced, settings) if replaced and tells else None
    listed = contents["objects"] if contents is not None else []
    files = [object_path(entry["path"], settings) for entry in listed if entry["kind"] == "SR"]
    numbers = {_number(file) for file in files if file.is_file()}
    return [RENUMBERED] if numbers - {_number(report)} else []


def _number(report: Path) -> str:
    """Number of the result of a report; empty where it names no accession."""
    try:
        return read_result(report).number
    except ObjectError:
        return ""
