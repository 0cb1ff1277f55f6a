"""A pair of which the scanner wrote one slide as DICOM: the other joins its study."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import openslide
import pytest
from fixtures.findings import some_findings
from fixtures.judges import dicom_errors, entity_warnings
from fixtures.slide_objects import MPP, STUDY_UID, identity, write_svs
from pydicom import Dataset, dcmread

from appliance.artifacts import ArtifactStore
from appliance.assays.her2.assay import HER2_ASSAY
from appliance.delivery.frozen import freeze_source
from appliance.delivery.orders import ask_orders
from appliance.delivery.sources import slide_sources
from appliance.domain import HE, HER2
from appliance.errors import SourceChangedError
from appliance.findings.findings import Findings
from appliance.line.analyze_slide import open_facts
from appliance.settings.objects import ObjectSettings
from appliance.settings.orders import Orders
from appliance.settings.settings import Settings
from dicom.source import convert_slide
from dicom.study import StudyFacts

OF_THE_STUDY = {
    "study_id": "ST-1",
    "started": datetime(2026, 3, 1, 9, 30),
    "referring_physician": "Weiß^Karl",
    "patient_id": "P-4711",
    "patient_name": "Müller^Jana",
    "patient_birth_date": date(1961, 2, 3),
    "patient_sex": "F",
}
KEYWORDS = (
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
)


@pytest.fixture
def mixed(tmp_path: Path, real: Path) -> Findings:
    """Return H&E as the scanner's DICOM, and a real SVS with a label in place of the IHC slide."""
    scanned = convert_slide(
        write_svs(tmp_path / "he.svs"), tmp_path / "he", identity("HE", **OF_THE_STUDY), mpp=MPP
    )
    he = max(scanned.paths, key=lambda path: path.stat().st_size)
    ihc = real / "slides" / "CMU-1-Small-Region.svs"
    return replace(some_findings(), he=open_facts(he), ihc=open_facts(ihc))


def test_blocks_of_a_study_agree_and_a_correction_stays_in_it(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    made = []
    for block, scanned in (("A1", 1_770_000_000), ("B2", 1_760_000_000)):
        slides = [write_svs(tmp_path / f"{block}{n}.svs", seed=scanned + n) for n in (0, 1)]
        for slide in slides:
            os.utime(slide, (scanned, scanned))
        he, ihc = (replace(open_facts(slide), mpp=MPP) for slide in slides)
        made.append(replace(some_findings(), block=block, he=he, ihc=ihc))
    first, second = (slide_sources(findings, HER2_ASSAY, settings) for findings in made)
    headers = [h for s in (first, second) for images in s.headers.values() for h in images]
    assert len({tuple(h[k].value for k in KEYWORDS) for h in headers}) == 1
    assert slide_sources(made[0], HER2_ASSAY, settings, first.study).converted == first.converted
    # Whatever the worklist would say by then.
    assert first.study is not None
    other = replace(first.study, uid="2.25.9", patient_id="P-1")
    (study,) = {
        h.StudyInstanceUID for h in slide_sources(made[0], HER2_ASSAY, settings, other).headers[HE]
    }
    assert study == "2.25.9"


def test_the_specimen_of_an_order_names_new_slides_and_leaves_those_that_were_sent(
    tmp_path: Path,
) -> None:
    table = tmp_path / "orders.csv"
    table.write_text("Accession;Patient ID;Specimen;Block;Stain;Container\n")
    settings = Settings(state_dir=tmp_path / "state", orders=Orders(csv=table))
    slides = [write_svs(tmp_path / f"{n}.svs", seed=n) for n in (1, 2)]
    he, ihc = (replace(open_facts(slide), mpp=MPP) for slide in slides)
    first = replace(some_findings(), he=he, ihc=ihc)
    sent = slide_sources(first, HER2_ASSAY, settings)
    with table.open("a") as rows:
        rows.write(f"{first.accession};P-1;SP-1;{first.block};HER2;G-1\n")
        rows.write(f"{first.accession};P-1;SP-2;B2;HER2;G-2\n")
    named = slide_sources(replace(first, block="B2"), HER2_ASSAY, settings).headers
    identifiers = {
        stain: {
            content.TextValue
            for step in images[0].SpecimenDescriptionSequence[0].SpecimenPreparationSequence
            for content in step.SpecimenPreparationStepContentItemSequence
            if content.get("TextValue")
        }
        for stain, images in named.items()
    }
    assert all("SP-2" in texts for texts in identifiers.values())
    assert named[HER2][0].ContainerIdentifier == "G-2"
    assert named[HE][0].ContainerIdentifier == f"{first.accession}-B2-HE"
    assert slide_sources(first, HER2_ASSAY, settings, sent.study).converted == sent.converted
    # One of them is lost, and converted again: the archive has it under its UIDs.
    folder = sent.converted[0].parent
    key = f"wsm/{folder.name}"
    bytes_before = sent.converted[0].read_bytes()
    shutil.rmtree(folder)
    again = slide_sources(first, HER2_ASSAY, settings, sent.study, before={key})
    assert again.converted == sent.converted
    assert sent.converted[0].read_bytes() == bytes_before


def test_what_an_order_tells_later_leaves_the_slides_that_were_sent(tmp_path: Path) -> None:
    """Objects of a study state the same patient, whatever the order tells by then."""
    table = tmp_path / "orders.csv"
    settings = Settings(state_dir=tmp_path / "state", orders=Orders(csv=table))
    slides = [write_svs(tmp_path / f"{n}.svs", seed=n) for n in (1, 2)]
    he, ihc = (replace(open_facts(slide), mpp=MPP) for slide in slides)
    first = replace(some_findings(), he=he, ihc=ihc)

    def order(*rows: str) -> None:
        head = "Accession;Patient ID;Name;Specimen;Block;Stain;Container\n"
        table.write_text(head + "".join(f"{first.accession};P-1;{row}\n" for row in rows))
        ask_orders(first.accession, settings)

    order(f";SP-1;{first.block};HE;G-1")
    sent = slide_sources(first, HER2_ASSAY, settings)
    later = "Meyer^Anna;SP"
    order(f"{later}-1;{first.block};HER2;G-2", *(f"{later}-3;B2;{x};G-{x}" for x in ("HE", "HER2")))
    assert slide_sources(first, HER2_ASSAY, settings, sent.study).converted == sent.converted
    assert slide_sources(first, HER2_ASSAY, settings).converted == sent.converted
    named = slide_sources(replace(first, block="B2"), HER2_ASSAY, settings).headers
    assert {named[stain][0].ContainerIdentifier for stain in (HE, HER2)} == {"G-HE", "G-HER2"}
    headers = [image for images in (*sent.headers.values(), *named.values()) for image in images]
    assert {str(image.PatientName) for image in headers} == {""}


def test_a_file_that_changed_is_not_converted_under_the_first_ones_identity(
    tmp_path: Path,
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    paths = [write_svs(tmp_path / f"{n}.svs", seed=n) for n in (1, 2)]
    he, ihc = (replace(open_facts(path), mpp=MPP) for path in paths)
    for facts in (he, ihc):
        freeze_source(facts, ArtifactStore(settings.artifacts_dir))
    write_svs(paths[0], seed=99)
    with pytest.raises(SourceChangedError):
        slide_sources(replace(some_findings(), he=he, ihc=ihc), HER2_ASSAY, settings)
    assert not list(settings.artifacts_dir.glob("wsm/*"))


def test_a_scanners_study_is_stronger_than_the_former_one(mixed: Findings, tmp_path: Path) -> None:
    """The H&E slide is scanned again, this time as DICOM."""
    former = StudyFacts(uid="2.25.9", patient_id="P-1")
    sources = slide_sources(mixed, HER2_ASSAY, Settings(state_dir=tmp_path / "state"), former)
    studies = {h.StudyInstanceUID for images in sources.headers.values() for h in images}
    assert studies == {STUDY_UID}


@pytest.mark.parametrize(
    "begun",
    [
        {"StudyTime": "094512.123000"},
        {"StudyTime": "0945"},
        {"StudyID": None},
        {"StudyDate": None, "StudyTime": None},
    ],
)
def test_a_converted_slide_repeats_how_the_scanner_writes_the_beginning_of_the_study(
    begun: dict[str, str | None], mixed: Findings, tmp_path: Path
) -> None:
    for path in (tmp_path / "he").glob("*.dcm"):
        scanned = dcmread(path)
        for keyword, value in begun.items():
            setattr(scanned, keyword, value)
        scanned.save_as(path)
    findings = replace(mixed, he=open_facts(Path(mixed.he.path)))
    settings = Settings(state_dir=tmp_path / "state")
    sources = slide_sources(findings, HER2_ASSAY, settings)
    headers = [*sources.headers[HE], *sources.headers[HER2]]
    for keyword in KEYWORDS:
        assert len({str(header.get(keyword) or "") for header in headers}) == 1, keyword
    assert entity_warnings([*sources.scanned, *sources.converted]) == []
    for path in sources.converted:
        assert dicom_errors(path) == []
    # One that an earlier edition converted, and filled the study, stays as it was sent.
    assert sources.study is not None
    former = Settings(state_dir=tmp_path / "former")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("appliance.delivery.sources.study_of", lambda _: sources.study.filled())
        sent = slide_sources(findings, HER2_ASSAY, former)
    assert {str(h.get(k) or "") for k in begun for h in sent.headers[HER2]} != {
        str(h.get(k) or "") for k in begun for h in sent.headers[HE]
    }
    assert slide_sources(findings, HER2_ASSAY, former).converted == sent.converted


def flavors(paths: tuple[Path, ...]) -> dict[str, Dataset]:
    headers = [dcmread(path) for path in paths]
    return {header.ImageType[2]: header for header in headers}


@pytest.mark.parametrize("with_label", [False, True])
def test_the_other_slide_joins_the_study(with_label: bool, mixed: Findings, tmp_path: Path) -> None:
    settings = Settings(
        state_dir=tmp_path / "state", objects=ObjectSettings(label_images=with_label)
    )
    sources = slide_sources(mixed, HER2_ASSAY, settings)
    he = sources.headers[HE][0]
    made = flavors(sources.converted)
    assert set(made) == {"VOLUME"} | ({"LABEL", "OVERVIEW"} if with_label else set())
    for header in made.values():
        assert {k: header[k].value for k in KEYWORDS} == {k: he[k].value for k in KEYWORDS}
    assert [header.ImageType[2] for header in sources.headers[HER2]] == ["VOLUME"]
    assert [dicom_errors(path) for path in sources.converted] == [[] for _ in sources.converted]
    assert len({header.SOPInstanceUID for header in made.values()}) == len(made)
    # Images that show the label are marked: archives strip them by these attributes.
    for flavor, header in made.items():
        shows = "NO" if flavor == "VOLUME" else "YES"
        assert (header.BurnedInAnnotation, header.SpecimenLabelInImage) == (shows, shows)
    if with_label:
        volume = Path(str(made["VOLUME"].filename))
        with openslide.OpenSlide(volume) as opened, openslide.OpenSlide(mixed.ihc.path) as origin:
            for name in ("label", "macro"):
                photos = [
                    np.asarray(o.associated_images[name].convert("RGB")) for o in (opened, origin)
                ]
                assert np.abs(np.subtract(*photos, dtype=np.int16)).mean() < 6
