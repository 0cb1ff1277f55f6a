"""Accession of a result: that which was identified, whatever the header of a slide has."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.clinic import BLANK, OBJECTS, rasters
from fixtures.findings import some_findings
from fixtures.judges import dicom_errors, entity_warnings
from fixtures.slide_objects import MPP, identity, write_svs
from pydicom import Dataset, dcmread

from appliance.artifacts import SUMS_NAME, ArtifactKey, ArtifactStore, adopt
from appliance.assays.her2.assay import HER2_ASSAY
from appliance.delivery import sources
from appliance.delivery.index import object_path, read_index, read_notes
from appliance.delivery.objects import UNKNOWN
from appliance.delivery.sources import as_written, slide_sources
from appliance.domain import HER2
from appliance.findings.codec import save_findings
from appliance.findings.findings import Findings
from appliance.line.analyze_slide import open_facts
from appliance.line.case_steps import write
from appliance.settings.identify import Identify, Writing
from appliance.settings.settings import Settings
from dicom.result import Result, read_result
from dicom.source import convert_slide
from dicom.uids import deterministic_uid, is_uid

IDENTIFIED = some_findings().accession
ALIKE = "S26-101"
"""Another number, which differs from that of the case by zeros alone."""


def scanned(
    folder: Path, stain: str, accession: str, change: Callable[[Dataset], None] = lambda _: None
) -> Path:
    """Write a slide as the scanner's DICOM, whose header has an accession of the RIS."""
    svs = write_svs(folder / f"{stain}.svs", seed=len(stain))
    slide = convert_slide(svs, folder / stain, identity(stain, accession_issuer="RIS"), mpp=MPP)
    for path in slide.paths:
        header = dcmread(path)
        header.AccessionNumber = accession
        change(header)
        header.save_as(path)
    return max(slide.paths, key=lambda path: path.stat().st_size)


class Pair:
    """Case of two slides of a scanner, and its objects."""

    def __init__(
        self,
        folder: Path,
        accession: str,
        writing: Writing | None = None,
        change: Callable[[Dataset], None] = lambda _: None,
    ) -> None:
        self.settings = Settings(
            state_dir=folder / "state",
            objects=OBJECTS,
            identify=Identify(writing=writing or Writing()),
        )
        he, ihc = (open_facts(scanned(folder, each, accession, change)) for each in ("HE", "HER2"))
        key = ArtifactKey.of("findings", case=1)
        with ArtifactStore(self.settings.artifacts_dir).writing(key) as out:
            made = replace(some_findings(), he=he, ihc=ihc, tiles=(), rasters=rasters(he))
            save_findings(made, out, he_thumbnail=BLANK, ihc_thumbnail=BLANK)
        self.findings, self.key = str(key), ""
        self.write()

    def write(self) -> None:
        self.key = write(self.findings, self.key, self.settings, {}).objects_key

    @property
    def index(self) -> Path:
        store = ArtifactStore(self.settings.artifacts_dir)
        return store.path(ArtifactKey.parse(self.key)) / "objects.json"

    @property
    def file(self) -> Path:
        (path,) = (e.path for e in read_index(self.key, self.settings) if e.kind == "SR")
        return object_path(path, self.settings)

    @property
    def result(self) -> Result:
        return read_result(self.file)

    def write_again(self, stated: dict[str, Any]) -> Dataset:
        """Write objects again whose index is this, and whose report is lost."""
        (self.index.parent / SUMS_NAME).unlink()
        self.index.write_text(json.dumps(stated))
        adopt(self.index.parent)
        self.file.unlink()
        self.write()
        return dcmread(self.file)


@pytest.mark.parametrize(
    ("header", "writing", "states", "issuer"),
    [
        (ALIKE, Writing(), IDENTIFIED, ""),
        ("S2-60000101", Writing(), IDENTIFIED, ""),
        (ALIKE, Writing(leading_zeros="drop"), ALIKE, "RIS"),
        ("S260000101", Writing(separators="drop"), "S260000101", "RIS"),
        ("s26/0000101", Writing(), "s26/0000101", "RIS"),
        ("UNKNOWN", Writing(), IDENTIFIED, ""),
    ],
)
def test_a_result_states_the_accession_that_was_identified_and_its_issuer(
    header: str, writing: Writing, states: str, issuer: str, tmp_path: Path
) -> None:
    result = Pair(tmp_path, header, writing).result
    assert (result.accession, result.accession_issuer) == (states, issuer)
    assert result.number == f"{states}-HER2-A1"


def test_a_report_of_the_edition_before_is_written_again_with_its_accession(tmp_path: Path) -> None:
    pair = Pair(tmp_path, ALIKE)
    stated = json.loads(pair.index.read_text())
    key, today = pair.key, dcmread(pair.file)
    assert pair.write_again(stated) == today
    former = pair.write_again(stated | {"edition": 2})
    assert (pair.result.accession, pair.result.accession_issuer) == (ALIKE, "RIS")
    assert former.SOPInstanceUID != today.SOPInstanceUID
    assert json.loads(pair.index.read_text())["edition"] == 2
    assert pair.write_again(stated | {"edition": 2}) == former
    assert pair.key == key


@pytest.mark.parametrize("beside", [(), ("CTRL-07",)])
def test_a_result_is_of_no_specimen_where_none_of_several_is_of_the_block(
    beside: tuple[str, ...], tmp_path: Path
) -> None:
    def lay(header: Dataset) -> None:
        for identifier in beside:
            item = deepcopy(header.SpecimenDescriptionSequence[0])
            item.SpecimenIdentifier = identifier
            header.SpecimenDescriptionSequence.append(item)

    pair = Pair(tmp_path, "S26-0042", change=lay)
    stated, today = json.loads(pair.index.read_text()), dcmread(pair.file)
    of_header = "S26-0042-A1", "S26-0042-A1-HER2"
    found = pair.result.specimen, pair.result.container
    assert found == ((f"{IDENTIFIED}-A1", "") if beside else of_header)
    assert pair.write_again(stated) == today
    former = pair.write_again(stated | {"edition": 4})
    assert (pair.result.specimen, pair.result.container) == of_header
    assert pair.write_again(stated | {"edition": 4}) == former


def test_a_report_on_the_first_of_alike_specimens_is_written_again_as_it_was(
    tmp_path: Path,
) -> None:
    def lay(header: Dataset) -> None:
        (own,) = header.SpecimenDescriptionSequence
        del own.SpecimenUID, own.SpecimenPreparationSequence
        control, own.SpecimenIdentifier = deepcopy(own), f"{IDENTIFIED}-A1-1"
        control.SpecimenIdentifier = f"{IDENTIFIED}-A1-CTRL"
        header.SpecimenDescriptionSequence = [control, own]
        header.ContainerIdentifier = None

    pair = Pair(tmp_path, IDENTIFIED, change=lay)
    stated, today = json.loads(pair.index.read_text()), dcmread(pair.file)
    assert pair.result.specimen == f"{IDENTIFIED}-A1"
    assert pair.write_again(stated) == today
    former = pair.write_again(stated | {"edition": 5})
    assert pair.result.specimen == f"{IDENTIFIED}-A1-CTRL"
    names = str(pair.result.study_uid), "", f"{IDENTIFIED}-A1-CTRL"
    assert deterministic_uid("specimen", *names) in former.to_json()
    assert json.loads(pair.index.read_text())["edition"] == 5
    assert pair.write_again(stated | {"edition": 5}) == former


def test_objects_have_what_the_header_lacks_and_follows_from_it(tmp_path: Path) -> None:
    def strip(header: Dataset) -> None:
        header.OtherPatientIDsSequence = [Dataset()]
        header.OtherPatientIDsSequence[0].PatientID = None
        del header.ContainerTypeCodeSequence, header.IssuerOfTheContainerIdentifierSequence
        (specimen,) = header.SpecimenDescriptionSequence
        del specimen.SpecimenUID, specimen.IssuerOfTheSpecimenIdentifierSequence

    pair = Pair(tmp_path, IDENTIFIED, change=strip)
    stated = json.loads(pair.index.read_text())

    def told() -> list[str]:
        """Errors of the objects, as a validator tells them, then the UIDs of the specimens."""
        files = [object_path(e.path, pair.settings) for e in read_index(pair.key, pair.settings)]
        described = [dcmread(each).get("SpecimenDescriptionSequence", []) for each in files]
        uids = [str(item.get("SpecimenUID")) for items in described for item in items]
        return [*(error for each in files for error in dicom_errors(each)), *uids]

    first = told()
    assert first and all(is_uid(each) for each in first)
    assert set(first) & set(dcmread(pair.file).to_json().split('"'))  # its subject
    pair.write_again(stated)
    assert told() == first
    pair.write_again(stated | {"edition": 4})  # an archive has them as they were
    assert not any(is_uid(each) for each in told())


def without_uid(header: Dataset) -> None:
    del header.SpecimenDescriptionSequence[0].SpecimenUID


def of_the_last_number(header: Dataset) -> None:
    header.SeriesNumber = 2**31 - 1


@pytest.mark.parametrize("change", [None, without_uid, of_the_last_number])
def test_overlays_with_what_their_slide_lacks_are_no_objects_of_the_edition_before(
    change: Callable[[Dataset], None] | None, tmp_path: Path
) -> None:
    def of_target(header: Dataset) -> None:
        if change is not None and header.ContainerIdentifier.endswith("HER2"):
            change(header)

    pair = Pair(tmp_path, IDENTIFIED, change=of_target)

    def overlays() -> dict[tuple[str, str], bytes]:
        index = [e for e in read_index(pair.key, pair.settings) if e.kind in ("SEG", "PM")]
        files = [object_path(each.path, pair.settings) for each in index]
        return {
            (file.name, entry.sop_instance_uid): file.read_bytes()
            for file, entry in zip(files, index, strict=True)
        }

    today, stated = overlays(), json.loads(pair.index.read_text())
    assert UNKNOWN not in read_notes(pair.key, pair.settings)
    pair.write_again(stated | {"edition": 4})
    kept = {key for key in today if change is None or "-he" in key[0]}
    assert kept and today.items() & overlays().items() == {(key, today[key]) for key in kept}
    assert today.keys() & overlays().keys() == kept
    pair.write_again(stated)
    assert overlays() == today
    pair.index.write_text("{")  # the edition stood in it
    pair.write()
    assert (UNKNOWN in read_notes(pair.key, pair.settings)) == (change is not None)


@pytest.fixture
def joined(tmp_path: Path) -> Callable[[str], Findings]:
    """Return a case whose H&E slide is DICOM of a scanner, with an accession, beside a SVS."""

    def made(accession: str) -> Findings:
        he = open_facts(scanned(tmp_path, "HE", accession))
        ihc = replace(open_facts(write_svs(tmp_path / "ihc.svs", seed=9)), mpp=MPP)
        return replace(some_findings(), he=he, ihc=ihc)

    return made


@pytest.mark.parametrize(("header", "stated"), [(ALIKE, ALIKE), ("UNKNOWN", IDENTIFIED)])
def test_a_slide_that_the_edition_before_converted_is_not_converted_again(
    header: str, stated: str, joined: Callable[[str], Findings], tmp_path: Path
) -> None:
    findings, settings = joined(header), Settings(state_dir=tmp_path / "state")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sources, "as_written", lambda a, headers, _: as_written(a, headers, None))
        patched.setattr(sources, "with_accession", lambda facts, _: facts)
        sent = slide_sources(findings, HER2_ASSAY, settings)
    again = slide_sources(findings, HER2_ASSAY, settings)
    assert again.converted == sent.converted
    assert again.headers[HER2][0].AccessionNumber == stated


@pytest.mark.parametrize("header", ["UNKNOWN", "", "S26-7", ALIKE, IDENTIFIED])
def test_a_converted_slide_states_the_accession_of_the_study_that_it_joins(
    header: str, joined: Callable[[str], Findings], tmp_path: Path
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    findings = joined(header)
    made = slide_sources(findings, HER2_ASSAY, settings)
    stated = {str(h.AccessionNumber or "") for images in made.headers.values() for h in images}
    assert stated == {header}
    # What it is identified by is in its identifiers.
    (ihc, *_) = made.headers[HER2]
    assert ihc.ContainerIdentifier == f"{IDENTIFIED}-A1-HER2"
    assert [dicom_errors(path) for path in made.converted] == [[] for _ in made.converted]
    assert entity_warnings([*made.scanned, *made.converted]) == []
    assert slide_sources(findings, HER2_ASSAY, settings).converted == made.converted
