"""``tandem process``: two files in, findings and DICOM out, checked by dciodvfy and dcmtk."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pypdfium2
import pytest
from fixtures.daemon import tandem, tandem_here
from fixtures.every_reader import read_by_highdicom
from fixtures.judges import dicom_errors, require_judge
from fixtures.slide_objects import identity
from PIL import Image
from pydicom import dcmread

from appliance.delivery.pictures.drawing import CAPTION, MARGIN, TITLE
from appliance.findings.codec import load_findings
from appliance.geometry import TILE_PX, TileGrid
from appliance.slides.annotated import CalibratedSlide
from appliance.slides.overview import load_overview, thumbnail_mpp
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import find_tissue, tissue_share, tissue_tiles
from dicom.source import convert_slide
from models.synthesis.pyramid import write_pyramid
from models.synthesis.slides import SyntheticCase

BCI_MPP = 0.46


def reads_back(path: Path) -> bool:
    """Check that dcmtk and, if it has a reader for the class, highdicom read the file."""
    dataset = dcmread(path)
    # dcm2json accepts no compressed px.
    judge = "dcmdump" if dataset.Modality == "SM" else "dcm2json"
    told = subprocess.run([require_judge(judge), path], capture_output=True, check=False)
    same: bool = read_by_highdicom(path).SOPInstanceUID == dataset.SOPInstanceUID
    return told.returncode == 0 and bool(told.stdout) and same


def test_synthetic_case_is_scored_and_every_object_is_valid(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_OBJECTS__PAGE_IMAGE", "true")
    monkeypatch.setenv("TANDEM_OBJECTS__ANNOTATIONS", "true")
    done = tandem("process", small_case.he_path, small_case.ihc_path, "--out", tmp_path, "--json")
    summary = json.loads(done.stdout)
    assert summary["score"] == small_case.score
    assert summary["accession"] == small_case.accession
    assert "research use only" in summary["notice"]
    objects = sorted(tmp_path.glob("*.dcm"))
    kinds = [dcmread(path, stop_before_pixels=True).Modality for path in objects]
    assert set(kinds) == {"SM", "SEG", "SR", "DOC", "OT", "ANN"}
    assert [kinds.count(kind) for kind in ("SR", "DOC", "ANN")] == [1, 1, 1]
    assert {path.name: dicom_errors(path) for path in objects} == {p.name: [] for p in objects}
    assert [path.name for path in objects if not reads_back(path)] == []
    # All objects are in one study, and each SEG is in the frame of reference of its slide.
    headers = [dcmread(path, stop_before_pixels=True) for path in objects]
    assert len({h.StudyInstanceUID for h in headers}) == 1
    assert {h.AccessionNumber for h in headers} == {small_case.accession}
    frames = {h.FrameOfReferenceUID for h in headers if h.Modality == "SM"}
    laid_over = [h for h in headers if h.Modality in ("SEG", "OT") and "FrameOfReferenceUID" in h]
    assert {h.FrameOfReferenceUID for h in laid_over} == frames
    assert {h.Modality for h in laid_over} == {"SEG", "OT"}


@pytest.fixture(scope="module")
def processed(small_case: SyntheticCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that ``tandem process`` wrote of the small case."""
    out = tmp_path_factory.mktemp("processed")
    tandem_here("process", small_case.he_path, small_case.ihc_path, "--out", out)
    return out


def test_report_is_readable_with_dsrdump(small_case: SyntheticCase, processed: Path) -> None:
    report = next(processed.glob("SR-*.dcm"))
    command = [require_judge("dsrdump"), "+Pl", str(report)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f'"HER2 IHC score: {small_case.score}' in text
    assert "For research use only" in text
    assert "PRELIMINARY" in text
    assert "UNVERIFIED" in text
    # Objects that settings do not request are not made; the report page lies beside the objects.
    assert not [*processed.glob("SC-*"), *processed.glob("ANN-*")]
    document = dcmread(next(processed.glob("PDF-*.dcm")))
    page = (processed / "report.pdf").read_bytes()
    assert document.EncapsulatedDocument[: document.EncapsulatedDocumentLength] == page
    with pypdfium2.PdfDocument(page) as pdf:
        assert small_case.accession in pdf[0].get_textpage().get_text_bounded()


def test_pictures_of_a_processed_pair_show_its_slides_and_name_no_accession(
    small_case: SyntheticCase, processed: Path, tmp_path: Path
) -> None:
    common = "picture", processed, "--out", tmp_path
    done = tandem_here(*common, "--what", "ihc", "--level", "patch")
    patches = [Path(line) for line in done.stdout.split()]
    (whole,) = tandem_here(*common, "--what", "he", "--level", "slide").stdout.split()
    assert sorted(tmp_path.iterdir()) == sorted([*patches, Path(whole)])
    assert not any(small_case.accession in path.name for path in tmp_path.iterdir())
    tiles = load_findings(processed).tiles
    classes = {tile.grade for tile in tiles if sum(tile.percent) > 0}
    assert len(classes) <= len(patches) <= 2 * (len(classes) + 1)
    first = np.asarray(Image.open(patches[0]))
    assert first.shape[1] > 4 * TILE_PX  # original, classes, label, attention
    # The first view is a tile of the slide, px by px.
    with SlideReader.open(small_case.ihc_path) as slide:
        shown = CalibratedSlide(slide)
        grades = {(t.column, t.row): t.grade for t in tiles if sum(t.percent) > 0}
        lowest = [place for place, grade in grades.items() if grade == min(grades.values())]
        top = MARGIN + TITLE + CAPTION
        view = first[top : top + TILE_PX, MARGIN : MARGIN + TILE_PX]
        assert any(np.array_equal(shown.tile(*place), view) for place in lowest)


def test_a_scanners_own_dicom_is_referred_to_as_it_is(
    small_case: SyntheticCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all tissue read: the score stays, and what is not scored has segments of its own."""
    monkeypatch.setenv("TANDEM_OBJECTS__PAGE_IMAGE", "true")
    monkeypatch.setenv("TANDEM_OBJECTS__ANNOTATIONS", "true")
    monkeypatch.setenv("TANDEM_SCORING__READ_ALL_TISSUE", "true")
    slides = []
    for stain, path in (("HE", small_case.he_path), ("HER2", small_case.ihc_path)):
        whose = identity(stain, patient_name="Müller^Jörg", fingerprint=path.name)
        with SlideReader.open(path) as slide:
            mpp = slide.facts.mpp
        slides.append(convert_slide(path, tmp_path / stain, whose, mpp=mpp).paths[0])
    out = tmp_path / "out"
    summary = json.loads(tandem_here("process", *slides, "--out", out, "--json").stdout)
    assert summary["score"] == small_case.score
    assert (summary["accession"], summary["block"]) == ("S26-0042", "A1")
    objects = sorted(out.glob("*.dcm"))
    assert {path.name: dicom_errors(path) for path in objects} == {p.name: [] for p in objects}
    headers = [dcmread(path, stop_before_pixels=True) for path in objects]
    assert {h.Modality for h in headers} == {"SEG", "SR", "DOC", "OT", "ANN"}  # no second slide
    given = [dcmread(path, stop_before_pixels=True) for path in slides]
    assert {h.StudyInstanceUID for h in headers} == {h.StudyInstanceUID for h in given}
    assert {str(h.PatientName) for h in headers} == {"Müller^Jörg"}
    # A missing patient ID stays missing; none is invented.
    assert {h.PatientID for h in headers} == {given[0].PatientID}
    frames = {h.FrameOfReferenceUID for h in given}
    assert {h.FrameOfReferenceUID for h in headers if h.Modality == "SEG"} == frames
    findings = load_findings(out)
    grid = TileGrid.of(*findings.ihc.size_um)
    overview = load_overview(out / "ihc_thumbnail.png")
    tissue = find_tissue(overview, thumbnail_mpp(*findings.ihc.size_um))
    assert len(findings.annotated) > 0
    read = {(t.row, t.column) for t in (*findings.tiles, *findings.annotated)}
    assert read == set(zip(*np.nonzero(findings.rasters.ihc_read), strict=True))
    wanted = tissue_tiles(tissue_share(tissue, grid))
    assert read == {(t.row, t.column) for t in wanted}
    labels = {
        segment.SegmentLabel
        for h in headers
        if h.Modality == "SEG"
        for segment in h.SegmentSequence
    }
    assert {"HER2 3+", "HER2 3+, not scored"} < labels


@pytest.mark.parametrize("name", ["bci-00672_3+", "bci-00901_1+"])
def test_real_fields_go_all_the_way(
    name: str, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real pixels: whatever the score is, every output must be written."""
    monkeypatch.setenv("TANDEM_OBJECTS__PAGE_IMAGE", "true")
    monkeypatch.setenv("TANDEM_OBJECTS__ANNOTATIONS", "true")
    slides = []
    for stain in ("he", "her2"):
        pixels = cv2.cvtColor(
            cv2.imread(str(real / "her2_pairs" / f"{name}_{stain}.png")), cv2.COLOR_BGR2RGB
        )
        slides.append(tmp_path / f"B26-{name[4:9]}_A1_{stain.upper()}.svs")
        write_pyramid(
            slides[-1],
            [pixels],
            width_px=pixels.shape[1],
            height_px=pixels.shape[0],
            mpp=BCI_MPP,
            file_format="svs",
        )
    out = tmp_path / "out"
    tandem_here("process", *slides, "--out", out)
    findings = json.loads((out / "findings.json").read_text())
    assert list(out.glob("ANN-*.dcm")) or not findings["tiles_scored"]
    if name.endswith("3+"):  # smeared membranes, brown cytoplasm: its picture is not sure
        unsure = [r["params"] for r in findings["review"] if r["code"] == "picture-unsure"]
        assert [params["stain"] for params in unsure] == ["HER2"]
    for kind in ("WSM", "SEG", "PM", "SR", "PDF", "SC"):
        objects = list(out.glob(f"{kind}-*.dcm"))
        assert objects, kind
        assert [dicom_errors(path) for path in objects] == [[] for _ in objects]


def test_a_bad_slide_is_one_clear_line(real: Path, tmp_path: Path) -> None:
    slide = real / "slides" / "TCGA-CR-7395-01A-01-TS1.svs"
    done = tandem_here("process", slide, slide, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert "does not say its resolution" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("A24-1_A1_HE.svs", "A24-2_A1_HER2.svs"), ("A24-1, block A1", "A24-2, block A1")),
        (("A24-1_A1_HE.svs", "A24-1_B2_HER2.svs"), ("A24-1, block A1", "A24-1, block B2")),
        (("A24-1_HE.svs", "A24-2_A1_HER2.svs"), ("A24-1, block", "A24-2, block A1")),
    ],
)
def test_slides_of_two_names_are_refused(
    names: tuple[str, str], told: tuple[str, str], small_case: SyntheticCase, tmp_path: Path
) -> None:
    he, ihc = (tmp_path / name for name in names)
    shutil.copy(small_case.he_path, he)
    shutil.copy(small_case.ihc_path, ihc)
    done = tandem_here("process", he, ihc, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1 and list((tmp_path / "out").iterdir()) == []
    line = " ".join(done.stderr.split())
    assert f"{names[0]} is of accession {told[0]}" in line
    assert f" and {names[1]} is of accession {told[1]}" in line
    assert line.endswith("or say which it is: --accession, --block.")


def test_an_option_says_which_of_two_names_it_is(small_case: SyntheticCase, tmp_path: Path) -> None:
    he, ihc, out = tmp_path / "A24-1_A1_HE.svs", tmp_path / "A24-2_A1_HER2.svs", tmp_path / "out"
    shutil.copy(small_case.he_path, he)
    shutil.copy(small_case.ihc_path, ihc)
    tandem_here("process", he, ihc, "--out", out, "--accession", "A24-1")
    summary = json.loads((out / "findings.json").read_text())
    assert (summary["accession"], summary["block"]) == ("A24-1", "A1")
