"""A ledger and artifacts as the daemon leaves them, made by the appliance's own code."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.findings import HEIGHT_PX, MPP, WIDTH_PX, some_findings
from fixtures.pairings import HER2_PAIR
from fixtures.twins import as_twins, keep_twins, write_twins
from numpy.typing import NDArray
from PIL import Image

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import HE, HER2, Identity, Stain
from appliance.findings.codec import save_findings
from appliance.findings.findings import Findings
from appliance.findings.reasons import Reason, ReviewReason
from appliance.ledger.heartbeat import LaneSign, Sign, boot_id, born, write_sign
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.tables import CaseRow, SlideRow, id_of
from appliance.ledger.transaction import NewDelivery, Transaction
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings


@pytest.fixture(autouse=True)
def patient_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sign of life count however long a busy machine takes to draw a page."""
    monkeypatch.setattr("appliance.ledger.heartbeat.SILENT_SECONDS", 3600.0)


@pytest.fixture(autouse=True)
def server_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore `__main__`, and forget what pages shared: settings and ledger of the test before.

    Streamlit replaces `__main__` by each page and leaves it there; a process pool of a later test
    would then start its workers from a page.
    """
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    if "streamlit" in sys.modules:  # it takes a second to load
        sys.modules["streamlit"].cache_resource.clear()


def thumbnail(color: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    """Return an ellipse of textured tissue on white; px of 5 µm."""
    rows, columns = HEIGHT_PX * MPP / 5, WIDTH_PX * MPP / 5
    image = np.full((int(rows), int(columns), 3), 244, np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)
    center = (int(columns / 2), int(rows / 2))
    cv2.ellipse(mask, center, (int(columns * 0.4), int(rows * 0.38)), 12, 0, 360, 1, -1)
    noise = np.random.default_rng(seed).normal(0, 30, (mask.shape[0], mask.shape[1]))
    texture = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 3) * 4
    tissue = np.clip(np.array(color) + texture[..., None], 0, 255).astype(np.uint8)
    image[mask > 0] = tissue[mask > 0]
    return image


@dataclass
class Lab:
    """Ledger to which tests do what the daemon does; `now` is its clock."""

    settings: Settings
    ledger: Ledger
    now: float = 1_750_000_000.0

    def tick(self, seconds: float = 1.0) -> float:
        self.now += seconds
        return self.now

    def do(self, change: Callable[[Transaction, float], None]) -> None:
        with self.ledger.transaction() as tx:
            change(tx, self.tick())

    def arrive(self, name: str) -> int:
        with self.ledger.transaction() as tx:
            slide = tx.add_slide(str(self.settings.watch.folder / name), self.tick())
            assert slide.id is not None
            return slide.id

    def move_slide(self, slide_id: int, to: SlideState, **values: object) -> None:
        def change(tx: Transaction, now: float) -> None:
            row = tx.slide(slide_id)
            assert row is not None
            for name, value in values.items():
                setattr(row, name, value)
            tx.advance(row, to, now=now)

        self.do(change)

    def identify(
        self, slide_id: int, accession: str, block: str, stain: Stain, *, arrived: bool = False
    ) -> int:
        if not arrived:
            self.move_slide(slide_id, SlideState.ARRIVED)
        with self.ledger.transaction() as tx:
            row = tx.slide(slide_id)
            assert row is not None
            row.accession, row.block, row.stain = accession, block, stain
            case = tx.case_for(
                Identity(accession=accession, block=block, stain=stain), self.tick(), HER2_PAIR
            )
            case_id = id_of(case)
            tx.advance(
                row,
                SlideState.IDENTIFIED,
                now=self.tick(),
                code="identified",
                params={"stain": stain},
            )
        return case_id

    def identify_again(self, slide_id: int, accession: str, stain: Stain) -> int:
        """Take a slide that a person sent back through the line; return its case's id."""
        case_id = self.identify(slide_id, accession, "A1", stain, arrived=True)
        self.inspect(slide_id, stain)
        self.move_slide(slide_id, SlideState.READ)
        return case_id

    def inspect(self, slide_id: int, stain: Stain) -> None:
        color, seed = ((206, 140, 178), 1) if stain is HE else ((198, 176, 160), 2)
        key = ArtifactKey.of("inspect", slide=slide_id)
        with ArtifactStore(self.settings.artifacts_dir).writing(key) as folder:
            Image.fromarray(thumbnail(color, seed)).save(folder / "thumbnail.png")
        self.move_slide(slide_id, SlideState.INSPECTED, inspect_key=str(key))

    def slide(self, accession: str, stain: Stain, block: str = "A1") -> int:
        """Add a slide that is read; return its case's id."""
        slide_id = self.arrive(f"{accession}_{block}_{stain}.svs")
        case_id = self.identify(slide_id, accession, block, stain)
        self.inspect(slide_id, stain)
        self.move_slide(slide_id, SlideState.READ)
        return case_id

    def move_case(self, case_id: int, to: CaseState, **values: object) -> None:
        def change(tx: Transaction, now: float) -> None:
            row = tx.case(case_id)
            assert row is not None
            for name, value in values.items():
                setattr(row, name, value)
            tx.advance(row, to, now=now)

        self.do(change)

    def score(self, case_id: int, findings: Findings) -> None:
        key = ArtifactKey.of("findings", case=case_id)
        with ArtifactStore(self.settings.artifacts_dir).writing(key) as folder:
            save_findings(
                findings,
                folder,
                he_thumbnail=thumbnail((206, 140, 178), 1),
                ihc_thumbnail=thumbnail((198, 176, 160), 2),
            )
        self.move_case(case_id, CaseState.ALIGNED)
        self.move_case(
            case_id,
            CaseState.SCORED,
            findings_key=str(key),
            score=findings.score or "",
            review=json.dumps(
                [{"code": reason.code, "params": dict(reason.params)} for reason in findings.review]
            ),
        )

    def write(self, case_id: int, destinations: tuple[str, ...] = ("archive",)) -> None:
        def change(tx: Transaction, now: float) -> None:
            for destination in destinations:
                for kind in ("WSM", "SEG", "SR"):
                    tx.enqueue(
                        case_id,
                        NewDelivery(
                            destination=destination,
                            kind=kind,
                            path=f"{kind}.dcm",
                            study_uid="2.25.1",
                            series_uid="2.25.2",
                            sop_instance_uid=f"2.25.{case_id}.{len(kind)}.{ord(kind[0])}",
                            sop_class_uid="1.2.840",
                        ),
                        now,
                    )

        self.do(change)
        self.move_case(case_id, CaseState.WRITTEN)

    def deliver(self, case_id: int) -> None:
        def change(tx: Transaction, now: float) -> None:
            for row in tx.deliveries(case_id):
                row.attempts += 1
                tx.advance(row, DeliveryState.SENT, now=now)
                tx.advance(row, DeliveryState.PROVEN, now=now)

        self.do(change)
        self.move_case(case_id, CaseState.DELIVERED)

    def quarantine(self, name: str, reason: str, detail: str = "") -> int:
        slide_id = self.arrive(name)
        self.move_slide(slide_id, SlideState.ARRIVED)
        params = json.dumps({"detail": detail})
        self.move_slide(slide_id, SlideState.QUARANTINED, reason=reason, params=params)
        return slide_id

    def sign(self, log: str = "", **lanes: LaneSign) -> Sign:
        """Give a sign of life, as a daemon of this process whose log goes to `log`; return it."""
        now, pid = time.time(), os.getpid()
        given = Sign(
            at=now,
            monotonic=time.monotonic(),
            boot=boot_id(),
            pid=pid,
            born=born(pid),
            started=now,
            log=log,
            lanes=lanes,
        )
        write_sign(self.settings, given)
        return given

    def rows(self) -> tuple[list[SlideRow], list[CaseRow]]:
        with self.ledger.transaction() as tx:
            return tx.slides(), tx.cases()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Return an empty laboratory; TANDEM_CONFIG names its settings."""
    config = tmp_path / "tandem.toml"
    config.write_text(
        f'state_dir = "{tmp_path / "state"}"\n[watch]\nfolder = "{tmp_path / "scans"}"\n'
    )
    monkeypatch.setenv("TANDEM_CONFIG", str(config))
    settings = load_settings()
    ledger = Ledger(settings.ledger_url)
    yield Lab(settings, ledger)
    ledger.close()


@pytest.fixture(scope="module")
def twin_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Return a laboratory with case 1, scored, of slides 1 and 2, whose files are there.

    Of each file of tests its own: a case that was sent back has no result for the others.
    """
    folder = tmp_path_factory.mktemp("twins")
    made = Lab(
        Settings(state_dir=folder / "state"), Ledger(f"sqlite:///{folder}/state/ledger.sqlite")
    )
    twins = write_twins(folder)
    (folder / "tandem.toml").write_text(
        f'state_dir = "{folder / "state"}"\n[watch]\nfolder = "{folder}"\n'
    )
    for facts, stain in zip(twins, (HE, HER2), strict=True):
        slide_id = made.arrive(facts.path)
        made.identify(slide_id, "S26-0000001", "A1", stain)
        values = ("fingerprint", "width_px", "height_px", "mpp", "level_count", "format")
        held = {name: getattr(facts, name) for name in values}
        made.move_slide(slide_id, SlideState.INSPECTED)
        made.move_slide(slide_id, SlideState.READ, **held)
    made.move_case(1, CaseState.READY)
    found = as_twins(some_findings(), twins)
    key = keep_twins(found, made.settings)
    made.move_case(1, CaseState.ALIGNED)
    made.move_case(1, CaseState.SCORED, findings_key=str(key), score=found.score)
    yield made
    made.ledger.close()


@pytest.fixture
def findings() -> Findings:
    """Return findings with one reason for review."""
    return some_findings(
        review=(ReviewReason(code=Reason.NEAR_THRESHOLD.value, params={"band": 3.0}),)
    )
