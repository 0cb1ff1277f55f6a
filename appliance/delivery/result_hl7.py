"""Result of a case as HL7 v2.5.1 ORU^R01, by a template of segments.

Fields are named as in chapters 2 (MSH), 3 (PID), 4 (ORC, OBR) and 7 (OBX, SPM). A line of the
template is a segment; placeholders stand in braces. Lines that begin with ``OBX`` are written once
for each item of the result. Values are escaped (chapter 2.7), so that none can end a field.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from string import Formatter

from pydicom.sr.coding import Code
from pydicom.valuerep import PersonName

from appliance.delivery.result_items import Standing, chosen, standing_of
from appliance.errors import SettingsError
from appliance.findings.findings import RESEARCH_USE
from appliance.settings.destinations import Hl7Destination
from dicom.result import Item, Result

TEMPLATE = """\
MSH|^~\\&|{sending_application}|{sending_facility}|{receiving_application}|{receiving_facility}\
|{at}||ORU^R01^ORU_R01|{control_id}|P|2.5.1|||AL|NE||UNICODE UTF-8
PID|1||{patient_id}^^^{issuer}||{patient_name}||{birth_date}|{sex}
ORC|RE|{placer}|{number}
OBR|1|{placer}|{number}|{score_name}|||{at}|||||||||||{accession}||||{at}||SP|{status}
NTE|1||{notice} {device}
OBX|{set_id}|{type}|{code}||{value}|{unit}|||||{status}|||{at}
SPM|1|{specimen}^{container}||TISS^Tissue^HL70487
"""
"""Segments of a message where the settings name no file."""
CONTROL_ID_LENGTH = 20
"""Longest message control id (MSH-10)."""
_STATUS = {Standing.PRELIMINARY: "P", Standing.FINAL: "F", Standing.CORRECTED: "C"}
"""Result status (HL7 tables 0085 and 0123)."""
_ESCAPES = {
    "\\": "\\E\\",
    "|": "\\F\\",
    "^": "\\S\\",
    "&": "\\T\\",
    "~": "\\R\\",
    "\r": " ",
    "\n": "\\.br\\",
}
_OF_MESSAGE = frozenset(
    [
        "sending_application",
        "sending_facility",
        "receiving_application",
        "receiving_facility",
        "control_id",
        "at",
        "patient_id",
        "issuer",
        "patient_name",
        "birth_date",
        "sex",
        "accession",
        "placer",
        "number",
        "score_name",
        "study_uid",
        "sop_instance_uid",
        "specimen",
        "container",
        "device",
        "notice",
        "status",
    ]
)
_OF_ITEM = _OF_MESSAGE | frozenset(["set_id", "type", "code", "value", "unit"])


def read_template(section: Hl7Destination) -> str:
    """Return the template of a destination.

    Raises
    ------
    SettingsError
        If its file cannot be read, begins with no MSH or names what no message has.
    """
    if section.template is None:
        return TEMPLATE
    where = f"destination '{section.name}': template {section.template}"
    try:
        text = section.template.read_text(encoding="utf-8-sig")
        segments = _segments(text)
        named = [(line, {name for _, name, _, _ in Formatter().parse(line)}) for line in segments]
    except (OSError, ValueError) as err:
        raise SettingsError(f"{where} cannot be read: {err}. Correct the file.") from err
    for line, names in named:
        known = _OF_ITEM if line.startswith("OBX") else _OF_MESSAGE
        if unknown := sorted(str(name) for name in names - known - {None}):
            raise SettingsError(
                f"{where}: {line[:3]} names {', '.join(unknown)}; known names are "
                f"{', '.join(sorted(known))}."
            )
    if not segments or not segments[0].startswith("MSH|^~\\&|"):
        raise SettingsError(f"{where} must begin with MSH|^~\\&| as in docs/lis.md.")
    return text


def control_id(sop_instance_uid: str) -> str:
    """Return the message control id of a report: always the same for the same report."""
    digest = hashlib.sha256(sop_instance_uid.encode()).digest()
    return base64.b32encode(digest).decode()[:CONTROL_ID_LENGTH]


def oru(result: Result, section: Hl7Destination, template: str = TEMPLATE) -> str:
    """Return the message of a result; segments end with a carriage return."""
    facts = _facts(result, section)
    lines = []
    for line in _segments(template):
        if not line.startswith("OBX"):
            lines.append(line.format_map(facts))
            continue
        for number, item in enumerate(chosen(result, section.contents), start=1):
            lines.append(line.format_map({**facts, **_item(item), "set_id": str(number)}))
    return "".join(f"{_without_rests(line)}\r" for line in lines)


def _without_rests(line: str) -> str:
    """Segment without separators that separate nothing: fields of empty components, and the end."""
    if line.startswith("MSH"):
        return line
    return "|".join(field.rstrip("^&~") for field in line.split("|")).rstrip("|")


def _segments(template: str) -> list[str]:
    return [line.strip() for line in template.splitlines() if line.strip()]


def _facts(result: Result, section: Hl7Destination) -> Mapping[str, str]:
    texts = {
        "sending_application": section.sending_application,
        "sending_facility": section.sending_facility,
        "receiving_application": section.receiving_application,
        "receiving_facility": section.receiving_facility,
        "control_id": control_id(result.sop_instance_uid),
        "at": result.at.strftime("%Y%m%d%H%M%S%z"),
        "patient_id": result.patient_id,
        "birth_date": result.birth_date,
        "sex": result.sex,
        "accession": result.accession,
        "placer": result.placer,
        "number": result.number,
        "study_uid": result.study_uid,
        "sop_instance_uid": result.sop_instance_uid,
        "specimen": result.specimen,
        "container": result.container,
        "device": result.device,
        "notice": RESEARCH_USE,
        "status": _STATUS[standing_of(result)],
    }
    escaped = {name: _escaped(text) for name, text in texts.items()}
    # Issuers are kept as HL7 writes them: namespace, universal ID and type, joined by "&".
    issuer = "&".join(_escaped(part) for part in result.issuer.split("&"))
    names = {"issuer": issuer, "patient_name": _name(result.patient_name)}
    return escaped | names | {"score_name": _coded(result.score_name)}


def _item(item: Item) -> dict[str, str]:
    unit = "" if item.unit is None else _coded(item.unit)
    facts = {"code": _coded(item.name), "unit": unit}
    if isinstance(item.value, Code):
        return facts | {"type": "CWE", "value": _coded(item.value)}
    if isinstance(item.value, float):
        return facts | {"type": "NM", "value": f"{item.value:.10g}"}
    return facts | {"type": "TX", "value": _escaped(item.value)}


def _coded(code: Code) -> str:
    """Return a code as CWE: identifier, text, coding system (HL7 table 0396)."""
    parts = (code.value, code.meaning, code.scheme_designator)
    return "^".join(_escaped(part) for part in parts)


def _name(name: str) -> str:
    """Return a person name of DICOM as XPN, one repetition a group."""
    return "~".join(_groups(name))


def _groups(name: str) -> Iterator[str]:
    for group, representation in zip(name.split("="), ("A", "I", "P"), strict=False):
        if not group.strip("^ "):
            continue
        parsed = PersonName(group)
        parts = (
            *(parsed.family_name, parsed.given_name, parsed.middle_name),
            *(parsed.name_suffix, parsed.name_prefix),
        )
        xpn = "^".join(_escaped(str(part)) for part in parts)
        yield f"{xpn}^^L^{representation}" if "=" in name else f"{xpn}^^L"


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(sign, sign) for sign in text)
