"""A correction whose result has another number than the former one is told to the operator."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.clinic import Clinic, copy_of, open_clinic
from pydicom import dcmread

from appliance.artifacts import SUMS_NAME, adopt
from appliance.delivery.index import read_notes
from appliance.delivery.renumbered import RENUMBERED
from appliance.operations.corrections import correct_score
from appliance.settings.destinations import FhirDestination, FolderDestination

FHIR = FhirDestination(kind="fhir", url="https://lis.example/fhir")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_clinic(tmp_path_factory.mktemp("clinic"))


@pytest.mark.parametrize(
    ("accession", "lis"), [("", True), ("S26-9", True), ("S26-9", False), (None, True)]
)
def test_a_result_that_a_laboratory_has_under_another_number(
    accession: str | None, lis: bool, state: Path, tmp_path: Path
) -> None:
    """An earlier edition numbered it by the header of the slide; None: as it was identified."""
    clinic = copy_of(state, tmp_path)
    told = (FHIR,) if lis else (FolderDestination(name="told"),)
    clinic = Clinic(clinic.settings.model_copy(update={"destinations": told}))
    if accession is not None:
        former = dcmread(file := clinic.file("SR"))
        former.AccessionNumber = accession
        former.save_as(file)
        (file.parent / SUMS_NAME).unlink()
        adopt(file.parent)
    correct_score(clinic.settings, "case-1", "1+", by="Müller^Anna", why="torn")
    clinic.deliver()
    notes = read_notes(clinic.case.objects_key, clinic.settings)
    assert (RENUMBERED in notes) == (lis and accession is not None)
