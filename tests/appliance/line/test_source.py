"""The source is what it was: no result of another file is kept under the first fingerprint."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.damage import flip
from fixtures.weights import tiny_weights

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import HE, QuarantineReason, SlideFacts
from appliance.errors import (
    ArtifactDamagedError,
    SlideError,
    SourceChangedError,
    WeightsUnusableError,
)
from appliance.intake.found import FoundSlide, found_again
from appliance.intake.listing import ListedFile
from appliance.line import analyze_slide
from appliance.line.analyze_slide import identify_slide, inspect_slide, open_facts, read_alone
from appliance.line.outcomes import ReadSlide
from appliance.readers.tumor import TumorReader
from appliance.settings.networks import ModelSettings
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from models.spec import WEIGHTS_NAME
from models.synthesis.pyramid import write_pyramid


def write_slide(path: Path, seed: int) -> Path:
    """Write a slide of tissue; the slides of all seeds have one size in bytes."""
    pixels = np.full((1024, 1024, 3), 245, dtype=np.uint8)
    noise = np.random.default_rng(seed).integers(-40, 40, (768, 768, 1))
    pixels[128:896, 128:896] = (np.array((190, 120, 170)) + noise).astype(np.uint8)
    write_pyramid(path, [pixels], width_px=1024, height_px=1024, mpp=0.2793, file_format="svs")
    with path.open("ab") as stream:
        stream.write(bytes(4_000_000 - path.stat().st_size))
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    tiny_weights(tmp_path / "weights")
    return Settings(state_dir=tmp_path / "state", models=ModelSettings(tumor=tmp_path / "weights"))


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "S26-1_A1_HE.svs", seed=1)


def overwrite(path: Path, other: Path) -> None:
    """Write another file's bytes into a file, and put its time back."""
    times = path.stat()
    shutil.copyfile(other, path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def read_slide(facts: SlideFacts, settings: Settings) -> ReadSlide:
    return ReadSlide(facts=facts, inspect_key=inspect_slide(facts, settings).key)


def tumor_map(key: str, settings: Settings) -> np.ndarray:
    folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(key))
    return TumorReader().load(folder / "tumor").probability


def test_overwritten_while_it_is_read_and_put_back(
    settings: Settings, slide: Path, tmp_path: Path
) -> None:
    """Size and time are the same before and after, as the scan sees them."""
    first = shutil.copyfile(slide, tmp_path / "first")
    other = write_slide(tmp_path / "other", seed=2)
    assert other.stat().st_size == slide.stat().st_size
    right = tumor_map(
        read_alone(
            read_slide(open_facts(slide), settings),
            HE,
            ["her2"],
            settings.model_copy(update={"state_dir": tmp_path / "beside"}),
        ).key,
        settings.model_copy(update={"state_dir": tmp_path / "beside"}),
    )
    given = read_slide(open_facts(slide), settings)
    seen = slide.stat()
    overwritten = []

    def while_it_is_read(_what: str, done: int, _total: int) -> None:
        if not overwritten:
            overwrite(slide, other)
            overwritten.append(done)

    with pytest.raises(SourceChangedError):
        read_alone(given, HE, ["her2"], settings, while_it_is_read)
    assert overwritten
    assert not list(settings.artifacts_dir.glob("tumor/*"))
    overwrite(slide, first)
    again = slide.stat()
    assert (again.st_size, again.st_mtime_ns) == (seen.st_size, seen.st_mtime_ns)
    done = read_alone(given, HE, ["her2"], settings)
    assert np.array_equal(tumor_map(done.key, settings), right, equal_nan=True)


def test_put_back_before_the_read_has_ended(
    settings: Settings, slide: Path, tmp_path: Path
) -> None:
    first = shutil.copyfile(slide, tmp_path / "first")
    other = write_slide(tmp_path / "other", seed=2)
    given = read_slide(open_facts(slide), settings)

    def while_it_is_read(_what: str, _done: int, _total: int) -> None:
        overwrite(slide, other)
        overwrite(slide, first)

    with pytest.raises(SourceChangedError):
        read_alone(given, HE, ["her2"], settings, while_it_is_read)
    assert not list(settings.artifacts_dir.glob("tumor/*"))


def test_another_file_in_the_place_of_the_identified_one_is_not_read(
    settings: Settings, slide: Path, tmp_path: Path
) -> None:
    given = read_slide(open_facts(slide), settings)
    overwrite(slide, write_slide(tmp_path / "other", seed=2))
    for step in (
        lambda: read_alone(given, HE, ["her2"], settings),
        lambda: inspect_slide(
            given.facts, settings.model_copy(update={"state_dir": tmp_path / "another"})
        ),
    ):
        with pytest.raises(SourceChangedError):
            step()


def test_changed_while_it_is_identified(
    settings: Settings, slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_slide(tmp_path / "other", seed=2)
    hashed = analyze_slide.known_fingerprint

    def then_overwritten(path: Path, store: ArtifactStore) -> str:
        found = hashed(path, store)
        overwrite(slide, other)
        return found

    monkeypatch.setattr(analyze_slide, "known_fingerprint", then_overwritten)
    with pytest.raises(SourceChangedError):
        identify_slide(slide, settings)
    assert not list(settings.artifacts_dir.glob("source/*"))


def test_a_slide_that_is_touched_or_moved_is_read_all_the_same(
    settings: Settings, slide: Path
) -> None:
    """The signature is another one, and the bytes are the same."""
    facts = identify_slide(slide, settings).facts
    os.utime(slide)
    inspect_slide(facts, settings)
    Path(shutil.copyfile(slide, slide.with_suffix(".copy"))).replace(slide)
    assert read_alone(read_slide(facts, settings), HE, ["her2"], settings).key


def test_a_slide_that_is_gone_is_named_as_such(settings: Settings, slide: Path) -> None:
    facts = open_facts(slide)
    slide.unlink()
    with pytest.raises(SlideError, match="a file of it is gone") as raised:
        inspect_slide(facts, settings)
    again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301  as workers send it
    assert (again.reason, again.path) == (QuarantineReason.VANISHED, str(slide))


def test_a_damaged_overview_and_reading_are_made_again(settings: Settings, slide: Path) -> None:
    given = read_slide(open_facts(slide), settings)
    first = read_alone(given, HE, ["her2"], settings)
    right = tumor_map(first.key, settings)
    store = ArtifactStore(settings.artifacts_dir)
    folders = [store.path(ArtifactKey.parse(key)) for key in (given.inspect_key, first.key)]
    flip(folders[0] / "tissue.npz")
    flip(next(folders[1].rglob("probability.npy")))
    for _ in folders:  # each damage is told once
        with pytest.raises(ArtifactDamagedError):
            read_alone(given, HE, ["her2"], settings)
    again = read_alone(given, HE, ["her2"], settings)
    assert again.key == first.key
    assert not again.times[-1].reused
    assert np.array_equal(tumor_map(again.key, settings), right, equal_nan=True)


def test_weights_that_changed_hold_the_step_and_blame_no_slide(
    settings: Settings, slide: Path, tmp_path: Path
) -> None:
    given = read_slide(open_facts(slide), settings)
    flip(tmp_path / "weights" / WEIGHTS_NAME)
    with pytest.raises(WeightsUnusableError, match="checksum"):
        read_alone(given, HE, ["her2"], settings)
    flip(tmp_path / "weights" / WEIGHTS_NAME)
    assert read_alone(given, HE, ["her2"], settings).key


def test_cut_while_it_is_identified_and_put_back_is_no_damage(
    settings: Settings, slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = slide.read_bytes()
    real = SlideReader.open

    def while_it_is_cut(path: Path, *, mpp: float | None = None) -> SlideReader:
        path.write_bytes(whole[:2000])
        try:
            return real(path, mpp=mpp)
        finally:
            path.write_bytes(whole)

    monkeypatch.setattr(SlideReader, "open", while_it_is_cut)
    with pytest.raises(SourceChangedError):
        identify_slide(slide, settings)
    monkeypatch.setattr(SlideReader, "open", real)
    assert identify_slide(slide, settings).facts.fingerprint


def test_another_slide_in_its_place_is_not_taken_for_it(
    settings: Settings, slide: Path, tmp_path: Path
) -> None:
    """The other one is there before the step begins and still there when it ends."""
    facts = slide.stat()
    an_hour_ago = facts.st_mtime_ns - 3_600_000_000_000
    os.utime(slide, ns=(facts.st_atime_ns, an_hour_ago))
    whole = facts.st_size, an_hour_ago
    kept = slide.read_bytes()
    shutil.copyfile(write_slide(tmp_path / "other", seed=2), slide)
    with pytest.raises(SourceChangedError):
        identify_slide(slide, settings, None, whole)
    slide.write_bytes(kept)
    # Another mount of the share may round the time.
    os.utime(slide, ns=(facts.st_atime_ns, an_hour_ago + 1_500_000_000))
    assert identify_slide(slide, settings, None, whole).facts.fingerprint


def test_an_mrxs_slide_is_compared_with_its_folder(settings: Settings, tmp_path: Path) -> None:
    """Size and time are compared over all its files, as the scan adds them up."""
    index = tmp_path / "S26-1_A1_HE.mrxs"
    data = index.with_suffix("") / "Data0000.dat"
    data.parent.mkdir()
    index.write_bytes(b"index")
    data.write_bytes(bytes(1000))
    found = found_again(FoundSlide(str(index), (ListedFile(str(index), 0, 0),)))
    assert found is not None
    whole = found.signature.size_bytes, found.signature.modified_ns
    # Not taken for another slide: it goes on, to be found damaged.
    with pytest.raises(SlideError):
        identify_slide(index, settings, None, whole)
    data.write_bytes(bytes(1001))
    with pytest.raises(SourceChangedError):
        identify_slide(index, settings, None, whole)


@pytest.mark.parametrize("how", ["missing", "a file", "closed"])
def test_an_mrxs_slide_whose_folder_cannot_be_read_is_told(
    settings: Settings, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "S26-1_A1_HE.mrxs"
    index.write_bytes(b"index")
    folder = index.with_suffix("")
    if how == "a file":
        folder.touch()
    elif how == "closed":
        folder.mkdir()

        def scandir(path: str | Path) -> Any:
            if Path(path) == folder:  # root may enter any folder
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path)

        real = os.scandir
        monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SlideError) as caught:
        identify_slide(index, settings)
    reason = QuarantineReason.UNREADABLE if how == "closed" else QuarantineReason.VANISHED
    assert caught.value.reason is reason
    assert "S26-1" not in caught.value.detail


def test_what_is_damaged_and_stays_so_is_damage(settings: Settings, slide: Path) -> None:
    slide.write_bytes(slide.read_bytes()[:2000])
    with pytest.raises(SlideError):
        identify_slide(slide, settings)
