"""Result of a case as FHIR R4: a DiagnosticReport and the Observation that it rests on.

The items of the result are components of one Observation. A correction replaces both resources
whole, so that no item of an earlier result stays behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_OID, uuid5

from pydicom.sr.coding import Code

from appliance.delivery.result_items import chosen, standing_of
from appliance.findings.findings import RESEARCH_USE
from appliance.settings.destinations import FhirDestination
from dicom.result import Item, Result

Resource = dict[str, Any]
"""Resource of FHIR as JSON."""

_V2 = "http://terminology.hl7.org/CodeSystem/v2-"
_SYSTEMS = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    "99TANDEM": "urn:tandem:codes",
}


def transaction(result: Result, section: FhirDestination) -> Resource:
    """Return the Bundle that creates the resources of a case, or replaces them.

    They are found by identifier, so that a Bundle that is sent twice makes nothing twice.
    """
    observation_url = f"urn:uuid:{uuid5(NAMESPACE_OID, result.sop_instance_uid)}"
    entries = (
        (observation_url, _observation(result, section)),
        (
            f"urn:uuid:{uuid5(NAMESPACE_OID, f'{result.sop_instance_uid} report')}",
            _report(result, section, observation_url),
        ),
    )
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": url,
                "resource": resource,
                "request": {
                    "method": "PUT",
                    "url": f"{resource['resourceType']}?identifier="
                    f"{quote(token(section.identifier_system, result.number), safe='')}",
                },
            }
            for url, resource in entries
        ],
    }


def token(system: str, value: str) -> str:
    """Return an identifier as a search has it; separators in its parts are escaped."""
    return "|".join(
        part.replace("\\", "\\\\").replace("|", "\\|").replace(",", "\\,").replace("$", "\\$")
        for part in (system, value)
    )


def instance_token(sop_instance_uid: str) -> str:
    """Return the identifier by which a search finds the report that was made from an SR."""
    return token("urn:dicom:uid", f"urn:oid:{sop_instance_uid}")


def _report(result: Result, section: FhirDestination, observation_url: str) -> Resource:
    items = chosen(result, section.contents)
    said = [item.value for item in items if isinstance(item.value, str)]
    report = _common(result, section) | {
        "resourceType": "DiagnosticReport",
        "category": [_concept(Code("PAT", f"{_V2}0074", "Pathology"))],
        "code": _concept(result.score_name),
        "result": [{"reference": observation_url}],
        "conclusion": " ".join(dict.fromkeys((RESEARCH_USE, *said))),
    }
    coded = _score(result, items)
    return report if coded is None else report | {"conclusionCode": [_concept(coded)]}


def _observation(result: Result, section: FhirDestination) -> Resource:
    items = chosen(result, section.contents)
    observation = _common(result, section) | {
        "resourceType": "Observation",
        "category": [
            _concept(
                Code(
                    "laboratory",
                    "http://terminology.hl7.org/CodeSystem/observation-category",
                    "Laboratory",
                )
            )
        ],
        "code": _concept(result.score_name),
        "note": [{"text": RESEARCH_USE}],
        "device": {"display": result.device},
    }
    if result.specimen:
        observation["specimen"] = {"identifier": {"value": result.specimen}}
    if (coded := _score(result, items)) is not None:
        observation["valueCodeableConcept"] = _concept(coded)
    components = [_component(item) for item in items if item.name != result.score_name]
    return observation | ({"component": components} if components else {})


def _common(result: Result, section: FhirDestination) -> Resource:
    """Elements that both resources have."""
    at = result.at.isoformat()
    common: Resource = {
        "identifier": [
            {"system": section.identifier_system, "value": result.number},
            {"system": "urn:dicom:uid", "value": f"urn:oid:{result.sop_instance_uid}"},
        ],
        "status": standing_of(result).value,
        "effectiveDateTime": at,
        "issued": at,
    }
    requests = [{"type": "ServiceRequest", "identifier": each} for each in _requests(result)]
    if requests:
        common["basedOn"] = requests
    if result.patient_id:
        identifier: Resource = {"value": result.patient_id}
        if result.issuer:
            identifier["assigner"] = {"display": result.issuer}
        common["subject"] = {"type": "Patient", "identifier": identifier}
    return common


def _requests(result: Result) -> Iterator[Resource]:
    """Identifiers of the request that the result answers: accession, placer's and filler's number.

    The codes of their types are those of HL7 table 0203.
    """
    for kind, meaning, value, issuer in (
        ("ACSN", "Accession ID", result.accession, result.accession_issuer),
        ("PLAC", "Placer Identifier", result.placer, result.placer_issuer),
        ("FILL", "Filler Identifier", result.filler, result.filler_issuer),
    ):
        if value:
            assigned: Resource = {"assigner": {"display": issuer}} if issuer else {}
            kinds = _concept(Code(kind, f"{_V2}0203", meaning))
            yield {"type": kinds, "value": value} | assigned


def _score(result: Result, items: Sequence[Item]) -> Code | None:
    values = (item.value for item in items if item.name == result.score_name)
    return next((value for value in values if isinstance(value, Code)), None)


def _component(item: Item) -> Resource:
    component: Resource = {"code": _concept(item.name)}
    if isinstance(item.value, Code):
        return component | {"valueCodeableConcept": _concept(item.value)}
    if isinstance(item.value, str):
        return component | {"valueString": item.value}
    quantity: Resource = {"value": item.value}
    if item.unit is not None:
        system = _system(item.unit)
        quantity |= {"unit": item.unit.meaning, "system": system, "code": item.unit.value}
    return component | {"valueQuantity": quantity}


def _concept(code: Code) -> Resource:
    coding = {"system": _system(code), "code": code.value, "display": code.meaning}
    return {"coding": [coding], "text": code.meaning}


def _system(code: Code) -> str:
    scheme = str(code.scheme_designator)
    return _SYSTEMS.get(scheme, scheme)
