"""Bits that flip in the state folder: nothing wrong is sent, and the case ends delivered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.daemon import Daemon, case_state, tandem
from fixtures.damage import flip
from fixtures.peer import Peer, dataset_digest

from models.synthesis.slides import SyntheticCase


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A written case, none of whose objects can be sent yet: its archive and its PACS are away."""

    daemon: Daemon
    archive: Path
    peer: Peer

    @contextmanager
    def receiving(self) -> Iterator[Daemon]:
        """Bring archive and PACS back, and run the daemon."""
        self.archive.mkdir()
        self.peer.start()
        try:
            yield self.daemon.start()
            self.daemon.stop()
        finally:
            self.daemon.close()
            self.peer.stop()


@pytest.fixture(scope="module")
def written(
    small_case: SyntheticCase, readings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Held:
    """Analyze a case, and keep a copy of the state folder beside it."""
    folder = tmp_path_factory.mktemp("damage")
    peer, archive = Peer(folder / "peer"), folder / "archive"
    daemon = Daemon(folder / "appliance")
    daemon.config.write_text(
        daemon.config.read_text()
        + f'[[destinations]]\nkind = "folder"\nfolder = {json.dumps(str(archive))}\n'
        + f'[[destinations]]\nkind = "dicom"\nhost = "127.0.0.1"\nport = {peer.port}\n'
        + 'called_aet = "PEER"\ntimeout_seconds = 120\n'
    )
    daemon.drop(small_case.he_path, small_case.ihc_path)
    try:
        daemon.has_read(readings).start()
        daemon.wait(case_state("written"))
        daemon.stop()
    finally:
        daemon.close()
    shutil.copytree(daemon.state, folder / "copy")
    return Held(daemon=daemon, archive=archive, peer=peer)


@pytest.fixture
def held(written: Held) -> Held:
    """Return the case as it was written; an earlier test's traces are removed."""
    folder = written.archive.parent
    for traces in (written.daemon.state, written.archive, written.peer.folder):
        shutil.rmtree(traces, ignore_errors=True)
    shutil.copytree(folder / "copy", written.daemon.state)
    written.peer.folder.mkdir()
    written.peer.contents.clear()
    written.peer.arrivals.clear()
    return written


def objects_of(daemon: Daemon) -> dict[str, Path]:
    """Files of the case's objects by SOP Instance UID."""
    (index,) = (daemon.state / "artifacts" / "objects").glob("*/objects.json")
    entries = json.loads(index.read_text())["objects"]
    return {e["sop_instance_uid"]: daemon.state / "artifacts" / e["path"] for e in entries}


def words_of(status: dict[str, Any]) -> str:
    """Events of the case as people read them."""
    return "\n".join(event["text"] for event in status["cases"][0]["steps"])


def test_objects_flipped_before_they_are_sent(held: Held) -> None:
    files = objects_of(held.daemon)
    right = {uid: file.read_bytes() for uid, file in files.items()}
    digests = {uid: dataset_digest(file) for uid, file in files.items()}
    for file in files.values():  # each object: slides, overlays, report, page
        flip(file, at=len(file.read_bytes()) // 2)
    with held.receiving() as daemon:
        status = daemon.wait(case_state("delivered"))
    assert {path.stem: path.read_bytes() for path in held.archive.rglob("*.dcm")} == right
    assert held.peer.contents == {uid: {digest} for uid, digest in digests.items()}
    assert len(held.peer.arrivals) == len(right)  # none twice
    assert "is damaged; it is written again" in words_of(status)


def test_findings_and_readings_flipped_before_a_rerun(held: Held) -> None:
    artifacts = held.daemon.state / "artifacts"
    (findings,) = (artifacts / "findings").iterdir()
    first = json.loads((findings / "findings.json").read_text())
    for damaged in (
        *artifacts.glob("inspect/*/tissue.npz"),
        *artifacts.glob("tumor/*/*/probability.npy"),
        *artifacts.glob("align/*/mapping.npz"),
        *artifacts.glob("stain/*/pass.json"),
        findings / "findings.json",
        *artifacts.glob("objects/*/sr.dcm"),
    ):
        flip(damaged, at=200 if damaged.stat().st_size > 400 else -1)
    with held.receiving() as daemon:
        status = daemon.wait(case_state("delivered"))
    (case,) = status["cases"]
    assert case["score"] == first["score"]
    assert json.loads((findings / "findings.json").read_text()) == first
    (probability,) = artifacts.glob("tumor/*/*/probability.npy")
    assert np.nanmax(np.load(probability)) > 0.5
    said = words_of(status)
    assert "its stored findings are damaged" in said
    assert "was not what was written" in said
    sent = {uid for uid, _ in held.peer.arrivals}
    assert len(sent) == len(held.peer.arrivals) == len(objects_of(held.daemon))


def test_a_persons_correction_outlives_damage(held: Held) -> None:
    with held.receiving() as daemon:
        before = daemon.wait(case_state("delivered"))["cases"][0]
        other = "1+" if before["score"] != "1+" else "2+"
        arguments = ("--by", "Meyer^Anna", "--why", "Only cytoplasm.", "--config", daemon.config)
        tandem("correct", "case-1", "--score", other, *arguments)
        daemon.wait(lambda s: case_state("delivered")(s) and s["cases"][0]["score"] == other)
        findings = [
            path
            for path in (daemon.state / "artifacts" / "findings").glob("*/findings.json")
            if json.loads(path.read_text())["correction"] is not None
        ]
        (corrected,) = findings
        text = corrected.read_text()
        flip(corrected)
        tandem("rerun", "case-1", "--config", daemon.config)
        status = daemon.wait(lambda s: case_state("delivered")(s) and "rerun" in words_of(s))
    assert status["cases"][0]["score"] == other
    assert corrected.read_text() == text
