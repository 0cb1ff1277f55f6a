"""Laboratory's system over FHIR R4: the result of each report, proven by a search for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    KindCheck,
    Proof,
    destination,
)
from appliance.delivery.destinations.network import send_results, translated, web_address
from appliance.delivery.result_fhir import instance_token, token, transaction
from appliance.settings.destinations import FhirDestination
from appliance.settings.objects import ObjectKind
from appliance.settings.settings import Settings
from dicom.dicomweb import HttpAnswer, explain
from dicom.errors import ObjectError, PacsRejectedError, PacsUnavailableError
from dicom.http_status import classify_http, find_http_status
from dicom.result import Result, read_result
from dicom.status import Outcome, Verdict, sentence_of

MEDIA_TYPE = "application/fhir+json"
VERSIONS = ("4.0", "4.3")
"""Versions of FHIR that the resources are valid in: R4 and R4B."""
NOBODY = "2.25.1"
"""SOP Instance UID of a report that exists nowhere, for test searches."""
MOST_WORDS = 300
"""Longest text of an OperationOutcome that is kept, in characters."""


@destination(FhirDestination)
class Fhir:
    """Laboratory's system over FHIR; one transaction a report."""

    takes: ClassVar[frozenset[ObjectKind]] = frozenset({"SR"})

    def __init__(self, section: FhirDestination) -> None:
        self.name = section.name
        self._section = section
        self._address = web_address(section, section.url)

    @classmethod
    def open(cls, section: FhirDestination, settings: Settings) -> Self:
        """Make the destination of a section; of `settings` nothing is used."""
        return cls(section)

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Send one transaction for each report."""
        send_results(self.name, instances, before, after, self._send)

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Search for the DiagnosticReport of each report."""
        with translated(self.name):
            return {each.ref.sop_instance_uid: self._ask(each) for each in instances}

    def check(self) -> str:
        """Read the CapabilityStatement, and search for a report that exists nowhere."""
        with translated(self.name):
            version = str(self._read("metadata").get("fhirVersion", ""))
            if not version.startswith(VERSIONS):
                raise PacsRejectedError(
                    f"{self._address.url} speaks FHIR {version or 'of no version'}, and R4 "
                    "(4.0 or 4.3) is needed. Is the url right?"
                )
            self._search(instance_token(NOBODY))
        return f"FHIR {version} at {self._address.url}"

    def kinds(self) -> list[KindCheck]:
        """Read from the CapabilityStatement whether transactions and both resources are taken."""
        with translated(self.name):
            rests = _parts(self._read("metadata"), "rest")
        actions = {str(each.get("code")) for rest in rests for each in _parts(rest, "interaction")}
        types = {str(each.get("type")) for rest in rests for each in _parts(rest, "resource")}
        needed = (
            ("transaction", "transaction" in actions),
            *((name, name in types) for name in ("DiagnosticReport", "Observation")),
        )
        remedy = "Allow it in the server."
        return [KindCheck(title, ok, "" if ok else remedy) for title, ok in needed]

    def close(self) -> None:
        """Do nothing: no connection stays open between requests."""

    def _send(self, result: Result) -> Outcome:
        body = json.dumps(transaction(result, self._section)).encode()
        headers = {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE}
        answer = self._address.call("POST", "", size_bytes=len(body), data=body, headers=headers)
        http, said = answer.status, _resource(answer)
        if find_http_status(http).of_server:
            raise PacsUnavailableError(explain(self._address, "FHIR", http))
        if http >= 300:
            return _with_reason(_classify(http), said)
        return _of_entries(said)

    def _ask(self, instance: Instance) -> Answer:
        uid = instance.ref.sop_instance_uid
        try:
            for report in self._search(instance_token(uid)):
                # Some servers pass over a parameter that they do not know.
                if f"urn:oid:{uid}" in _instances_of(report):
                    return Answer(Proof.THERE, f"as {_place_of(report)}")
            if place := self._unnamed(instance):
                text = f"{place} is there and names no SOP Instance UID. It is asked again."
                return Answer(Proof.UNKNOWN, text)
        except PacsRejectedError as err:  # one that takes transactions need not allow the search
            return Answer(Proof.UNKNOWN, f"{err} It is asked again.")
        return Answer(Proof.ABSENT, "no DiagnosticReport of it")

    def _unnamed(self, instance: Instance) -> str:
        """Return the place of a report of the same number that names no instance; empty for none.

        Some gateways keep one identifier alone, so that nothing tells which result is there.
        """
        try:
            number = read_result(instance.path).number
        except ObjectError:  # it is not sent either
            return ""
        numbered = self._search(token(self._section.identifier_system, number))
        has = [each for each in numbered if _named(each, number) and not _instances_of(each)]
        return _place_of(has[0]) if has else ""

    def _search(self, identifier: str) -> list[dict[str, Any]]:
        """Return the DiagnosticReports that a search by an identifier finds.

        Raises
        ------
        PacsUnavailableError, PacsRejectedError
        """
        found = self._read("DiagnosticReport", {"identifier": identifier})
        resources = [_part(entry, "resource") for entry in _parts(found, "entry")]
        return [each for each in resources if each.get("resourceType") == "DiagnosticReport"]

    def _read(self, path: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """Return a resource.

        Raises
        ------
        PacsUnavailableError, PacsRejectedError
        """
        answer = self._address.call("GET", path, params=params, headers={"Accept": MEDIA_TYPE})
        row = find_http_status(answer.status)
        if row.verdict is Verdict.LATER:
            raise PacsUnavailableError(explain(self._address, "FHIR", answer.status))
        said = _resource(answer)
        if answer.status != 200 or not said:
            raise PacsRejectedError(explain(self._address, "FHIR", answer.status))
        return said


def _resource(answer: HttpAnswer) -> dict[str, Any]:
    """Return the resource of an answer; empty where it has none."""
    said = answer.json()
    return said if isinstance(said, dict) else {}


def _part(said: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an element that is an object; empty where it is none."""
    part = said.get(name)
    return part if isinstance(part, dict) else {}


def _parts(said: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of an element that is a list."""
    parts = said.get(name)
    return [each for each in parts if isinstance(each, dict)] if isinstance(parts, list) else []


def _named(report: dict[str, Any], number: str) -> bool:
    """Return whether a report has the number of a result among its identifiers."""
    return any(each.get("value") == number for each in _parts(report, "identifier"))


def _instances_of(report: dict[str, Any]) -> list[str]:
    """Return the identifiers of a report that name an instance of DICOM."""
    values = [str(each.get("value", "")) for each in _parts(report, "identifier")]
    return [value for value in values if value.startswith("urn:oid:")]


def _place_of(report: dict[str, Any]) -> str:
    return f"DiagnosticReport/{report.get('id', '')}"


def _classify(http: int) -> Outcome:
    """Return the outcome of a status; 409 says that another request changes the same resource."""
    outcome = classify_http(http)
    if http != 409:
        return outcome
    cause, remedy = "another request changes the same resource", "It is tried again."
    text = sentence_of(Verdict.LATER, cause, f"HTTP {http}", remedy)
    return replace(outcome, verdict=Verdict.LATER, text=text)


def _with_reason(outcome: Outcome, said: dict[str, Any]) -> Outcome:
    """Add what an OperationOutcome says."""
    issues = _parts(said, "issue") if said.get("resourceType") == "OperationOutcome" else []
    texts = [
        str(each.get("diagnostics") or _part(each, "details").get("text") or each.get("code", ""))
        for each in issues
    ]
    if not texts:
        return outcome
    return replace(outcome, text=f"{outcome.text} It says: {'; '.join(texts)[:MOST_WORDS]}")


def _of_entries(said: dict[str, Any]) -> Outcome:
    """Return the outcome of a transaction: each entry was created (201) or replaced (200)."""
    answers = [_part(entry, "response") for entry in _parts(said, "entry")]
    wrong = [each for each in answers if not str(each.get("status", "")).startswith("2")]
    if said.get("type") != "transaction-response" or wrong or not answers:
        http = str(wrong[0].get("status", "")) if wrong else ""
        number = int(http[:3]) if http[:3].isdecimal() else 500
        return _classify(number if number >= 300 else 500)
    places = [str(each.get("location", "")) for each in answers]
    return Outcome(verdict=Verdict.STORED, text=f"stored as {', '.join(filter(None, places))}")
