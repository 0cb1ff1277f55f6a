"""Order of a laboratory: patient, study, specimens, and what was asked for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Any, Literal, TypeAlias

from dicom.characters import CONTROL
from dicom.errors import ObjectError
from dicom.legal import SEXES
from dicom.patients import NamedPatient, patient_differences
from dicom.request import OrderedRequest
from dicom.study import LO_LENGTH, SH_LENGTH, StudyFacts, check_length, check_name, is_name
from dicom.uids import is_uid

OrderSource: TypeAlias = Literal["worklist", "hl7", "csv"]
"""System that an order was read from."""

UNIVERSAL_TYPES = frozenset({"DNS", "EUI64", "ISO", "URI", "UUID", "X400", "X500"})
"""Universal Entity ID Types (PS3.3 Table 10-17)."""
LONGEST_OTHER_ID = 4 * LO_LENGTH
_BLOCK = re.compile(r"[A-Z]{1,2}\d{1,3}")
_USUAL = re.compile(r"[A-Z]{1,2}\d{1,3}|\d{1,3}[A-Z]?|[A-Z]|(\d{1,3})-(\d{1,3})")
"""Forms of a block; the last one may be a block of a part, or several blocks."""
_FORMS = tuple(map(re.compile, (r"[A-Z]{2,3}", r"[IVX]{1,5}", r"\d{1,3}\.\d{1,3}")))
"""Forms of a block that others of a laboratory have where a slide's own has it."""
_RANGE = re.compile(
    r"\s*([A-Z]{1,2})\s?(\d{1,3})\s*(?:[\N{EN DASH}\N{EM DASH}-]|BIS|TO)\s*(?:\1\s?)?(\d{1,3})\s*"
)
_AND = re.compile(r"(?<=\d)\s+(?:UND|AND|U\.?)(?=\s)")
_OF_LIST = re.compile(r"([A-Z]{1,2})\d{1,3}(?:~\d{1,3})?")
_NUMBERS = re.compile(r"\d{1,3}\s*[\N{EN DASH}-]\s*\d{1,3}")
_PART = re.compile(r"(?:PT?|SP|T)(?=\d+$)")
"""Mark of a part of the specimen, which laboratories write in place of a block."""
_SEPARATORS = re.compile(r"[\s;:_./#^-]+")
_SEVERAL = re.compile(r"[;,|+]")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedSpecimen:
    """Specimen of an order; empty where the order does not say.

    `container_id` is the identifier of the slide or jar, `stain` the text of the stain that was
    ordered for this container.
    """

    container_id: str = ""
    specimen_id: str = ""
    block: str = ""
    stain: str = ""

    def __post_init__(self) -> None:
        for what in ("container_id", "specimen_id"):
            _check_text(what.replace("_", " "), getattr(self, what))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Order of an accession; values are empty where the order does not say.

    `patient_name` holds all component groups. Issuers are ``NAMESPACE`` or ``NAMESPACE&UNIVERSAL
    ID&TYPE`` (HL7 HD), `other_ids` are ``ID`` or ``ID^^^ISSUER`` (HL7 CX). `asked` are the texts
    and codes of procedures and stains, `requests` the orders' numbers with what each asks for.
    `typed_ids` are the IDs whose type a message states, ``ID^^^ISSUER^TYPE``. `states_some_ids`: a
    message about its status may state some IDs of the patient alone; it is not kept.

    Raises
    ------
    ObjectError
        If a value does not fit its attribute. The message does not hold the value (PHI).
    """

    source: OrderSource = "worklist"
    uid: str = ""
    study_id: str = ""
    referring_physician: str = ""
    patient_id: str = ""
    issuer: str = ""
    patient_name: str = ""
    patient_birth_date: date | None = None
    patient_sex: str = ""
    other_ids: tuple[str, ...] = ()
    accession_issuer: str = ""
    specimens: tuple[OrderedSpecimen, ...] = ()
    asked: tuple[str, ...] = ()
    requests: tuple[OrderedRequest, ...] = ()
    typed_ids: tuple[str, ...] = ()
    states_some_ids: bool = False

    def __post_init__(self) -> None:
        check_length("study ID", self.study_id, SH_LENGTH)
        _check_text("patient ID", self.patient_id)
        _check_text("issuer of the patient ID", self.issuer, 3 * LO_LENGTH)
        _check_name("patient name", self.patient_name)
        _check_name("referring physician's name", self.referring_physician)
        _check_text("issuer of the accession", self.accession_issuer, 3 * LO_LENGTH)
        for each in self.other_ids:
            _check_text("other patient ID", each, LONGEST_OTHER_ID)
        if self.patient_sex not in SEXES:
            raise ObjectError("the patient's sex is none of DICOM's terms: F, M, O or nothing")
        if self.uid and not is_uid(self.uid):
            raise ObjectError("the Study Instance UID is no UID")

    def patient(self) -> NamedPatient:
        """Return the patient that the order names, for comparisons."""
        born = self.patient_birth_date
        return NamedPatient(
            patient_id=self.patient_id,
            issuer=self.issuer,
            name=self.patient_name,
            birth_date="" if born is None else born.isoformat(),
            sex=self.patient_sex,
            other_ids=self.other_ids,
        )

    def study(self) -> StudyFacts:
        """Return the facts of the study; the order must name one.

        Raises
        ------
        ObjectError
            If it does not.
        """
        return StudyFacts(
            uid=self.uid,
            study_id=self.study_id,
            referring_physician=self.referring_physician,
            patient_id=self.patient_id,
            patient_name=self.patient_name,
            patient_birth_date=self.patient_birth_date,
            patient_sex=self.patient_sex,
            issuer=self.issuer,
            other_ids=self.other_ids,
            accession_issuer=self.accession_issuer,
        )

    def asked_of(self, block: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the texts that are asked of a block, and those that are asked of others alone.

        All are asked of a block that is not known.
        """
        named = [(each.asked, each.blocks) for each in self.requests] + [
            ((each.stain, *texts_in(each.stain)), (each.block,))
            for each in self.specimens
            if each.stain and each.block
        ]
        here = {text for texts, blocks in named if not are_others(blocks, block) for text in texts}
        known = {text for texts, _ in named for text in texts}
        elsewhere = known - here if block else set()
        return (
            tuple(text for text in self.asked if text not in elsewhere),
            tuple(text for text in self.asked if text in elsewhere),
        )

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary for `of_json`."""
        born = self.patient_birth_date
        values = asdict(self) | {"patient_birth_date": "" if born is None else born.isoformat()}
        del values["states_some_ids"]
        return values

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Order:
        """Restore an order from the dictionary of `as_json`, or from that of `StudyFacts`.

        Earlier editions kept `StudyFacts` of an order.
        """
        known = {field.name for field in fields(cls)}
        facts = {name: value for name, value in values.items() if name in known}
        born = facts["patient_birth_date"]
        facts["patient_birth_date"] = date.fromisoformat(born) if born else None
        facts["specimens"] = tuple(OrderedSpecimen(**each) for each in facts.get("specimens", ()))
        requests = facts.get("requests", ())
        facts["requests"] = tuple(OrderedRequest.of_json(each) for each in requests)
        for name in ("other_ids", "asked", "typed_ids"):
            facts[name] = tuple(facts.get(name, ()))
        return cls(**facts)


def texts_in(cell: str) -> tuple[str, ...]:
    """Return the texts of a cell that names several stains."""
    return tuple(part.strip() for part in _SEVERAL.split(cell) if part.strip())


def _check_text(what: str, value: str, longest: int = LO_LENGTH) -> None:
    check_length(what, value, longest)
    if not _is_readable(value):
        raise ObjectError(f"the {what} has characters that cannot be printed")


def _check_name(what: str, name: str) -> None:
    check_name(what, name)
    if not _is_readable(name):
        raise ObjectError(f"the {what} has characters that cannot be printed")


def _is_readable(text: str) -> bool:
    """Return whether a text has neither control characters nor ends of lines.

    The wide space of Japanese names and letters of a site's own are allowed.
    """
    return CONTROL.search(text) is None and len(text.splitlines()) <= 1


def plain(text: str) -> str:
    """Return a text as it is compared and written: composed letters, no odd or outer spaces."""
    return unicodedata.normalize("NFC", text).replace("\N{NO-BREAK SPACE}", " ").strip()


def fitting(text: str, longest: int) -> str:
    """Return a text that fits its attribute; empty for one on which nothing depends."""
    return text if len(text) <= longest and "\\" not in text and _is_readable(text) else ""


def designator(namespace: str, universal: str, kind: str) -> str:
    """Return an issuer as HL7 writes it: ``NAMESPACE&UNIVERSAL ID&TYPE`` (PS3.3 Table 10-17).

    An ID whose type DICOM does not know is left out, as is a type without an ID. An issuer that
    does not fit is empty.
    """
    known = bool(universal) and (not kind or kind in UNIVERSAL_TYPES)
    parts = (namespace, universal, kind) if known else (namespace,)
    return fitting("&".join(parts).rstrip("&"), 3 * LO_LENGTH)


def fitting_name(name: str) -> str:
    """Return a person's name that fits PN; empty for one on which nothing depends."""
    return name if is_name(name) and _is_readable(name) else ""


def block_in(identifier: str, accession: str) -> str:
    """Return the block in the identifier of a specimen or container; empty where it tells none.

    ``S26-31;A1;2`` of the accession ``S26-31`` and ``A1`` tell the block A1.
    """
    rest = identifier.upper()
    if rest.startswith(accession.upper()):
        rest = rest[len(accession) :]
    elif not _BLOCK.fullmatch(rest):
        return ""
    parts = [part for part in _SEPARATORS.split(rest) if part]
    return parts[0] if parts and _BLOCK.fullmatch(parts[0]) else ""


def block_key(block: str) -> str:
    """Return a block as it is compared: ``Block A-01``, ``a 1``, ``A/1`` and ``A1`` are one.

    Between numbers a separator stays: 1-1 is not 11.
    """
    plain = block.strip(" \t()[]#").upper()
    plain = re.sub(r"^(?:BLOCK|BLK|KAPSEL|N[RO]\b)[\s.:_#-]*(?=\w)", "", plain)
    plain = re.sub(r"(?<=[A-Z])[\s./:_-]+(?=\d)", "", plain)
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s_-]+", "-", plain))


def are_others(blocks: Iterable[str], block: str) -> bool:
    """Return whether an order names blocks, and all are surely others than a slide's block.

    A block that cannot be read, 0, and a part's mark, may be any; the letter or number with which
    the slide's block begins may be its part. One of the form of the slide's own, such as III of II,
    is another.
    """
    named = list(_readings(blocks))
    return bool(named) and all(_is_other(each, block_key(block)) for each in named)


def name_block(blocks: Iterable[str], block: str) -> bool:
    """Return whether blocks of an order name a slide's block surely."""
    wanted = block_key(block)
    return any(wanted in _names(each) for part in blocks for each in texts_in(part))


def names_several(written: str) -> bool:
    """Return whether a cell names several blocks, such as ``A2, A3``: none of them alone."""
    words = re.findall(r"[^\W_]+", block_key(written))
    return len(texts_in(written)) > 1 or sum(map(bool, map(_BLOCK.fullmatch, words))) > 1


def _names(written: str) -> tuple[str, ...]:
    key = block_key(written)
    return key, *re.findall(r"[^\W_]+", key)


def _readings(cells: Iterable[str]) -> Iterator[str]:
    """Texts of cells; a number after a block may be one of its letter: ``A1, 2``, ``A1/2``."""
    last = ""
    for text in (text for cell in cells for text in texts_in(cell)):
        yield text
        letter = last
        if letter and _NUMBERS.fullmatch(text):
            yield letter + text
        # A hyphen between numbers divides no list: A10-2 may be a slide of A10.
        key = block_key(re.sub(r"(?<=\d)-(?=\d)", "~", _AND.sub("/", text.upper())))
        for word in filter(None, re.split(r"[/&-]+", key)):
            if block := _OF_LIST.fullmatch(word):
                letter = last = block[1]
            elif not word.isdecimal():
                letter = ""
            elif letter:
                yield letter + word


def _is_other(written: str, wanted: str) -> bool:
    key, *words = _names(written)
    if wanted in (key, *words) or key == "0" or _may_be_part(key, wanted):
        return False
    if any(form.fullmatch(key) and form.fullmatch(wanted) for form in _FORMS):
        return True
    if (several := _RANGE.fullmatch(written.upper())) and wanted.startswith(several[1]):
        number = wanted.removeprefix(several[1])
        return number.isdecimal() and not int(several[2]) <= int(number) <= int(several[3])
    if usual := _USUAL.fullmatch(key):
        if usual[1] and wanted.isdecimal():
            return not int(usual[1]) <= int(wanted) <= int(usual[2])
        # A laboratory may name its blocks by such a letter.
        return _mark(key) in ("", _mark(wanted))
    # Of "A1 Mamma" the block is A1; "A1-A3" may be A2.
    return sum(_BLOCK.fullmatch(word) is not None and not _mark(word) for word in words) == 1


def _may_be_part(key: str, wanted: str) -> bool:
    """Return whether a slide's block begins with this one: A1 with A, 1A with 1; not 10 with 1."""
    rest = wanted.removeprefix(key)
    if rest in ("", wanted) or not _USUAL.fullmatch(key):
        return False
    return not (key[-1].isdecimal() and rest[0].isdecimal()) and not (
        key[-1].isalpha() and rest[0].isalpha()
    )


def _mark(key: str) -> str:
    found = _PART.match(key)
    return found[0] if found else ""


def blocks_of(specimens: Iterable[OrderedSpecimen]) -> tuple[str, ...]:
    """Return the blocks of specimens; none where one of them tells no block."""
    blocks = [block for each in specimens for block in texts_in(each.block) or ("",)]
    return tuple(dict.fromkeys(blocks)) if all(blocks) else ()


def one_patient(orders: Iterable[Order], merged: Sequence[Sequence[str]] = ()) -> bool:
    """Return whether orders name one patient: what one of them does not say is no difference.

    `merged` are groups of IDs that the site declares to be one patient.
    """
    named = [order.patient() for order in orders]
    return not any(
        patient_differences(first, second, merged)
        for number, first in enumerate(named)
        for second in named[:number]
    )
