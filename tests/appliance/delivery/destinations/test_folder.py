"""Proof by a folder: the checksum of the object when it was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.damage import flip
from fixtures.instances import made_object

from appliance.artifacts import file_sha256
from appliance.delivery.destinations import folder
from appliance.delivery.destinations.contract import Instance, Proof
from appliance.delivery.destinations.folder import FileSetArchive, FolderArchive
from appliance.errors import DestinationUnavailableError
from dicom.status import FILE_GONE, Outcome, Verdict

UNREADABLE = Path("/proc/self/mem")
"""A file whose reading fails as that of a file on a share does: EIO."""


def test_a_copy_of_a_damaged_file_is_no_proof(tmp_path: Path) -> None:
    source = tmp_path / "object.dcm"
    instance = Instance(path=source, ref=made_object(source), sha256=file_sha256(source))
    uid = instance.ref.sop_instance_uid
    archive = FolderArchive("archive", tmp_path / "archive", ours=True)
    flip(source)
    archive.send([instance], lambda _: None, lambda *_: None)
    # The copy is equal to the file, and both are wrong.
    assert archive.prove([replace(instance, sha256="")])[uid].proof is Proof.THERE
    assert archive.prove([instance])[uid].proof is Proof.ABSENT
    flip(source)
    archive.send([instance], lambda _: None, lambda *_: None)
    assert archive.prove([instance])[uid].proof is Proof.THERE
    source.unlink()  # the state folder may be cleared after the sending
    assert archive.prove([instance])[uid].proof is Proof.THERE


@pytest.mark.parametrize("kind", [FolderArchive, FileSetArchive])
def test_a_share_that_goes_away_while_it_is_sent_to_is_not_made(
    tmp_path: Path, kind: type[FolderArchive]
) -> None:
    source, share = tmp_path / "object.dcm", tmp_path / "share"
    instance = Instance(path=source, ref=made_object(source), sha256=file_sha256(source))
    share.mkdir()
    archive = kind("archive", share, ours=False)
    with pytest.raises(DestinationUnavailableError):
        archive.send([instance], lambda _: share.rmdir(), lambda *_: None)
    assert not share.exists()
    share.mkdir()
    archive.send([instance], lambda _: None, lambda *_: None)
    assert archive.prove([instance])[instance.ref.sop_instance_uid].proof is Proof.THERE


def test_a_file_of_an_archive_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.dcm" for number in (1, 2)]
    both = [Instance(path=each, ref=made_object(each), sha256=file_sha256(each)) for each in paths]
    archive = FolderArchive("archive", tmp_path / "archive", ours=True)
    archive.send(both[:1], lambda _: None, lambda *_: None)
    (copy,) = (each for each in archive.folder.rglob("*") if each.is_file())
    copy.unlink()
    copy.symlink_to(UNREADABLE)
    archive.send(both[1:], lambda _: None, lambda *_: None)
    first, second = archive.prove(both).values()
    assert first.proof is Proof.UNKNOWN and "cannot be read (Input/output error)" in first.text
    assert second.proof is Proof.THERE
    archive.send(both[:1], lambda _: None, lambda *_: None)  # a person tries it again
    assert {each.proof for each in archive.prove(both).values()} == {Proof.THERE}


def test_an_archive_that_goes_away_while_it_is_read_blames_no_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, share = tmp_path / "object.dcm", tmp_path / "share"
    instance = Instance(path=source, ref=made_object(source), sha256=file_sha256(source))
    archive = FolderArchive("archive", share, ours=True)
    archive.send([instance], lambda _: None, lambda *_: None)

    def cut(path: Path) -> str:
        share.rename(tmp_path / "elsewhere")
        return file_sha256(path)

    monkeypatch.setattr(folder, "file_sha256", cut)
    with pytest.raises(DestinationUnavailableError, match="'archive' cannot be read"):
        archive.prove([instance])


def test_a_scanners_file_that_cannot_be_read_is_not_the_archives_trouble(tmp_path: Path) -> None:
    source = tmp_path / "object.dcm"
    good = Instance(path=source, ref=made_object(source))
    archive = FolderArchive("archive", tmp_path / "archive", ours=True)
    outcomes: list[Outcome] = []
    sent = replace(good, path=UNREADABLE)
    archive.send([sent], lambda _: None, lambda _, outcome: outcomes.append(outcome))
    assert [(each.verdict, each.text) for each in outcomes] == [(Verdict.LATER, FILE_GONE)]
    assert [each for each in archive.folder.rglob("*") if each.is_file()] == []
    archive.send([good], lambda _: None, lambda *_: None)
    (answer,) = archive.prove([sent]).values()
    assert answer.proof is Proof.UNKNOWN and "scanner's file" in answer.text
