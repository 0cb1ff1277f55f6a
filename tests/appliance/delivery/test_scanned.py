"""Slides that the scanner wrote as DICOM: asked for, sent as they are, or left, by the settings."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import pytest
import requests
from fixtures.damage import flip
from fixtures.orthanc import Orthanc
from fixtures.scanned_case import ScannedCase
from fixtures.slide_objects import MPP, identity, write_svs
from fixtures.told import Told
from pydantic import ValidationError
from pydicom import dcmread

from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    Proof,
    open_destination,
)
from appliance.delivery.destinations.dicomweb import DicomWeb
from appliance.delivery.destinations.dimse import Pacs
from appliance.delivery.queueing import enqueue_case
from appliance.errors import DestinationUnavailableError, StoppedError
from appliance.ledger.lifecycle import CaseState
from appliance.operations.retry import retry_subject
from appliance.settings.destinations import (
    DicomSlides,
    DicomWebDestination,
    FolderDestination,
    PacsDestination,
)
from appliance.words.say import say
from dicom.source import convert_slide

Make = Callable[[DicomSlides], ScannedCase]


def section(way: DicomSlides) -> PacsDestination:
    return PacsDestination(
        kind="dicom", name="told", host="pacs", port=104, called_aet="PACS", dicom_slides=way
    )


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a slide of two levels."""
    folder = tmp_path_factory.mktemp("scanned")
    slide = write_svs(folder / "slide.svs")
    convert_slide(slide, folder / "dicom", identity("HER2"), mpp=MPP)
    return folder / "dicom"


@pytest.fixture
def make(scanned: Path, tmp_path: Path) -> Make:
    """Return a function that makes a case for a destination with a setting."""

    def made(way: DicomSlides) -> ScannedCase:
        files = sorted(Path(shutil.copytree(scanned, tmp_path / "scans")).glob("*.dcm"))
        return ScannedCase(tmp_path / "state", files[0], section(way))

    return made


class Recorder(Told):
    """Destination that remembers the files that it was handed, by UID."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, Path] = {}

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        self.files |= {each.ref.sop_instance_uid: each.path for each in instances}
        super().send(instances, before, after)


def uids(case: ScannedCase) -> set[str]:
    return {image.sop_instance_uid for image in case.images}


def test_a_missing_slide_is_told_while_its_overlay_goes(make: Make) -> None:
    case, told = make("verify"), Told()
    case.run(told)
    assert told.sent == [case.overlay.sop_instance_uid]
    assert case.states() == ({"queued"}, "proven")
    assert (case.case().state, case.case().reason) == (CaseState.WRITTEN, "slide-absent")
    assert "has not the scanner's slide" in say("case", case.case().reason, {})
    assert "'told' has not this image of the scanner's slide" in case.said()
    assert 'dicom_slides = "send"' in case.said()
    # The scanner's archive gets it by another way: nothing of it is sent by us.
    told.kept |= uids(case)
    case.run(told, after_s=1000)
    assert case.states() == ({"proven"}, "proven") and case.said() == ""
    assert (case.case().state, case.case().reason) == (CaseState.DELIVERED, "")
    assert told.sent == [case.overlay.sop_instance_uid]


def test_a_query_that_fails_holds_no_overlay_up(make: Make) -> None:
    """The overlay is sent before the slide is asked for: a query that is away holds nothing up."""

    class Unasked(Told):
        def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
            raise DestinationUnavailableError("QIDO-RS is away")

    case, told = make("verify"), Unasked()
    case.run(told)
    assert told.sent == [case.overlay.sop_instance_uid]
    assert case.said() == "QIDO-RS is away"


def test_a_slide_that_never_comes_ends_the_case_until_a_person_retries(make: Make) -> None:
    case, told = make("verify"), Told()
    for _ in range(3):
        case.run(told, after_s=1000)
    assert case.case().state == CaseState.UNDELIVERED
    assert case.said().startswith("given up after 3 attempts: 'told' has not this image")
    told.kept |= uids(case)
    retry_subject(case.settings, "case-1")
    case.run(told, after_s=1000)
    assert case.case().state == CaseState.DELIVERED


def test_a_destination_that_cannot_say_leaves_the_case_unproven(make: Make) -> None:
    case, told = make("verify"), Told()
    told.proofs = dict.fromkeys(uids(case), Proof.UNKNOWN)
    case.run(told)
    assert case.states() == ({"unproven"}, "proven")
    assert case.case().state == CaseState.UNPROVEN


def test_the_scanners_files_are_sent_as_they_are_and_before_the_overlay(make: Make) -> None:
    case, told = make("send"), Recorder()
    case.run(told)
    assert set(told.sent[:-1]) == uids(case) and told.sent[-1] == case.overlay.sop_instance_uid
    assert {told.files[uid].parent for uid in uids(case)} == {case.slide.parent}
    assert case.case().state == CaseState.DELIVERED


def test_a_kill_after_an_image_sends_nothing_twice(make: Make) -> None:
    case, told = make("send"), Told()
    first = next(iter(row for row in case.rows() if row.kind == "WSM")).sop_instance_uid

    def kill() -> None:
        told.kept.add(first)
        raise StoppedError("killed")

    told.meanwhile[first] = kill
    with pytest.raises(StoppedError):
        case.run(told)
    told.meanwhile.clear()
    case.run(told)
    assert sorted(told.sent) == sorted([*uids(case), case.overlay.sop_instance_uid])
    assert case.case().state == CaseState.DELIVERED


def test_a_slide_that_changed_or_went_is_not_sent(make: Make) -> None:
    case, told = make("send"), Told()
    away = case.slide.parent.with_name("away")
    case.slide.parent.rename(away)
    case.run(told)
    assert told.sent == [case.overlay.sop_instance_uid]
    assert "Mount the scanner's folder" in case.said()
    away.rename(case.slide.parent)
    flip(case.slide)
    case.run(told, after_s=1000)
    assert "another one than was analyzed" in case.said()
    assert case.case().state == CaseState.UNDELIVERED
    flip(case.slide)
    retry_subject(case.settings, "case-1")
    case.run(told)
    assert case.case().state == CaseState.DELIVERED and set(told.sent) >= uids(case)


def test_a_slide_that_changes_while_it_is_sent_is_told(make: Make) -> None:
    case, told = make("send"), Told()
    first = next(iter(row for row in case.rows() if row.kind == "WSM")).sop_instance_uid
    told.meanwhile[first] = lambda: flip(case.slide)
    for _ in range(3):
        case.run(told, after_s=1000)
    (row,) = (row for row in case.rows() if row.sop_instance_uid == first)
    assert (row.state, row.reason) == ("refused", "slide-mixed")
    assert {r.reason for r in case.rows() if r.kind == "WSM"} == {"slide-mixed", "slide-changed"}
    assert case.case().state == CaseState.UNDELIVERED


def test_a_slide_that_is_trusted_is_neither_asked_for_nor_sent(make: Make) -> None:
    case, told = make("trust"), Told()
    assert [row.kind for row in case.rows()] == ["SEG"]
    case.run(told)
    assert case.case().state == CaseState.DELIVERED


def test_a_site_may_change_its_mind(make: Make) -> None:
    case, told = make("verify"), Told()
    case.run(told)
    case.use(case.settings.state_dir, section("trust"))
    case.run(told, after_s=1000)
    assert case.case().state == CaseState.DELIVERED
    assert told.sent == [case.overlay.sop_instance_uid]


def test_a_folder_gets_the_bytes_of_the_scanner(make: Make, tmp_path: Path) -> None:
    case = make("trust")
    (tmp_path / "archive").mkdir()
    archive = FolderDestination(name="told", folder=tmp_path / "archive", dicom_slides="send")
    case.use(case.settings.state_dir, archive)
    row = case.case()
    with case.ledger.transaction() as tx:
        enqueue_case(tx, row, case.settings, 0.0)
    case.run(open_destination(case.settings, archive))
    assert case.case().state == CaseState.DELIVERED
    given = {file.read_bytes() for file in case.slide.parent.glob("*.dcm")}
    assert given < {file.read_bytes() for file in (tmp_path / "archive").rglob("*.dcm")}


def test_a_share_that_goes_away_while_its_slide_is_sent_costs_no_image(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make("trust")
    (tmp_path / "archive").mkdir()
    section = FolderDestination(name="told", folder=tmp_path / "archive", dicom_slides="send")
    case.use(case.settings.state_dir, section)
    row = case.case()
    with case.ledger.transaction() as tx:
        enqueue_case(tx, row, case.settings, 0.0)
    archive, scans = open_destination(case.settings, section), case.slide.parent
    send = archive.send

    def send_without(instances: Sequence[Instance], before: Before, after: After) -> None:
        # Each image was found and compared; then the share is unmounted.
        scans.rename(tmp_path / "away")
        monkeypatch.undo()
        send(instances, before, after)

    monkeypatch.setattr(archive, "send", send_without)
    case.run(archive)
    assert case.states() == ({"queued"}, "proven")
    assert "Mount its folder" in case.said()
    case.run(archive, after_s=1000)
    assert "Mount the scanner's folder" in case.said()
    (tmp_path / "away").rename(scans)
    case.run(archive, after_s=1000)
    assert case.case().state == CaseState.DELIVERED


def test_slides_are_not_sent_where_no_slides_are_wanted() -> None:
    with pytest.raises(ValidationError, match="add WSM to objects"):
        FolderDestination(objects=("SEG", "SR"), dicom_slides="send")


@pytest.mark.judge
def test_orthanc_lacks_a_slide_and_gets_it(make: Make, orthanc: Orthanc) -> None:
    """Asked for by C-FIND, then sent by C-STORE, then asked for by QIDO-RS."""

    def pacs(way: DicomSlides) -> PacsDestination:
        address = {"host": "127.0.0.1", "port": orthanc.dicom_port, "called_aet": "ORTHANC"}
        return section(way).model_copy(update=address)

    case = make("verify")
    case.run(Pacs(pacs("verify")))
    assert case.states() == ({"queued"}, "proven")
    assert "by C-FIND" in case.said() and case.case().reason == "slide-absent"
    case.use(case.settings.state_dir, pacs("send"))
    case.run(Pacs(pacs("send")), after_s=1000)
    assert case.case().state == CaseState.DELIVERED
    base = f"http://127.0.0.1:{orthanc.http_port}"
    for file in case.slide.parent.glob("*.dcm"):
        given = dcmread(file)
        if given.SOPInstanceUID not in uids(case):
            continue
        (there,) = requests.post(
            f"{base}/tools/lookup", data=given.SOPInstanceUID, timeout=300
        ).json()
        kept = dcmread(BytesIO(requests.get(f"{base}{there['Path']}/file", timeout=300).content))
        assert kept == given
        assert kept.file_meta.TransferSyntaxUID == given.file_meta.TransferSyntaxUID

    web = DicomWebDestination(kind="dicomweb", name="web", url=orthanc.dicomweb_url)
    case.use(case.settings.state_dir, web)
    row = case.case()
    with case.ledger.transaction() as tx:
        enqueue_case(tx, row, case.settings, 0.0)
    case.run(DicomWeb(web))
    images = [row for row in case.rows() if row.destination == "web" and row.kind == "WSM"]
    assert {(row.state, row.attempts) for row in images} == {("proven", 0)}
