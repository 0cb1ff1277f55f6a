"""Destinations against Orthanc: mutual TLS, storage commitment, STOW-RS, bytes of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from fixtures.certificates import Certificates, make_certificates
from fixtures.daemon import tandem
from fixtures.instances import made_object, parcel_of
from fixtures.orthanc import Orthanc, free_port
from fixtures.peer import Peer
from fixtures.slide_objects import MPP, identity, write_svs
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pynetdicom.sop_class import Comprehensive3DSRStorage, VLWholeSlideMicroscopyImageStorage

from appliance.delivery.destinations.contract import Destination, Instance, Proof, open_destination
from appliance.delivery.destinations.dicomweb import DicomWeb
from appliance.delivery.destinations.dimse import Pacs
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.settings.destinations import DicomWebDestination, FolderDestination, PacsDestination
from appliance.settings.settings import Settings
from dicom.kinds import SENT_KINDS
from dicom.source import convert_slide
from dicom.status import Outcome, Verdict

pytestmark = pytest.mark.judge


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """Return a slide's objects."""
    folder = tmp_path_factory.mktemp("slide")
    slide = write_svs(folder / "S26-0042_A1_HER2.svs")
    paths = convert_slide(slide, folder / "wsm", identity("HER2"), mpp=MPP).paths
    return [parcel_of(path) for path in paths]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "certificates")


@pytest.fixture
def secured(tmp_path: Path, certificates: Certificates) -> Iterator[tuple[Orthanc, int]]:
    """Start an Orthanc that requires certificates, and return our port for its reports."""
    port, files = free_port(), certificates.files("server")
    tandem_there = {"AET": "TANDEM", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}
    server = Orthanc(
        tmp_path / "orthanc",
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(files.certificate),
        DicomTlsPrivateKey=str(files.key),
        DicomTlsTrustedCertificates=str(files.ca),
        DicomModalities={"tandem": tandem_there},
    ).start()
    yield server, port
    server.stop()


def send(destination: Destination, instances: list[Instance]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    destination.send(
        instances, lambda _parcel: None, lambda _parcel, outcome: outcomes.append(outcome)
    )
    return outcomes


def assert_frames_are_those_sent(server: Orthanc, instances: list[Instance]) -> None:
    """Compare each first and last frame, byte by byte, by WADO-RS."""
    for instance in instances:
        ref, dataset = instance.ref, dcmread(instance.path)
        count = int(dataset.NumberOfFrames)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
        for number in {1, count}:
            answer = requests.get(
                f"{server.dicomweb_url}/studies/{ref.study_uid}/series/{ref.series_uid}"
                f"/instances/{ref.sop_instance_uid}/frames/{number}",
                headers={
                    "Accept": 'multipart/related; type="application/octet-stream"; '
                    "transfer-syntax=*"
                },
                timeout=300,
            )
            answer.raise_for_status()
            assert frames[number - 1].rstrip(b"\0") in answer.content


def test_mutual_tls_and_commitment(
    secured: tuple[Orthanc, int], certificates: Certificates, instances: list[Instance]
) -> None:
    server, port = secured
    files = certificates.files("client")
    pacs = Pacs(
        PacsDestination(
            kind="dicom",
            host="127.0.0.1",
            port=server.dicom_port,
            called_aet="ORTHANC",
            tls=True,
            ca_file=files.ca,
            certificate=files.certificate,
            key=files.key,
            commitment_port=port,
            commitment_host="127.0.0.1",
        )
    )
    try:
        assert "TLS, proof by storage commitment, else C-FIND" in pacs.check()
        assert {outcome.verdict for outcome in send(pacs, instances[:-1])} == {Verdict.STORED}
        answers = pacs.prove(instances)
    finally:
        pacs.close()
    missing = instances[-1].ref.sop_instance_uid
    assert answers.pop(missing).proof is Proof.ABSENT
    assert {(a.proof, a.text) for a in answers.values()} == {(Proof.THERE, "by storage commitment")}
    assert_frames_are_those_sent(server, instances[:-1])


def test_an_object_that_was_moved_is_not_proven_and_told(
    orthanc: Orthanc, instances: list[Instance]
) -> None:
    web = DicomWeb(DicomWebDestination(kind="dicomweb", url=orthanc.dicomweb_url))
    assert {outcome.verdict for outcome in send(web, instances[:1])} == {Verdict.STORED}
    ref = replace(instances[0].ref, study_uid="2.25.9", series_uid="2.25.9")
    (answer,) = web.prove([replace(instances[0], ref=ref)]).values()
    assert answer.proof is Proof.ELSEWHERE
    assert answer.text.startswith("by QIDO-RS: it has it in another study: compare")


def test_stow_with_a_password(tmp_path: Path, instances: list[Instance]) -> None:
    server = Orthanc(
        tmp_path / "orthanc",
        AuthenticationEnabled=True,
        RegisteredUsers={"tandem": "secret word"},
    )
    secret = tmp_path / "secret"
    secret.write_text("secret word\n")
    section = DicomWebDestination(
        kind="dicomweb", url=server.dicomweb_url, user="tandem", secret_file=secret
    )
    web = DicomWeb(section)
    server.start(("tandem", "secret word"))
    try:
        assert "QIDO-RS answered" in web.check()
        assert [check.ok for check in web.kinds()] == [True]
        outcomes = send(web, instances)
        assert {outcome.verdict for outcome in outcomes} == {Verdict.STORED}, outcomes
        # A second delivery: objects that are there stay there, once.
        assert {outcome.verdict for outcome in send(web, instances[:1])} == {Verdict.STORED}
        assert {answer.proof for answer in web.prove(instances).values()} == {Proof.THERE}
        found = server.qido("instances", StudyInstanceUID=instances[0].ref.study_uid)
        uids = sorted(item["00080018"]["Value"][0] for item in found)
        assert uids == sorted(instance.ref.sop_instance_uid for instance in instances)
    finally:
        server.stop()


def test_an_archive_that_is_not_mounted_is_not_made(
    tmp_path: Path, instances: list[Instance]
) -> None:
    mount = tmp_path / "mnt"
    settings = Settings(
        state_dir=tmp_path / "state", destinations=(FolderDestination(folder=mount / "tandem"),)
    )
    archive = open_destination(settings, settings.destinations[0])
    for ask in (
        archive.check,
        lambda: send(archive, instances),
        lambda: archive.prove(instances),
    ):
        with pytest.raises(DestinationUnavailableError, match="Create it, or mount it"):
            ask()
    assert not mount.exists()
    (mount / "tandem").mkdir(parents=True)
    assert {outcome.verdict for outcome in send(archive, instances)} == {Verdict.STORED}
    assert {answer.proof for answer in archive.prove(instances).values()} == {Proof.THERE}
    # The archive in the state folder is created by Tandem.
    ours = Settings(state_dir=tmp_path / "state")
    assert "free" in open_destination(ours, ours.destinations[0]).check()


def test_doctor_asks_every_way_of_proof(orthanc: Orthanc, tmp_path: Path) -> None:
    def check(port: int, **more: Any) -> str:
        pacs = Pacs(
            PacsDestination(kind="dicom", host="127.0.0.1", port=port, called_aet="PEER", **more)
        )
        try:
            return pacs.check()
        finally:
            pacs.close()

    url = orthanc.dicomweb_url
    assert "proof by QIDO-RS" in check(orthanc.dicom_port, dicomweb_url=url)
    with pytest.raises(DestinationRejectedError, match=f"{url}-not.*Is the url right"):
        check(orthanc.dicom_port, dicomweb_url=f"{url}-not")
    with pytest.raises(DestinationRejectedError, match="Is the url right"):
        DicomWeb(DicomWebDestination(kind="dicomweb", url=f"{url}-not")).check()
    mute, committing = (
        Peer(tmp_path / "a", query=False),
        Peer(tmp_path / "b", query=False, report_to=free_port()),
    )
    for peer in (mute, committing):
        peer.start()
    try:
        for wrong in ({}, {"commitment_port": free_port()}):
            with pytest.raises(DestinationRejectedError, match="takes none of"):
                check(mute.port, **wrong)
        text = check(committing.port, commitment_port=free_port())
        assert text.endswith("proof by storage commitment")
    finally:
        mute.stop()
        committing.stop()


def test_doctor_shows_what_a_pacs_takes(tmp_path: Path) -> None:
    """A PACS without half of the classes is reported before the first case, per object."""
    kinds = SENT_KINDS[:4]
    peer = Peer(tmp_path / "peer", kinds=kinds).start()
    config = tmp_path / "tandem.toml"
    config.write_text(
        f'[[destinations]]\nkind = "dicom"\nname = "old"\nhost = "127.0.0.1"\nport = {peer.port}\n'
        'called_aet = "PEER"\n'
    )
    try:
        done = tandem("doctor", "--pacs", "old", "--config", config, check=False)
        assert done.returncode == 1
        assert done.stdout.count("NOT TAKEN") == len(SENT_KINDS) - len(kinds)
        assert "Segmentation Storage" in done.stdout and "Allow it in the PACS" in done.stdout
        config.write_text(f'[objects]\nsegmentation = "labelmap"\n{config.read_text()}')
        done = tandem("doctor", "--pacs", "old", "--config", config, check=False)
        assert done.stdout.count("NOT TAKEN") == len(SENT_KINDS) - len(kinds) + 1
        assert "Label Map" in done.stdout and "not asked" not in done.stdout
        config.write_text(f'{config.read_text()}dicom_slides = "send"\n')
        done = tandem("doctor", "--pacs", "old", "--config", config, check=False)
        assert done.stdout.count("not asked") == 1
        unknown = tandem("doctor", "--pacs", "new", "--config", config, check=False)
        assert unknown.returncode == 1 and "there are: old" in unknown.stderr

        section: dict[str, Any] = {"kind": "dicom", "host": "127.0.0.1", "called_aet": "PEER"}
        pacs = Pacs(PacsDestination(**section, port=peer.port))
        slide, report = tmp_path / "slide.dcm", tmp_path / "report.dcm"
        made_object(report, sop_class=Comprehensive3DSRStorage)
        jpeg = next(s for c, s in SENT_KINDS if c == VLWholeSlideMicroscopyImageStorage)
        made_object(slide, sop_class=VLWholeSlideMicroscopyImageStorage, syntax=jpeg)
        refused, stored = send(pacs, [parcel_of(report), parcel_of(slide)])
        assert (refused.verdict, stored.verdict) == (Verdict.NEVER, Verdict.STORED)
        assert "takes no Comprehensive 3D SR" in refused.text
    finally:
        peer.stop()
