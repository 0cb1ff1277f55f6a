"""The benchmarks of changed pictures and of real images, with the weights that ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.readers.inference import Network
from benchmarks import robust
from benchmarks.changes import Change, Pixels, all_changes
from benchmarks.real_images import PACKAGES, find, judge
from models.spec import Task, reference_folder


@pytest.fixture(scope="module")
def networks() -> dict[Task, Network]:
    return {task: Network(reference_folder(task), "cpu") for task in Task}


@pytest.fixture(scope="module")
def drawn() -> list[robust.Case]:
    return list(robust.drawn_cases(1))


def emptied(pixels: Pixels, mpp: float, _: np.random.Generator) -> tuple[Pixels, float]:
    return np.full_like(pixels, 255), mpp


def test_a_drawn_tumor_tile_is_given_in_both_stains(drawn: list[robust.Case]) -> None:
    assert [case.stain for case in drawn] == ["HE", "HER2"]
    assert all(case.pixels.shape == (512, 512, 3) and len(case.read) == 1 for case in drawn)


def test_white_balance_of_the_scan_is_calibrated_by_the_slides_glass(
    drawn: list[robust.Case],
) -> None:
    changes = {change.name: change for change in all_changes()}
    before, _, _ = robust.changed_tiles(drawn[0], changes["none"], 0)
    cool, pixels, _ = robust.changed_tiles(drawn[0], changes["white balance cool 8%"], 0)
    lost = np.abs(pixels.astype(int) - drawn[0].pixels).mean()
    assert np.abs(cool.astype(int) - before).mean() < 0.2 * lost


def test_only_a_change_that_matters_counts(
    drawn: list[robust.Case],
    networks: dict[Task, Network],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = (all_changes()[0], Change(name="emptied", changing=emptied))
    monkeypatch.setattr(robust, "all_changes", lambda: changes)
    rows = list(robust.judged(drawn, "drawn", networks, lambda *_: False))
    assert [row.network for row in rows] == ["C", "L", "M"] * 2
    assert [row.changed for row in rows[:3]] == [0, 0, 0]
    by_network = {row.network: row for row in rows[3:]}
    # A tile without tissue is not measured, so nothing is flagged.
    assert by_network["C"].changed == by_network["M"].changed == 1
    assert by_network["C"].unflagged_percent == 100


def test_a_doubted_picture_flags_its_tiles(
    drawn: list[robust.Case],
    networks: dict[Task, Network],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = (all_changes()[0], Change(name="emptied", changing=emptied))
    monkeypatch.setattr(robust, "all_changes", lambda: changes)
    rows = list(robust.judged(drawn, "real", networks, lambda *_: True))
    changed = [row for row in rows if row.change == "emptied" and row.network == "C"]
    assert [(row.unit, row.changed, row.flagged) for row in changed] == [
        ("tile", 1, 1),
        ("picture", 1, 1),
    ]


def test_images_are_found_in_packages_and_in_a_folder(tmp_path: Path) -> None:
    installed = find("skimage/data/ihc.png", None)
    assert installed is not None
    assert installed.is_file()
    place = "no_such_package/data/image.png"
    assert find(place, tmp_path) is None
    unpacked = tmp_path / "wheel" / place
    unpacked.parent.mkdir(parents=True)
    unpacked.touch()
    assert find(place, tmp_path) == unpacked
    assert find(place, None) is None


def test_cytoplasmic_dab_is_no_her2_picture(networks: dict[Task, Network]) -> None:
    image = next(each for each in PACKAGES if each.place == "skimage/data/ihc.png")
    path = find(image.place, None)
    assert path is not None
    answers = judge(image, path, networks)
    assert answers.tumor_tiles_percent is None
    assert answers.picture["HER2"].startswith("held")
    assert answers.picture["HE"].startswith("held")
    assert answers.mean_class is not None
    assert 0 <= answers.mean_class <= 3
