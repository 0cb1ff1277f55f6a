"""Result of a case as HL7 v2.5.1 ORU^R01, OUL^R21 or OUL^R22, by a template of segments.

Fields are named as in chapters 2 (MSH), 3 (PID), 4 (ORC, OBR), 7 (OBX, SPM) and 13 (SAC). A line of
the template is a segment; placeholders stand in braces. Lines that begin with ``OBX`` are written
once for each item of the result. Values are escaped (chapter 2.7), so that none can end a field.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from string import Formatter

from pydicom.sr.coding import Code
from pydicom.valuerep import PersonName

from appliance.delivery.result_items import Standing, chosen, standing_of
from appliance.errors import SettingsError
from appliance.findings.findings import RESEARCH_USE
from appliance.settings.destinations import Hl7Destination
from dicom.result import Item, Result

_HEADER = """\
MSH|^~\\&|{sending_application}|{sending_facility}|{receiving_application}|{receiving_facility}\
|{at}||MESSAGE|{control_id}|{processing_id}|2.5.1|||AL|NE||UNICODE UTF-8
PID|1||{patient_id}^^^{issuer}||{patient_name}||{birth_date}|{sex}
"""
_ORDER = "ORC|RE|{placer}|{filler}\n"
_REQUEST = """\
OBR|1|{placer}|{filler}|{score_name}|||{at}|||||||||||{accession}|{procedure_id}|||{at}||SP\
|{status}
"""
_NOTE = "NTE|1||{notice} {device}\n"
_ITEM = "OBX|{set_id}|{type}|{code}|{sub_id}|{value}|{unit}|||||{status}|||{at}\n"
_SPECIMEN, _TISSUE = "SPM|1|{specimen}", "||TISS^Tissue^HL70487\n"
_CONTAINER = "SAC|||{container}\n"


def _built_in(message: str, *segments: str) -> str:
    header = _HEADER.replace("MESSAGE", f"{message}^{message.replace('^', '_')}")
    return "".join((header, *segments))


TEMPLATES: Mapping[str, str] = {
    "ORU^R01": _built_in(
        *("ORU^R01", _ORDER, _REQUEST, _NOTE, _ITEM),
        f"{_SPECIMEN}^{{container}}{_TISSUE}",
    ),
    "OUL^R21": _built_in("OUL^R21", _CONTAINER, _ORDER, _REQUEST, _NOTE, _ITEM),
    "OUL^R22": _built_in(
        *("OUL^R22", f"{_SPECIMEN}{_TISSUE}", _CONTAINER),
        *(_REQUEST, _ORDER, _NOTE, _ITEM),
    ),
}
"""Segments of each message where the settings name no file."""
CHARACTER_SET = "UNICODE UTF-8"
"""Character set of all messages, as MSH-18 names it (HL7 table 0211)."""
CONTROL_ID_LENGTH = 20
"""Longest message control id (MSH-10)."""
_ASKS = ("AL", "SU", "ER")
"""Conditions of MSH-16 under which what became of a message is acknowledged (HL7 table 0155)."""
_STATUS = {Standing.PRELIMINARY: "P", Standing.FINAL: "F", Standing.CORRECTED: "C"}
"""Result status (HL7 tables 0085 and 0123)."""
# Control characters would end a segment, or the block of MLLP.
_ESCAPES = dict.fromkeys([*map(chr, range(32)), "\x7f"], " ") | {
    "\\": "\\E\\",
    "|": "\\F\\",
    "^": "\\S\\",
    "&": "\\T\\",
    "~": "\\R\\",
}
_OF_MESSAGE = frozenset(
    [
        "sending_application",
        "sending_facility",
        "receiving_application",
        "receiving_facility",
        "control_id",
        "processing_id",
        "at",
        "patient_id",
        "issuer",
        "patient_name",
        "birth_date",
        "sex",
        "accession",
        "placer",
        "filler",
        "procedure_id",
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
_OF_ITEM = _OF_MESSAGE | frozenset(["set_id", "sub_id", "type", "code", "value", "unit"])


@dataclass(frozen=True, slots=True)
class Hl7Message:
    """Message of a result; `control_id` (MSH-10) is the same for the same report and contents."""

    control_id: str
    text: str


def read_template(section: Hl7Destination) -> str:
    """Return the template of a destination.

    Raises
    ------
    SettingsError
        If its file cannot be read, has no MSH that fits, or names what no message has.
    """
    if section.template is None:
        return TEMPLATES[section.message]
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
        try:
            line.format_map(dict.fromkeys(known, ""))
        except (ValueError, LookupError) as err:
            raise SettingsError(f"{where}: {line[:3]} has a wrong format ({err}).") from err
    _check_header(segments, where)
    return text


def _check_header(segments: Sequence[str], where: str) -> None:
    if not segments or not segments[0].startswith("MSH|^~\\&|"):
        raise SettingsError(f"{where} must begin with MSH|^~\\&| as in docs/lis.md.")
    if header_field(segments[0], 10) != "{control_id}":
        raise SettingsError(
            f"{where}: MSH-10 must be {{control_id}}, by which the acknowledgment is known."
        )
    if header_field(segments[0], 18) not in ("", CHARACTER_SET):
        raise SettingsError(
            f"{where}: MSH-18 must be {CHARACTER_SET} or empty: messages are sent in UTF-8."
        )


def asks_what_became_of_it(template: str) -> bool:
    """Return whether a template asks for an application's acknowledgment (MSH-16)."""
    return header_field(template, 16) in _ASKS


def header_field(template: str, number: int) -> str:
    """Return a field of the MSH of a template, such as MSH-9; empty where it has none."""
    # MSH-1 is the separator itself.
    return "".join(_segments(template)[0].split("|")[number - 1 : number]).strip()


def message_of(result: Result, section: Hl7Destination, template: str) -> Hl7Message:
    """Return the message of a result; segments end with a carriage return."""
    draft = f"{result.sop_instance_uid} {_rendered(result, section, template, '')}"
    digest = hashlib.sha256(draft.encode()).digest()
    control_id = base64.b32encode(digest).decode()[:CONTROL_ID_LENGTH]
    return Hl7Message(control_id, _rendered(result, section, template, control_id))


def _rendered(result: Result, section: Hl7Destination, template: str, control_id: str) -> str:
    facts = {**_facts(result, section), "control_id": control_id}
    items = chosen(result, section.contents)
    times, seen = Counter(item.name for item in items), Counter[Code]()
    lines = []
    for line in _segments(template):
        if not line.startswith("OBX"):
            lines.append(line.format_map(facts))
            continue
        seen.clear()
        for number, item in enumerate(items, start=1):
            seen[item.name] += 1
            # A code twice without sub-IDs (OBX-4): the second would take the first one's place.
            sub_id = str(seen[item.name]) if times[item.name] > 1 else ""
            own = _item(item) | {"set_id": str(number), "sub_id": sub_id}
            lines.append(line.format_map({**facts, **own}))
    return "".join(f"{line}\r" for line in map(_without_rests, lines) if _says_something(line))


def _says_something(line: str) -> bool:
    """Return whether a segment has a value; a PID must have an identifier (PID-3)."""
    fields = line.split("|")
    if fields[0] == "PID":
        return any(field.split("^")[0] for field in fields[3:4])
    return len(fields) > 1


def _without_rests(line: str) -> str:
    """Segment without separators that separate nothing: fields of empty components, and the end."""
    if line.startswith("MSH"):
        return line
    return "|".join(field.rstrip("^&~") for field in line.split("|")).rstrip("|")


def _segments(template: str) -> list[str]:
    return [line.strip() for line in template.splitlines() if line.strip()]


def _facts(result: Result, section: Hl7Destination) -> Mapping[str, str]:
    texts = {
        "processing_id": section.processing_id,
        "at": result.at.strftime("%Y%m%d%H%M%S%z"),
        "patient_id": result.patient_id,
        "birth_date": result.birth_date,
        "sex": result.sex,
        "accession": result.accession,
        "procedure_id": result.procedure_id,
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
    # Applications and facilities are HD, in the settings as HL7 writes it.
    places = {
        "sending_application": section.sending_application,
        "sending_facility": section.sending_facility,
        "receiving_application": section.receiving_application,
        "receiving_facility": section.receiving_facility,
    }
    escaped |= {name: "^".join(map(_escaped, hd.split("^"))) for name, hd in places.items()}
    # Issuers are kept as HL7 writes them: namespace, universal ID and type, joined by "&".
    issuer = "&".join(_escaped(part) for part in result.issuer.split("&"))
    of_order = section.filler_number == "order" and result.filler
    names = {
        "issuer": issuer,
        "patient_name": _name(result.patient_name),
        "placer": _entity(result.placer, result.placer_issuer),
        "filler": _entity(result.filler, result.filler_issuer)
        if of_order
        else _escaped(result.number),
    }
    return escaped | names | {"score_name": _coded(result.score_name)}


def _entity(number: str, issuer: str) -> str:
    """Return a number as EI: entity identifier, namespace, universal ID and its type."""
    return "^".join(map(_escaped, (number, *issuer.split("&")))).rstrip("^")


def _item(item: Item) -> dict[str, str]:
    unit = "" if item.unit is None else _coded(item.unit)
    facts = {"code": _coded(item.name), "unit": unit}
    if isinstance(item.value, Code):
        return facts | {"type": "CWE", "value": _coded(item.value)}
    if isinstance(item.value, float):
        # NM has no exponents.
        return facts | {"type": "NM", "value": f"{Decimal(f'{item.value:.10g}'):f}"}
    lines = item.value.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return facts | {"type": "TX", "value": "\\.br\\".join(map(_escaped, lines))}


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
