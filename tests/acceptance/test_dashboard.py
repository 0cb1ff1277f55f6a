"""The dashboard in a browser beside the daemon: a case goes from waiting to delivered."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import openslide
import pytest
from fixtures.dashboard import (
    dashboard_server,
    go_to,
    linked,
    open_browser,
    running,
    wait_for_zoom,
    zoom_of,
)
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, TimeoutError, expect
from pydicom import dcmread

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import Her2Score
from appliance.findings.codec import load_findings
from appliance.findings.findings import RESEARCH_USE, Findings
from appliance.ledger.reader import LedgerReader
from appliance.settings.settings_file import load_settings
from models.synthesis.slides import synthesize_case

ACCESSION = "S26-0004711"
SCORING_LIMIT_MS = 600_000
"""Milliseconds for a small case on two shared cores, with the start of the worker."""

pytestmark = [pytest.mark.judge, pytest.mark.slow]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write settings with short timeouts."""
    (tmp_path / "scans").mkdir()
    file = tmp_path / "tandem.toml"
    file.write_text(
        f'state_dir = "{tmp_path / "state"}"\n'
        "[watch]\n"
        f'folder = "{tmp_path / "scans"}"\n'
        "stable_seconds = 1.0\n"
        "rescan_seconds = 1.0\n"
        "patience_seconds = 5.0\n"
        "[models]\n"
        'device = "cpu"\n'
    )
    return file


@pytest.fixture
def browser() -> Iterator[Browser]:
    with open_browser() as chromium:
        yield chromium


def wait_for_ledger(config: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 720
    while not (config.parent / "state" / "ledger.sqlite").is_file():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def arrive(slide: Path, scans: Path, name: str) -> None:
    """Copy a file slowly, as over a network share, so that it is seen while it grows."""
    with slide.open("rb") as source, (scans / name).open("wb") as target:
        while chunk := source.read(4 << 20):
            target.write(chunk)
            target.flush()


def other_page(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport={"width": 1240, "height": 470})
    page.goto(address)
    wait_for_zoom(page)
    return page


def findings_of(config: Path) -> Findings:
    settings = load_settings(config)
    reader = LedgerReader(settings.ledger_url)
    with reader.reading() as tx:
        row = tx.case(1)
    reader.close()
    assert row is not None
    return load_findings(
        ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(row.findings_key))
    )


def check_zoom(page: Page, address: str, findings: Findings) -> None:
    """Check the scanner's px, and that both slides show one tissue at four places of the tumor."""
    tiles = findings.tiles
    tile = tiles[len(tiles) // 2]
    left, top = (int(n * 143 / findings.ihc.mpp) // 512 for n in (tile.column, tile.row))
    with openslide.OpenSlide(findings.ihc.path) as slide:
        seen = np.asarray(slide.read_region((left * 512, top * 512), 0, (512, 512)).convert("RGB"))
        size = (
            min(512, findings.ihc.width_px - left * 512),
            min(512, findings.ihc.height_px - top * 512),
        )
    described = page.evaluate("fetch('1/case.json').then((answer) => answer.json())")
    source, highest = (described["slides"]["ihc"][key] for key in ("tiles", "highest"))
    url = f"{address}/{source.removeprefix('../')}{highest}/{left}_{top}.jpg"
    with urllib.request.urlopen(url, timeout=300) as answer:  # noqa: S310  our own server
        shown = np.asarray(Image.open(BytesIO(answer.read())))
    assert np.abs(shown.astype(int) - seen[: size[1], : size[0]]).mean() < 4
    page.evaluate("window.tandemZoom.slides.he.viewer.viewport.setRotation(30, true)")
    for tile in tiles[:: max(1, len(tiles) // 4)][:4]:
        place = ((tile.he_column + 0.5) * 143, (tile.he_row + 0.5) * 143)
        go_to(page, "he", place, 1.0)
        he_um, ihc_um = linked(page, (0, 0))
        assert np.hypot(*(np.array(he_um) - place)) < 1
        (wanted,) = findings.mapping.forward(np.array([he_um]))
        assert np.hypot(*(wanted - ihc_um)) < 50
    page.close()


def confirm(page: Page, config: Path) -> None:
    """Confirm the case on the screen; the daemon writes a report that is VERIFIED by the person."""
    page.get_by_role("button", name="Confirm", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Your name").fill("Meyer^Anna")
    dialog.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("confirmed by Meyer^Anna").first).to_be_visible(timeout=180_000)
    expect(page.locator(".td-line")).to_contain_text("Delivered", timeout=SCORING_LIMIT_MS)
    history = page.get_by_role("tab", name="History")
    expect(history).to_have_count(1, timeout=180_000)  # while a page is drawn anew there are two
    history.click()
    row = page.get_by_role("row").filter(has_text="confirmed by Meyer^Anna").first
    expect(row.get_by_role("cell").last).to_have_text("Meyer^Anna")
    archive = config.parent / "state" / "archive"
    headers = [dcmread(path, stop_before_pixels=True) for path in archive.rglob("*.dcm")]
    flags = {header.VerificationFlag for header in headers if header.Modality == "SR"}
    assert flags == {"UNVERIFIED", "VERIFIED"}


def choose_first(page: Page, box: Locator, text: re.Pattern[str]) -> None:
    """Choose the first option of a box; a page that is drawn meanwhile closes the list again."""
    first = page.get_by_role("option").first
    for _ in range(20):
        box.click()
        try:
            expect(first).to_have_text(text, timeout=5_000)
            first.click(timeout=5_000)
            expect(box).to_have_value(text, timeout=5_000)
        except (AssertionError, TimeoutError):
            page.keyboard.press("Escape")
            continue
        return
    expect(box).to_have_value(text)


def try_pair(browser: Browser, address: str) -> Page:
    """Choose the pair on the page of the first run; return the page, which follows the pair."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(f"{address}/first-run")
    form = page.locator('[data-testid="stForm"]').filter(has_text="Stained slide of the same block")
    expect(form).to_be_visible()
    for box, stain in (("H&E slide", "HE"), ("Stained slide of the same block", "HER2")):
        chosen = form.get_by_role("combobox", name=box)
        expect(chosen).to_have_value("")
        # The file that is no slide is set aside, and so is not the one that is offered first.
        choose_first(page, chosen, re.compile(rf"{ACCESSION}_A1_{stain}\b"))
    form.get_by_role("textbox", name="Your name").fill("Meyer^Anna")
    form.get_by_role("button", name="Analyze this pair").click()
    expect(page.get_by_role("link", name=f"{ACCESSION}_A1_HER2", exact=False)).to_be_visible()
    return page


@pytest.mark.timeout(1500)
def test_a_case_is_seen_from_arrival_to_delivery(
    config: Path, browser: Browser, tmp_path: Path
) -> None:
    scans = tmp_path / "scans"
    made = tmp_path / "made"
    made.mkdir()
    case = synthesize_case(made, seed=11, score="2+", width_px=4096, height_px=3072)
    daemon_log = tmp_path / "daemon.log"
    tandem = str(Path(sys.executable).with_name("tandem"))
    with (
        running([tandem, "run", "--config", str(config)], daemon_log) as daemon,
        dashboard_server(config, tmp_path / "dashboard.log") as address,
    ):
        wait_for_ledger(config, daemon, daemon_log)
        page = browser.new_page(viewport={"width": 1400, "height": 950})
        foreign: list[str] = []
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(
                    (address, address.replace("http", "ws"), "data:", "blob:")
                )
                else foreign.append(request.url)
            ),
        )
        page.goto(address)
        expect(page.get_by_text(RESEARCH_USE).first).to_be_visible(timeout=180_000)
        expect(page.get_by_text("No case yet.")).to_be_visible(timeout=180_000)
        page.evaluate("window.neverReloaded = true")

        # An unusable file is shown as trouble, with a remedy, first on the page.
        (scans / "notes_HE.svs").write_bytes(b"not a slide")
        arrive(case.he_path, scans, f"{ACCESSION}_A1_HE{case.he_path.suffix}")
        expect(page.get_by_role("link", name=ACCESSION, exact=True)).to_be_visible(timeout=360_000)
        row = page.get_by_role("row").filter(
            has=page.get_by_role("link", name=ACCESSION, exact=True)
        )
        expect(row).to_contain_text("Waiting for slides")
        expect(page.locator(".td-trouble")).to_contain_text("notes_HE.svs", timeout=180_000)
        expect(page.locator(".td-trouble .remedy").first).not_to_be_empty()

        arrive(case.ihc_path, scans, f"{ACCESSION}_A1_HER2{case.ihc_path.suffix}")
        expect(row).not_to_contain_text("Waiting for slides")
        first_run = try_pair(browser, address)
        expect(row).to_contain_text("Delivered", timeout=SCORING_LIMIT_MS)
        # Other tests check the score; here every page must show the same one.
        score = row.locator(".score").inner_text()
        assert score in set(Her2Score)
        expect(first_run.get_by_text("These settings work")).to_be_visible()
        first_run.close()
        assert page.evaluate("window.neverReloaded === true"), "the page was loaded again"

        page.set_viewport_size({"width": 1280, "height": 720})
        page.get_by_role("link", name=ACCESSION, exact=True).click()
        expect(page.get_by_role("heading", name=f"{ACCESSION} · block A1")).to_be_visible(
            timeout=180_000
        )
        assert page.url.startswith(f"{address}/case?case=")
        expect(page.get_by_text(RESEARCH_USE).first).to_be_visible()
        expect(page.get_by_test_id("score")).to_have_text(score)
        zoom_of(page)
        check_zoom(other_page(browser, f"{address}/zoom/1"), address, findings_of(config))
        confirm(page, config)

        # A deep link shows the same page in another session.
        other = browser.new_context().new_page()
        other.goto(page.url)
        expect(other.get_by_test_id("score")).to_have_text(score, timeout=180_000)
        assert not foreign, "the dashboard must work without any other machine"
        assert daemon.poll() is None


def test_a_change_comes_to_the_page_by_itself(
    config: Path, browser: Browser, tmp_path: Path
) -> None:
    """No reload and no click; how often a page looks is a constant, not a time measured here."""
    from appliance.ledger.ledger import Ledger
    from appliance.ledger.lifecycle import SlideState
    from dashboard.views import look

    ledger = Ledger(load_settings(config).ledger_url)
    with dashboard_server(config, tmp_path / "dashboard.log") as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.get_by_text("No slide yet.")).to_be_visible(timeout=180_000)
        for number in range(3):
            with ledger.transaction() as tx:
                slide = tx.add_slide(f"{number}.svs", time.time())
            page.get_by_text(f"{number}.svs", exact=True).wait_for(timeout=180_000)
            with ledger.transaction() as tx:
                again = tx.slide(slide.id or 0)
                assert again is not None
                again.reason = "unreadable"
                tx.advance(again, SlideState.QUARANTINED, now=time.time())
            page.locator(".td-trouble").get_by_text(f"{number}.svs", exact=True).wait_for(
                timeout=180_000
            )
    assert look.REFRESH_SECONDS <= 2
    ledger.close()
