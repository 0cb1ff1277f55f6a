"""Proof by a folder: the checksum of the object when it was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fixtures.damage import flip
from fixtures.instances import made_object

from appliance.artifacts import file_sha256
from appliance.delivery.destinations.contract import Instance, Proof
from appliance.delivery.destinations.folder import FolderArchive


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
