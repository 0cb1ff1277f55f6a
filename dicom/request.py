"""Request of a laboratory that a report answers: its numbers, and the procedure that was asked for.

Attributes are those of the Referenced Request Sequence (PS3.3 Table C.17-2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations, zip_longest
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom.codes import code_item
from dicom.patients import NamedPatient
from dicom.study import entity


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderedRequest:
    """Request of an order; values are empty where the order does not say.

    `placer` and `filler` are the order numbers of who asks and of who does the work (HL7 v2 ORC-2,
    ORC-3); `procedure_id` and `procedure` are Requested Procedure ID and Description, and
    `procedure_codes` the one item of the Requested Procedure Code Sequence, or none. Issuers are
    ``NAMESPACE`` or ``NAMESPACE&UNIVERSAL ID&TYPE`` (HL7 HD). The request is for the `blocks`, all
    where it names none, and `asked` are its texts and codes of procedures and stains.
    """

    placer: str = ""
    placer_issuer: str = ""
    filler: str = ""
    filler_issuer: str = ""
    procedure_id: str = ""
    procedure: str = ""
    procedure_codes: tuple[Code, ...] = ()
    accession_issuer: str = ""
    blocks: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def names_order(self) -> bool:
        """True if it has a number; a request without one names no order."""
        return any((self.placer, self.filler, self.procedure_id))

    def is_of_order(self, other: OrderedRequest) -> bool:
        """Return whether two requests may be of one order, as two sources tell it.

        Neither their order numbers nor the issuers of these contradict each other. They share an
        order number where both have any, else they do not name two procedures.
        """
        names = ("placer", "filler", "placer_issuer", "filler_issuer", "procedure_id")
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        *orders, procedures = pairs
        if any(one != two for one, two in orders if one and two):
            return False
        if any(one and one == two for one, two in orders[:2]):
            return True
        both = all(each.placer or each.filler for each in (self, other))
        return not both and (not all(procedures) or procedures[0] == procedures[1])

    def as_json(self) -> dict[str, Any]:
        """Return a dictionary for `of_json`."""
        return asdict(self)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> OrderedRequest:
        """Restore a request from the dictionary of `as_json`."""
        lists = {name: tuple(values.get(name, ())) for name in ("blocks", "asked")}
        coded = tuple(Code(*each) for each in values.get("procedure_codes", ()))
        return cls(**(values | lists | {"procedure_codes": coded}))


NO_REQUEST = OrderedRequest()
"""Request of which nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """Request of an order that was taken back, case-folded; empty where the message does not say.

    `patient` has the IDs of the order's patient as they are written, and `names` are the code and
    the text of the one test that is not asked for any more; of all tests of the number where there
    are none.
    """

    patient: NamedPatient
    placer: str
    placer_issuer: str
    filler: str
    names: frozenset[str]

    def is_about(self, request: OrderedRequest) -> bool:
        """Return whether a request has these numbers, as far as both state them, and the test."""
        placer, filler, issuer, procedure = (
            text.casefold()
            for text in (
                *(request.placer, request.filler, request.placer_issuer),
                request.procedure or next(iter(request.asked), ""),
            )
        )
        if self.placer != placer or (self.filler != filler and "" not in (self.filler, filler)):
            return False
        if not (placer or (self.filler and filler)):
            return False
        # The other texts of a request are alternates: a billing text is that of many stains.
        return issuers_agree(self.placer_issuer, issuer) and (
            not self.names or procedure in self.names
        )


def issuers_agree(one: str, other: str) -> bool:
    """Return whether issuers may be one: a name or an ID is common, or one does not say."""
    if not one or not other:
        return True
    pairs = zip_longest(parts_of_issuer(one), parts_of_issuer(other), fillvalue="")
    known = [(mine, its) for mine, its in pairs if mine and its]
    return bool(known) and all(mine == its for mine, its in known)


def parts_of_issuer(issuer: str) -> list[str]:
    """Return name and ID of an issuer."""
    return issuer.split("&")[:2]


def one_request(requests: Sequence[OrderedRequest]) -> OrderedRequest | None:
    """Return the request that several sources tell; None where they are of several orders."""
    if not all(one.is_of_order(two) for one, two in combinations(requests, 2)):
        return None
    return _united(requests, [field.name for field in fields(OrderedRequest)])


def common_request(requests: Sequence[OrderedRequest]) -> OrderedRequest:
    """Return what requests of several orders have in common, such as the placer's number."""
    first = requests[0]
    shared = [
        names
        for names in (("placer", "placer_issuer"), ("filler", "filler_issuer"), ("procedure_id",))
        if len({tuple(getattr(each, name) for name in names) for each in requests}) == 1
    ]
    return _united([first], [name for names in shared for name in names])


def _united(requests: Sequence[OrderedRequest], names: Sequence[str]) -> OrderedRequest:
    """Return the first value of each attribute that a request states."""
    known: dict[str, Any] = {
        name: next((value for each in requests if (value := getattr(each, name))), None)
        for name in names
    }
    return OrderedRequest(**{name: value for name, value in known.items() if value})


def request_item(
    request: OrderedRequest, study: Dataset, accession: str, *, as_before: bool = False
) -> Dataset:
    """Return an item of the Referenced Request Sequence.

    `study` is the header of an image of the study. It states the study and, before the request, the
    issuer of its accession; that of another accession the request alone states. `as_before`: the
    header's issuer stands beside any accession, as an earlier edition wrote it. Attributes of type
    2 are there without a value.
    """
    item = Dataset()
    item.StudyInstanceUID = study.StudyInstanceUID
    item.AccessionNumber = accession
    of_header = as_before or str(study.get("AccessionNumber") or "").strip() == accession
    if of_header and (issuer := study.get("IssuerOfAccessionNumberSequence")):
        item.IssuerOfAccessionNumberSequence = issuer
    elif request.accession_issuer:
        item.IssuerOfAccessionNumberSequence = [entity(request.accession_issuer)]
    for keyword, value in {
        "RequestedProcedureID": request.procedure_id,
        "RequestedProcedureDescription": request.procedure,
        "PlacerOrderNumberImagingServiceRequest": request.placer,
        "FillerOrderNumberImagingServiceRequest": request.filler,
    }.items():
        setattr(item, keyword, value or None)
    if request.placer and request.placer_issuer:
        item.OrderPlacerIdentifierSequence = [entity(request.placer_issuer)]
    if request.filler and request.filler_issuer:
        item.OrderFillerIdentifierSequence = [entity(request.filler_issuer)]
    item.ReferencedStudySequence = []
    item.RequestedProcedureCodeSequence = [code_item(code) for code in request.procedure_codes]
    return item
