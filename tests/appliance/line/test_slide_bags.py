"""Bags of slides' files: which tiles they hold, that they are encoded once, and what is refused."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.damage import lose_tiles, overflow
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.errors import (
    ArtifactDamagedError,
    SlideError,
    SourceChangedError,
    TandemError,
    WeightsError,
)
from appliance.geometry import TILE_UM, TileIndex
from appliance.line.slide_bags import BAG_NAME, bag_of_slide
from appliance.readers.bags import cut_of
from appliance.readers.tile_pass import silent
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from models.encoders.load import load_encoder
from models.encoders.spec import read_encoder, reference_encoder, verify_encoder
from models.errors import DataSetError
from models.mil.bag import Bag, load_bag
from models.spec import MANIFEST_NAME
from models.synthesis.pyramid import write_pyramid


def write_slide(path: Path, *, tissue: bool) -> Path:
    """Write a slide of 4 x 4 tiles; with tissue on the middle four, of another color each."""
    pixels = np.full((2048, 2048, 3), 255, dtype=np.uint8)
    if tissue:
        noise = np.random.default_rng(1).integers(-30, 30, (512, 512, 1))
        for k, (row, column) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
            color = np.array((200 - 30 * k, 120, 170 - 20 * k))
            part = np.clip(color + noise, 0, 254).astype(np.uint8)
            pixels[512 * row : 512 * row + 512, 512 * column : 512 * column + 512] = part
    write_pyramid(path, [pixels], width_px=2048, height_px=2048, mpp=0.2793, file_format="svs")
    return path


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "S26-1_A1_HER2.svs", tissue=True)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


def described(folder: Path, mpp: float) -> Path:
    """Return a copy of the encoder that ships, described for tiles at another resolution."""
    shutil.copytree(reference_encoder(), folder)
    (folder / MANIFEST_NAME).write_text(replace(read_encoder(folder), mpp=mpp).to_json())
    return folder


def finer(folder: Path) -> Path:
    return described(folder, read_encoder(reference_encoder()).mpp / 2)


def test_a_bag_holds_the_tissue_tiles_at_their_places(slide: Path, settings: Settings) -> None:
    bag = bag_of_slide(slide, settings, silent)
    spec = verify_encoder(reference_encoder())
    assert bag.encoder == spec.fingerprint
    assert {(1, 1), (2, 1), (1, 2), (2, 2)} <= set(map(tuple, bag.places.tolist()))
    place = bag.places.tolist().index([2, 1])
    with SlideReader.open(slide) as reader:
        tile = reader.read_tile(TileIndex(column=2, row=1), spec.tile_px)
    alone = load_encoder(reference_encoder()).encode(tile[None])[0]
    found = bag.vectors[place].astype(np.float32)
    other = bag.vectors[bag.places.tolist().index([1, 2])].astype(np.float32)
    assert np.abs(found - alone).max() < 0.1 * np.abs(other - alone).max()


def test_a_slide_is_encoded_once_by_each_encoder(
    slide: Path, settings: Settings, tmp_path: Path
) -> None:
    def stored() -> list[Path]:
        return sorted(settings.artifacts_dir.glob(f"bag/*/{BAG_NAME}"))

    first = bag_of_slide(slide, settings, silent)
    (kept,) = stored()
    written = kept.stat().st_mtime_ns
    again = bag_of_slide(slide, settings, silent)
    assert np.array_equal(first.vectors, again.vectors)
    assert kept.stat().st_mtime_ns == written
    other: Bag = bag_of_slide(slide, settings, silent, encoder=finer(tmp_path / "finer"))
    assert len(stored()) == 2
    # Four of its tiles lie in each tile of the grid.
    assert len(other) == 4 * len(first) and other.encoder != first.encoder


def test_a_tile_larger_than_the_grids_is_refused() -> None:
    spec = verify_encoder(reference_encoder())
    assert cut_of(spec) == (spec.tile_px, 1)
    assert cut_of(replace(spec, mpp=0.25)) == (round(TILE_UM / 0.25), 2)
    with pytest.raises(WeightsError, match=r"224\.00 µm.*143\.00 µm.*finer resolution"):
        cut_of(replace(spec, mpp=1.0))
    with pytest.raises(WeightsError, match=r"145\.60 µm"):
        cut_of(replace(spec, mpp=0.65))


def test_a_tile_that_is_larger_by_rounding_alone_is_that_of_the_grid(
    slide: Path, settings: Settings, tmp_path: Path
) -> None:
    exact = bag_of_slide(slide, settings, silent)
    rounded = bag_of_slide(slide, settings, silent, encoder=described(tmp_path / "0.64", 0.64))
    assert np.array_equal(rounded.places, exact.places)
    assert np.array_equal(rounded.vectors, exact.vectors)


def test_a_slide_without_tissue_is_told_in_one_line(settings: Settings, tmp_path: Path) -> None:
    blank = write_slide(tmp_path / "S26-2_A1_HER2.svs", tissue=False)
    with pytest.raises(DataSetError, match=r"S26-2_A1_HER2\.svs: no tissue was found[^\n]*$"):
        bag_of_slide(blank, settings, silent)


def test_the_command_writes_a_bag_for_each_slide(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").write_text(f'state_dir = "{tmp_path / "state"}"\n')
    out, config = tmp_path / "bags", str(tmp_path / "tandem.toml")
    done = CliRunner().invoke(
        app, ["dataset", "bags", str(slide), "--out", str(out), "--config", config]
    )
    assert done.exit_code == 0, done.output
    assert len(load_bag(out / "S26-1_A1_HER2.safetensors")) >= 4
    assert f"{out}: files have the names of the slides" in done.stderr
    assert "names of the slides" not in done.stdout


def test_a_slide_without_a_bag_does_not_end_the_command(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").write_text(f'state_dir = "{tmp_path / "state"}"\n')
    junk = tmp_path / "a.svs"
    junk.write_bytes(b"no slide")
    blank = write_slide(tmp_path / "b.svs", tissue=False)
    gone = tmp_path / "c.svs"
    kept = tmp_path / "bags" / "b.safetensors"
    kept.parent.mkdir()
    for name in "abc":
        kept.with_stem(name).write_bytes(b"of an earlier run")
    config = ("--out", str(kept.parent), "--config", str(tmp_path / "tandem.toml"))
    done = CliRunner().invoke(
        app, ["dataset", "bags", *map(str, (junk, blank, gone, slide)), *config]
    )
    assert done.exit_code == 1 and "3 of 4 slides" in str(done.exception)
    # Nothing is said of the bag of a file that is away, or is no slide today.
    assert done.stderr.count("earlier run") == 1
    assert f"{kept} was made by an earlier run; use it only if the slide did not" in done.stderr
    assert f"{junk}: The file is not a slide" in done.stderr and f"{blank}: " in done.stderr
    assert (tmp_path / "bags" / "S26-1_A1_HER2.safetensors").is_file()


def test_a_slide_on_which_the_line_keeps_silent_teaches_nothing(
    slide: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_tiles(monkeypatch)
    for _ in range(2):  # also where its bag is kept
        with pytest.raises(SlideError, match="max_unreadable_percent"):
            bag_of_slide(slide, settings, silent)
    review = settings.review.model_copy(update={"max_unreadable_percent": 90.0})
    assert len(bag_of_slide(slide, settings.model_copy(update={"review": review}), silent)) >= 2


def test_a_slide_whose_vectors_no_bag_can_hold_is_told_and_passed_over(
    slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow(monkeypatch)
    (tmp_path / "tandem.toml").write_text(f'state_dir = "{tmp_path / "state"}"\n')
    config = ("--out", str(tmp_path / "bags"), "--config", str(tmp_path / "tandem.toml"))
    done = CliRunner().invoke(app, ["dataset", "bags", str(slide), *config])
    assert done.exit_code == 1 and "1 of 1 slides" in str(done.exception)
    assert f"{slide}: The encoder" in done.stderr and "float16" in done.stderr


@pytest.mark.parametrize("err", [SourceChangedError("a"), ArtifactDamagedError("It was damaged.")])
def test_the_slide_of_an_error_is_named(
    slide: Path, tmp_path: Path, err: TandemError, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise err

    monkeypatch.setattr("appliance.line.slide_bags.bag_of_slide", failing)
    (tmp_path / "tandem.toml").write_text(f'state_dir = "{tmp_path / "state"}"\n')
    config = ("--config", str(tmp_path / "tandem.toml"))
    done = CliRunner().invoke(
        app, ["dataset", "bags", str(slide), "--out", str(tmp_path / "bags"), *config]
    )
    assert done.exit_code == 1 and f"{slide}: {err}" in done.stderr


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from models.mil.bag import Bag, save_bag
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
places = np.array([(n, 0) for n in range(99)], dtype=np.int32)
vectors = np.ones((99, 64), dtype=np.float32)
try:
    save_bag(Bag(slide="s", encoder="e", vectors=vectors, places=places), Path(sys.argv[1]))
except OSError as err:
    print(type(err).__name__, err.errno)
"""


def test_a_bag_that_finds_no_room_raises_an_error_of_the_disk(tmp_path: Path) -> None:
    """A library's error would count as one of the slide."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "bag")], capture_output=True, text=True
    )
    assert done.stdout == f"OSError {errno.EFBIG}\n", done.stderr
