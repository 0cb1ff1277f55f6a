"""Pictures of every page for the docs, of synthetic cases beside a daemon: ``make screenshots``.

Skipped unless TANDEM_SCREENSHOTS names the folder to write to. Each page is taken at two sizes, and
in dark mode at the first one.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fixtures.dashboard import dashboard_server, go_to, open_browser, running, zoom_of
from PIL import Image
from playwright.sync_api import Page, expect

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.findings.codec import load_findings
from appliance.geometry import TILE_UM
from appliance.ledger.reader import LedgerReader
from appliance.operations.users import Users
from appliance.settings.settings_file import load_settings
from models.synthesis.slides import synthesize_case

SIZES = {"wide": (1280, 720), "phone": (390, 844)}
MOST_BYTES, MOST_TOGETHER = 150_000, 4_000_000
PAGES = {  # the ledger gives the numbers of case and slide
    "today": "/",
    "worklist": "/worklist",
    "case": "",
    "slide": "",
    "quality": "/quality",
    "system": "/system",
    "record": "/record",
    "first-run": "/first-run",
    "names": "/access/names",
}
SECRET = "several words are good"  # noqa: S105  of a made user
MEMBRANES_PX_PER_UM = 1.6
LIMIT_MS = 600_000

pytestmark = [
    pytest.mark.judge,
    pytest.mark.slow,
    pytest.mark.skipif("TANDEM_SCREENSHOTS" not in os.environ, reason="make screenshots"),
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the settings of a site where people sign in, and its one user."""
    (tmp_path / "scans").mkdir()
    file = tmp_path / "tandem.toml"
    file.write_text(
        f'state_dir = "{tmp_path / "state"}"\norganization = "Laboratory (synthetic)"\n'
        f'[watch]\nfolder = "{tmp_path / "scans"}"\nstable_seconds = 1.0\nrescan_seconds = 1.0\n'
        'patience_seconds = 5.0\n[models]\ndevice = "cpu"\n[dashboard]\nlogin = "always"\n'
    )
    settings = load_settings(file)
    settings.state_dir.mkdir()
    Users(settings).add("anna", "admin", "Meyer^Anna", SECRET)
    return file


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Fill the scanner's folder: a pair, one slide without partner, one that is no slide."""
    folder, made = tmp_path / "scans", tmp_path / "made"
    made.mkdir()
    case = synthesize_case(made, seed=26, score="2+", width_px=6144, height_px=4608)
    other = synthesize_case(made, seed=31, score="1+", width_px=2048, height_px=1536)
    for accession, stain, slide in (
        ("S26-0000026", "HE", case.he_path),
        ("S26-0000026", "HER2", case.ihc_path),
        ("S26-0000031", "HE", other.he_path),
    ):
        shutil.copy2(slide, folder / f"{accession}_A1_{stain}{slide.suffix}")
    (folder / "scan_0007.svs").write_bytes(b"not a slide")
    return folder


@pytest.fixture
def page(config: Path, scans: Path, tmp_path: Path) -> Iterator[Page]:
    tandem = str(Path(sys.executable).with_name("tandem"))
    with (
        running([tandem, "run", "--config", str(config)], tmp_path / "daemon.log"),
        dashboard_server(config, tmp_path / "dashboard.log") as address,
        open_browser() as browser,
    ):
        opened = browser.new_page(base_url=address)
        opened.set_default_timeout(120_000)
        yield opened


def save(page: Page, name: str) -> int:
    """Write what the page shows as PNG, smaller where it is large; return its bytes.

    `MAXCOVERAGE` keeps rare colors, such as those of the keys of overlays.
    """
    file = Path(os.environ["TANDEM_SCREENSHOTS"]) / f"page-{name}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    for share in (1.0, 0.8, 0.7, 0.6, 0.5):
        size = round(picture.width * share), round(picture.height * share)
        picture.resize(size, Image.Resampling.LANCZOS).quantize(
            256, Image.Quantize.MAXCOVERAGE
        ).save(file, optimize=True)
        if file.stat().st_size <= MOST_BYTES:
            break
    return file.stat().st_size


def settle(page: Page, name: str, place_um: tuple[float, float]) -> None:
    """Wait until a page is whole; show membranes in the deep zoom of the case."""
    if name == "names":
        expect(page.get_by_role("button", name="Hide names")).to_be_visible()
        return
    expect(page.get_by_text("a pathologist decides.")).to_be_visible(timeout=120_000)
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0)
    if name == "first-run":  # no folder of the machine that makes the pictures
        page.get_by_label("Folder of slides").fill("/mnt/scanner")
    if name == "case":
        frame = zoom_of(page)
        for box in frame.get_by_role("checkbox", name="Tumor on").all():
            box.uncheck()
        go_to(frame, "he", place_um, MEMBRANES_PX_PER_UM)
        zoom_of(page)
    page.wait_for_timeout(1500)


@pytest.mark.timeout(1500)
def test_pictures_of_every_page(page: Page, config: Path) -> None:
    sizes: list[int] = []
    page.set_viewport_size(dict(zip(("width", "height"), SIZES["wide"], strict=True)))
    page.goto("/")
    sizes.append(save(page, "sign-in-wide"))
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(SECRET)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("row").filter(has_text="S26-0000026").first).to_contain_text(
        "Delivered", timeout=LIMIT_MS
    )
    case = str(page.get_by_role("link", name="S26-0000026", exact=True).get_attribute("href"))
    slide = str(page.get_by_role("link", name="put right").first.get_attribute("href"))
    place_um = stained_place(config, int(case.rpartition("=")[2]))
    for name, address in (PAGES | {"case": f"/{case}", "slide": f"/{slide}"}).items():
        page.goto(address)
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            settle(page, name, place_um)
            sizes.append(save(page, f"{name}-{size}"))
        page.set_viewport_size(dict(zip(("width", "height"), SIZES["wide"], strict=True)))
        page.emulate_media(color_scheme="dark")
        settle(page, name, place_um)
        sizes.append(save(page, f"{name}-dark"))
        page.emulate_media(color_scheme="light")
    page.goto("/access/names")
    page.get_by_role("button", name="Hide names").click()
    settle(page, "today", place_um)
    sizes.append(save(page, "today-hidden"))
    assert max(sizes) <= MOST_BYTES and sum(sizes) <= MOST_TOGETHER
    assert len(sizes) == 2 + 3 * len(PAGES)


def stained_place(config: Path, case_id: int) -> tuple[float, float]:
    """Return the middle of the most stained tile in the midst of others, in µm of the H&E slide."""
    settings = load_settings(config)
    reader = LedgerReader(settings.ledger_url)
    with reader.reading() as tx:
        row = tx.case(case_id)
    reader.close()
    assert row is not None
    key = ArtifactKey.parse(row.findings_key)
    findings = load_findings(ArtifactStore(settings.artifacts_dir).path(key))
    places = {(each.he_column, each.he_row): each for each in findings.tiles}

    def rank(place: tuple[int, int]) -> tuple[int, int, float]:
        column, row = place
        around = [(column + dx, row + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        tile = places[place]
        return sum(each in places for each in around), tile.grade, -tile.percent[0]

    tile = places[max(places, key=rank)]
    return (tile.he_column + 0.5) * TILE_UM, (tile.he_row + 0.5) * TILE_UM
