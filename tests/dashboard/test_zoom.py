"""Tiles and overlays of the deep zoom over HTTP, against slides on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openslide
import pytest
from fixtures.damage import flip
from fixtures.hints import HINT_CELL_UM, HINT_PLACES, keep_hint
from fixtures.twins import HEIGHT_PX, MPP, WIDTH_PX
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.findings.codec import load_findings, save_findings
from appliance.findings.findings import Findings
from appliance.findings.overlay import PROBABILITY_COLORS
from appliance.geometry import TILE_UM
from appliance.ledger.hints import Hint, note_hint
from appliance.settings.settings import Settings
from dashboard.assay_facts import class_colors
from dashboard.guard import NAMES, Guard, is_own_machine
from dashboard.zoom.overlay_tiles import Overlays, regions
from dashboard.zoom.routes import zoom_routes
from dashboard.zoom.slide_tiles import MOST_OPEN, TILE_PX, OpenSlides, highest_level

if TYPE_CHECKING:
    from conftest import Lab

HIGHEST = highest_level(WIDTH_PX, HEIGHT_PX)


@pytest.fixture(scope="module")
def twin_case(twin_lab: Lab) -> Findings:
    """Return the findings of case 1."""
    key = ArtifactKey.parse(twin_lab.rows()[1][0].findings_key)
    return load_findings(ArtifactStore(twin_lab.settings.artifacts_dir).path(key))


@pytest.fixture(scope="module")
def client(twin_lab: Lab) -> TestClient:
    app = Starlette(routes=zoom_routes(twin_lab.settings), middleware=[Middleware(Guard)])
    return TestClient(app, base_url="http://127.0.0.1:8501")


def pixels(answer: object) -> NDArray[np.uint8]:
    data: bytes = answer.content  # type: ignore[attr-defined]
    return np.asarray(Image.open(BytesIO(data)))


def test_the_highest_level_has_the_scanners_px(client: TestClient, twin_case: Findings) -> None:
    for slide_id, facts in enumerate((twin_case.he, twin_case.ihc), start=1):
        with openslide.OpenSlide(facts.path) as slide:
            for column, row in ((0, 0), (3, 2), (WIDTH_PX // TILE_PX, HEIGHT_PX // TILE_PX)):
                answer = client.get(f"/tiles/{slide_id}/{HIGHEST}/{column}_{row}.jpg")
                assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
                shown = pixels(answer)
                left, top = column * TILE_PX, row * TILE_PX
                size = min(TILE_PX, WIDTH_PX - left), min(TILE_PX, HEIGHT_PX - top)
                seen = np.asarray(slide.read_region((left, top), 0, size).convert("RGB"))
                # JPEG changes px by little; a tile that is one px off changes them by more.
                assert shown.shape == seen.shape
                error = np.abs(shown.astype(int) - seen).mean()
                moved = np.abs(shown[:, 1:].astype(int) - seen[:, :-1]).mean()
                assert error < 1.5 and 3 * error < moved


def test_a_lower_level_is_the_whole_slide_in_one_tile(
    client: TestClient, twin_case: Findings
) -> None:
    level = HIGHEST - 3
    shown = pixels(client.get(f"/tiles/1/{level}/0_0.jpg"))
    assert shown.shape == (-(-HEIGHT_PX // 8), -(-WIDTH_PX // 8), 3)
    columns, rows = WIDTH_PX // 8, HEIGHT_PX // 8
    with openslide.OpenSlide(twin_case.he.path) as slide:
        whole = slide.read_region((0, 0), 0, (columns * 8, rows * 8)).convert("RGB")
    seen = np.asarray(whole.resize((columns, rows), Image.Resampling.BOX)).astype(int)
    error = np.abs(shown[:rows, :columns] - seen).mean()
    assert 3 * error < np.abs(shown[:rows, 1:columns] - seen[:, :-1]).mean()
    for address in (f"{level}/1_0", f"{HIGHEST}/99_0", f"{HIGHEST + 1}/0_0", f"{HIGHEST}/0_99"):
        assert client.get(f"/tiles/1/{address}.jpg").status_code == 404


def test_several_tiles_at_once_are_the_same_tiles(client: TestClient, twin_case: Findings) -> None:
    places = [
        f"/tiles/{slide}/{HIGHEST}/{c}_{r}.jpg" for slide in (1, 2) for c in (1, 2) for r in (0, 1)
    ]
    one_by_one = [client.get(place).content for place in places]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda place: client.get(place).content, places)) == one_by_one


def test_open_slides_are_bounded_and_close(
    twin_lab: Lab, twin_case: Findings, tmp_path: Path
) -> None:
    slides = OpenSlides(ArtifactStore(twin_lab.settings.artifacts_dir))
    for number in range(MOST_OPEN + 3):
        copy = tmp_path / f"{number}.tiff"
        shutil.copyfile(twin_case.he.path, copy)
        with slides.reading(replace(twin_case.he, path=str(copy))) as reader:
            reader.read_window(8, 0, 0, 8, 8)
    files = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed since it was listed
            files.append(each.readlink())
    opened = {str(file) for file in files if file.is_relative_to(tmp_path)}
    assert len(opened) <= MOST_OPEN
    assert str(tmp_path / f"{MOST_OPEN + 2}.tiff") in opened
    assert str(tmp_path / "0.tiff") not in opened


def test_a_slide_that_is_away_or_another_file_is_told_not_shown(
    client: TestClient, twin_lab: Lab, twin_case: Findings, tmp_path: Path
) -> None:
    copy = tmp_path / "slide.tiff"
    shutil.copyfile(twin_case.he.path, copy)

    def lie_at(path: str) -> None:
        with twin_lab.ledger.transaction() as tx:
            row = tx.slide(1)
            assert row is not None
            row.path = path
            tx.session.add(row)

    lie_at(str(copy))
    address = f"/tiles/1/{HIGHEST}/0_0.jpg"
    before = client.get(address)
    assert before.status_code == 200
    copy.unlink()
    other = TestClient(
        Starlette(routes=zoom_routes(twin_lab.settings)), base_url="http://127.0.0.1"
    )
    away = other.get(address)
    assert away.status_code == 404 and "slide-1 cannot be read now" in away.text
    assert copy.name not in away.text and "S26" not in away.text
    shutil.copyfile(twin_case.ihc.path, copy)
    changed = other.get(address)
    assert changed.status_code == 404 and "not the one that was analyzed" in changed.text
    shutil.copyfile(twin_case.he.path, copy)
    assert other.get(address).content == before.content
    assert other.get(f"{address}?v=0000").status_code == 404
    lie_at(twin_case.he.path)


@pytest.mark.parametrize(
    "address",
    [
        "/tiles/99/9/0_0.jpg",
        f"/tiles/{'9' * 30}/9/0_0.jpg",
        f"/tiles/1/{'9' * 30}/0_0.jpg",
        "/tiles/%2e%2e/9/0_0.jpg",
        "/overlays/1/he/../tumor/9/0_0.png",
        "/overlays/1/he/m0/9/0_0.png",
        "/overlays/1/ihc/m9/9/0_0.png",
        "/overlays/1/both/tumor/9/0_0.png",
        "/overlays/9/he/tumor/9/0_0.png",
        "/zoom/1/findings.png",
        "/zoom/9/case.json",
        "/zoom-files/../app.py",
        "/zoom-files/%2e%2e/app.py",
    ],
)
def test_no_address_reaches_beyond_slides_and_cases(
    client: TestClient, twin_case: Findings, address: str
) -> None:
    assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("findings.json", "/zoom/1/case.json"),
        ("rasters.npz", "/overlays/1/he/tumor/9/0_0.png"),
        ("tiles.parquet", "/zoom/1/case.json"),
        ("ihc_thumbnail.png", "/thumbs/1.jpg"),
        ("he_thumbnail.png", "/zoom/1/he.png"),
    ],
)
@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_a_damaged_result_is_told_not_shown(
    twin_lab: Lab, twin_case: Findings, name: str, address: str, harm: Callable[[Path], None]
) -> None:
    with twin_lab.ledger.transaction() as tx:
        (case,) = tx.cases()
        key = ArtifactKey.parse(case.findings_key)
    file = ArtifactStore(twin_lab.settings.artifacts_dir).path(key) / name
    kept = file.read_bytes()
    harm(file)
    try:
        # Its own: the routes of the other tests have the result in memory.
        routes = zoom_routes(twin_lab.settings)
        answer = TestClient(Starlette(routes=routes), base_url="http://127.0.0.1").get(address)
    finally:
        file.write_bytes(kept)
    assert answer.status_code == 404
    assert "damaged" in answer.text and "tandem rerun case-1" in answer.text
    assert str(twin_lab.settings.state_dir) not in answer.text


def test_before_the_daemon_ran_nothing_is_written(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    client = TestClient(Starlette(routes=zoom_routes(settings)), base_url="http://127.0.0.1")
    assert "not started yet" in client.get("/tiles/1/0/0_0.jpg").text
    assert not (tmp_path / "state").exists()


def test_overlays_lie_where_the_findings_are(client: TestClient, twin_case: Findings) -> None:
    described = client.get("/zoom/1/case.json").json()
    names = {(layer["what"], layer["name"]) for layer in described["layers"]}
    assert {
        ("he", "tumor"),
        ("ihc", "m0"),
        ("ihc", "m3"),
        ("ihc", "l"),
        ("ihc", "regions"),
    } <= names
    overlay = described["slides"]["ihc"]["overlay"]
    classes = twin_case.rasters.ihc_classes
    assert classes is not None
    colors = list(class_colors(twin_case).values())
    rows, columns = overlay["height_px"], overlay["width_px"]
    assert (columns, rows) == (WIDTH_PX // 2, HEIGHT_PX // 2)  # the map has px of 2 µm
    seen = np.zeros((4, rows, columns), np.uint8)
    for number in range(4):
        for top in range(0, rows, TILE_PX):
            for left in range(0, columns, TILE_PX):
                place = f"{overlay['highest']}/{left // TILE_PX}_{top // TILE_PX}"
                tile = pixels(client.get(f"/overlays/1/ihc/m{number}/{place}.png"))
                assert (tile[tile[..., 3] > 0][:, :3] == colors[number]).all()
                seen[number, top : top + TILE_PX, left : left + TILE_PX] = tile[..., 3]
    # The findings' maps reach beyond this slide.
    wanted = np.stack([classes[:rows, :columns] == k + 1 for k in range(4)])
    assert ((seen == 255) == wanted).all() and ((seen > 0) == wanted).all()
    # Where a px covers many labels, its opacity is their share.
    level = overlay["highest"] - 5
    small = np.stack(
        [pixels(client.get(f"/overlays/1/ihc/m{k}/{level}/0_0.png"))[..., 3] for k in range(4)]
    )
    share = wanted.reshape(4, rows, columns).mean(axis=(1, 2))
    assert np.allclose(small.mean(axis=(1, 2)) / 255, share, atol=0.01)


def test_the_attention_of_a_superseded_hint_is_a_layer_of_its_own(
    twin_lab: Lab, client: TestClient, twin_case: Findings
) -> None:
    def offered() -> list[str]:
        layers = client.get("/zoom/1/case.json").json()["layers"]
        return [layer["title"] for layer in layers if layer["name"] == "interim"]

    def heat(level: int) -> NDArray[np.uint8]:
        return pixels(client.get(f"/overlays/1/he/interim/{level}/0_0.png"))

    assert offered() == []
    keep_hint(twin_lab, 1, slide="0" * 12)
    assert offered() == []  # it was of another file
    keep_hint(twin_lab, 1, slide=twin_case.he.fingerprint[:12])
    assert offered() == ["Interim, superseded: attention of the hint"]
    overlay = client.get("/zoom/1/case.json").json()["slides"]["he"]["overlay"]
    level = overlay["highest"] - 2
    shown = heat(level)
    px_um = WIDTH_PX * MPP * overlay["width_share"] / (overlay["width_px"] / 4)
    y, x = (((np.arange(n) + 0.5) * px_um / HINT_CELL_UM).astype(int) for n in shown.shape[:2])
    strong, weak = (np.outer(y == row, x == column) for column, row in HINT_PLACES)
    assert (shown[strong] == (*PROBABILITY_COLORS[-1][1], 255)).all()
    assert (shown[weak][:, 3] < 255).all() and (shown[weak][:, 3] > 0).all()
    assert (shown[~strong & ~weak][:, 3] == 0).all()
    newer = Hint(assay="her2", unusual="focus")  # an opinion that is not the newest is not shown
    twin_lab.do(lambda tx, now: note_hint(tx, tx.slides()[0], newer, now))
    assert offered() == []


def test_the_mapping_of_the_page_is_that_of_the_findings(
    client: TestClient, twin_case: Findings
) -> None:
    described = client.get("/zoom/1/case.json").json()
    (piece,) = described["mapping"]["pieces"]
    assert piece["matrix"] == pytest.approx(twin_case.mapping.pieces[0].affine.matrix)
    assert described["slides"]["he"]["tiles"] == "../tiles/1/"
    assert described["slides"]["ihc"]["tiles"] == "../tiles/2/"
    text = client.get("/zoom/1/case.json").text
    assert "S26" not in text and ".tiff" not in text


def test_a_foreign_name_of_this_machine_is_refused(client: TestClient, twin_case: Findings) -> None:
    address = f"/tiles/1/{HIGHEST}/0_0.jpg"
    for host in ("evil.example", "evil.example:8501", "127.0.0.1.evil.example", ""):
        answer = client.get(address, headers={"host": host})
        assert answer.status_code == 403 and "name" in answer.text
    for host in ("localhost:8501", "127.0.0.1", "[::1]:8501", "10.0.0.7"):
        answer = client.get(address, headers={"host": host})
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_name_that_the_site_states_is_served_and_ends_actions(
    client: TestClient, twin_case: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"/tiles/1/{HIGHEST}/0_0.jpg"
    monkeypatch.setenv(NAMES, "her2.lab.example")
    assert client.get(address, headers={"host": "HER2.lab.example"}).status_code == 200
    assert client.get(address, headers={"host": "lab.example"}).status_code == 403
    assert not is_own_machine("127.0.0.1")


def test_actions_need_a_server_of_this_machine_alone() -> None:
    assert all(map(is_own_machine, ("127.0.0.1", "::1", "localhost", "127.3.0.1")))
    beyond = ("0.0.0.0", "::", "10.0.0.1", "lab.example", "", None)  # noqa: S104  asked only
    assert not any(map(is_own_machine, beyond))


@pytest.mark.parametrize(
    "matrix",
    [
        # Machado, Oliveira, Fernandes (2009), severity 1: protanopia, deuteranopia, tritanopia.
        [(0.1523, 1.0526, -0.2049), (0.1145, 0.7863, 0.0992), (-0.0039, -0.0481, 1.0520)],
        [(0.3673, 0.8606, -0.2280), (0.2801, 0.6725, 0.0474), (-0.0118, 0.0429, 0.9689)],
        [(1.2555, -0.0767, -0.1788), (-0.0784, 0.9308, 0.1476), (0.0047, 0.6914, 0.3039)],
    ],
)
def test_color_blind_people_can_part_the_classes(
    twin_case: Findings, matrix: list[tuple[float, ...]]
) -> None:
    rgb = np.array(list(class_colors(twin_case).values())) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    apart = [deltaE_ciede2000(a, b) for a, b in combinations(lab, 2)]
    assert min(apart) > 12  # 2.3 is just seen


def test_a_second_readers_attention_is_a_layer_and_its_heaviest_tiles_are_places(
    twin_case: Findings, tmp_path: Path
) -> None:
    weights = np.full(twin_case.rasters.ihc_read.shape, np.nan, dtype=np.float32)
    weights[1:4, 1:4] = 0.01
    weights[2, 3], weights[3, 1] = 0.7, 0.2
    rasters = replace(twin_case.rasters, attention={"multiple_instance": weights})
    blank = np.zeros((8, 8, 3), dtype=np.uint8)
    save_findings(
        replace(twin_case, rasters=rasters), tmp_path, he_thumbnail=blank, ihc_thumbnail=blank
    )
    overlays = Overlays(tmp_path)
    (layer,) = (each for each in overlays.layers() if each.name.startswith("attention"))
    assert (layer.title, layer.what, layer.shown) == ("Attention: multiple instance", "ihc", False)
    level = highest_level(*overlays.size_px("ihc"))
    data = overlays.tile("ihc", layer.name, level, 0, 0)
    assert data is not None and overlays.tile("he", layer.name, level, 0, 0) is None
    opacity = np.asarray(Image.open(BytesIO(data)))[..., 3]
    um_per_px = twin_case.ihc.size_um[0] / overlays.size_px("ihc")[0]

    def at(row: int, column: int) -> int:
        y, x = (int((n + 0.5) * TILE_UM / um_per_px) for n in (row, column))
        return int(opacity[y, x])

    assert at(2, 3) > at(3, 1) > at(1, 1) > at(0, 0) == 0
    places = [each for each in regions(overlays.findings) if "tile" in str(each["name"])]
    assert len(places) == 5
    assert places[0]["name"] == "Attention: multiple instance, tile 1 (70.0 %)"
    assert places[0]["center_um"] == [3.5 * TILE_UM, 2.5 * TILE_UM]
