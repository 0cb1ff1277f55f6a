"""Request of a laboratory that a report answers: its numbers, and the procedure that was asked for.

Attributes are those of the Referenced Request Sequence (PS3.3 Table C.17-2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any

from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom.codes import code_item
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

    def is_about(self, other: OrderedRequest) -> bool:
        """Return whether two requests share the number of an order, and what is asked of it.

        The number is the placer's, else the filler's. Systems write one number for all orders of a
        case: they are of one order where they ask for the same, or where one does not say.
        """
        mine, its = (each.placer or each.filler for each in (self, other))
        issuers = self.placer_issuer.casefold(), other.placer_issuer.casefold()
        if not mine or mine.casefold() != its.casefold() or bool(self.placer) != bool(other.placer):
            return False
        if all(issuers) and issuers[0] != issuers[1]:
            return False
        asked, of_other = ({text.casefold() for text in each.asked} for each in (self, other))
        return not asked or not of_other or bool(asked & of_other)

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


def with_later(
    kept: Sequence[OrderedRequest], later: Sequence[OrderedRequest]
) -> tuple[OrderedRequest, ...]:
    """Return requests with later ones, which replace what contradicts them of a placer's order.

    A placer's number comes first, and the filler's is added when the order is taken.
    """
    left = [
        each
        for each in kept
        if all(each.is_of_order(new) for new in later if each.placer and each.placer == new.placer)
    ]
    return tuple(dict.fromkeys((*left, *later)))


def without_taken_back(
    kept: Sequence[OrderedRequest], taken_back: Sequence[OrderedRequest]
) -> tuple[OrderedRequest, ...]:
    """Return the requests of orders that were not taken back."""
    return tuple(each for each in kept if not any(gone.is_about(each) for gone in taken_back))


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
