"""The dashboard in a browser beside the daemon: a case goes from waiting to delivered."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from fixtures.judges import require_judge
from fixtures.manager import Manager
from playwright.sync_api import Browser, Page, expect, sync_playwright

from appliance.domain import Her2Score
from appliance.findings.findings import RESEARCH_USE
from models.synthesis.slides import synthesize_case

CHROMIUM_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
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
    """Start Debian's Chromium."""
    require_judge("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(CHROMIUM_ARGUMENTS)
        )
        yield chromium
        chromium.close()


@contextmanager
def running(
    arguments: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that is stopped by SIGTERM; its output goes to `log`."""
    env = os.environ | dict(environment or {})
    with (
        log.open("wb") as stream,
        subprocess.Popen(arguments, stdout=stream, stderr=subprocess.STDOUT, env=env) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def dashboard_server(config: Path, log: Path) -> Iterator[str]:
    """Return the dashboard's address, once the server responds."""
    port = free_port()
    command = [sys.executable, "-m", "dashboard.serve", "--config", str(config)]
    manager = Manager(log.parent)
    with (
        closing(manager),
        running([*command, "--port", str(port)], log, manager.environment) as process,
    ):
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):  # noqa: S310
                    break
            except OSError:
                alive = process.poll() is None
                assert alive and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        manager.wait("READY=1")
        manager.wait("WATCHDOG=1")
        yield address


def wait_for_ledger(config: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while not (config.parent / "state" / "ledger.sqlite").is_file():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def arrive(slide: Path, scans: Path, name: str) -> None:
    """Copy a file slowly, as over a network share, so that it is seen while it grows."""
    with slide.open("rb") as source, (scans / name).open("wb") as target:
        while chunk := source.read(4 << 20):
            target.write(chunk)
            target.flush()


def screenshot(page: Page, name: str, tmp_path: Path) -> None:
    folder = Path(os.environ.get("TANDEM_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / name)


def pictures_differ(page: Page) -> list[bool]:
    """Return for each picture whether switching overlays off changes it; overlays are left on."""
    switch = page.get_by_text("Overlays", exact=True)
    images = page.locator('[data-testid="stImage"] img')
    expect(images).to_have_count(2)
    before = [images.nth(i).get_attribute("src") for i in range(2)]
    switch.click()
    for i in range(2):
        expect(images.nth(i)).not_to_have_attribute("src", before[i] or "", timeout=120_000)
    after = [images.nth(i).get_attribute("src") for i in range(2)]
    switch.click()
    for i in range(2):
        expect(images.nth(i)).to_have_attribute("src", before[i] or "", timeout=120_000)
    return [a != b for a, b in zip(before, after, strict=True)]


def wait_for_pictures(page: Page, count: int) -> None:
    """Wait until so many pictures are on the page, loaded and decoded."""
    page.wait_for_function(
        """count => {
            const all = [...document.querySelectorAll('[data-testid="stImage"] img')];
            return all.length == count
                && all.every(image => image.complete && image.naturalWidth > 100);
        }""",
        arg=count,
        timeout=60_000,
    )


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
        expect(page.get_by_text(RESEARCH_USE).first).to_be_visible(timeout=60_000)
        expect(page.get_by_text("No case yet.")).to_be_visible(timeout=60_000)
        page.evaluate("window.neverReloaded = true")

        # An unusable file is shown as trouble, with a remedy, first on the page.
        (scans / "notes_HE.svs").write_bytes(b"not a slide")
        arrive(case.he_path, scans, f"{ACCESSION}_A1_HE{case.he_path.suffix}")
        expect(page.get_by_role("link", name=ACCESSION, exact=True)).to_be_visible(timeout=120_000)
        row = page.get_by_role("row").filter(
            has=page.get_by_role("link", name=ACCESSION, exact=True)
        )
        expect(row).to_contain_text("Waiting for slides")
        expect(page.locator(".td-trouble")).to_contain_text("notes_HE.svs", timeout=60_000)
        expect(page.locator(".td-trouble .remedy").first).not_to_be_empty()

        arrive(case.ihc_path, scans, f"{ACCESSION}_A1_HER2{case.ihc_path.suffix}")
        expect(row).to_contain_text("Delivered", timeout=SCORING_LIMIT_MS)
        # Other tests check the score; here every page must show the same one.
        score = row.locator(".score").inner_text()
        assert score in set(Her2Score)
        assert page.evaluate("window.neverReloaded === true"), "the page was loaded again"
        screenshot(page, "dashboard-queue.png", tmp_path)

        page.get_by_role("link", name=ACCESSION, exact=True).click()
        expect(page.get_by_role("heading", name=f"{ACCESSION} · block A1")).to_be_visible(
            timeout=60_000
        )
        assert page.url.startswith(f"{address}/case?case=")
        expect(page.get_by_text(RESEARCH_USE).first).to_be_visible()
        expect(page.get_by_test_id("score")).to_have_text(score)
        expect(page.get_by_test_id("class-legend")).to_contain_text("3+")
        expect(page.get_by_text("Structured report")).to_be_visible()
        expect(page.get_by_text("Proven").first).to_be_visible()
        assert pictures_differ(page) == [True, True]
        wait_for_pictures(page, 2)
        # The page scrolls in an inner element: a full-page screenshot needs a window as tall as the
        # page.
        page.set_viewport_size({"width": 1400, "height": 1800})
        page.wait_for_timeout(500)
        screenshot(page, "dashboard-case.png", tmp_path)

        # A deep link shows the same page in another session.
        other = browser.new_context().new_page()
        other.goto(page.url)
        expect(other.get_by_test_id("score")).to_have_text(score, timeout=60_000)
        assert not foreign, "the dashboard must work without any other machine"
        assert daemon.poll() is None


def test_a_change_comes_to_the_page_by_itself(
    config: Path, browser: Browser, tmp_path: Path
) -> None:
    """No reload and no click; how often a page looks is a constant, not a time measured here."""
    from appliance.ledger.ledger import Ledger
    from appliance.ledger.lifecycle import SlideState
    from appliance.settings.settings_file import load_settings
    from dashboard.views import look

    ledger = Ledger(load_settings(config).ledger_url)
    with dashboard_server(config, tmp_path / "dashboard.log") as address:
        page = browser.new_page()
        page.goto(address)
        expect(page.get_by_text("No slide yet.")).to_be_visible(timeout=60_000)
        for number in range(3):
            with ledger.transaction() as tx:
                slide = tx.add_slide(f"{number}.svs", time.time())
            page.get_by_text(f"{number}.svs", exact=True).wait_for(timeout=60_000)
            with ledger.transaction() as tx:
                again = tx.slide(slide.id or 0)
                assert again is not None
                again.reason = "unreadable"
                tx.advance(again, SlideState.QUARANTINED, now=time.time())
            page.locator(".td-trouble").get_by_text(f"{number}.svs", exact=True).wait_for(
                timeout=60_000
            )
    assert look.REFRESH_SECONDS <= 2
    ledger.close()
