"""Options of `tandem train reader` and `tandem evaluate reader`: the recipe that they ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import typer
from fixtures.daemon import tandem_here
from fixtures.painted_slides import paint_slides
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.cli.reader_options import chosen_system
from models.patch_counts.system import PatchCounts
from models.slide_level.cohort import write_cohort
from models.slide_level.low_resolution import LowResolution
from models.slide_level.system import SYSTEMS


def test_options_change_the_recipe_of_networks_and_nothing_else() -> None:
    low, asked = (
        cast(LowResolution, chosen_system("reference-224", loss, augment, begin, epochs)).recipe
        for loss, augment, begin, epochs in ((None, True, True, None), ("focal", False, False, 3))
    )
    assert (low.loss, low.augment, low.begin) == ("cross-entropy", True, True)
    assert (asked.loss, asked.augment, asked.begin, asked.epochs) == ("focal", False, False, 3)
    assert asked.px == low.px
    assert asked.rate > low.rate  # from scratch, with numbers of its own
    counted = cast(PatchCounts, chosen_system("patch-low-svm", None, True, False, None))
    assert not counted.recipe.training.begin and counted.recipe.training.augment
    assert chosen_system("mean-dab", "focal", False, False, 3).name == "mean-dab"


def test_an_unknown_system_is_told_with_those_that_there_are() -> None:
    with pytest.raises(typer.BadParameter, match=r"no system 'unet'"):
        chosen_system("unet", None, True, True, None)


def test_own_folds_that_leave_no_slide_of_a_class_to_learn_from_are_told(tmp_path: Path) -> None:
    """All 3+ lie in two of four folds, so that one division trains without any."""
    slides = paint_slides(tmp_path, 32)
    strong = [slide.label.her2 == "3+" for slide in slides]
    folds = [k // 4 % (2 if brown else 4) for k, brown in enumerate(strong)]
    write_cohort(tmp_path, [replace(s, fold=f) for s, f in zip(slides, folds, strict=True)])
    asked = ("--cohort", tmp_path, "--system", "dab-shares", "--task", "4way")
    done = tandem_here("evaluate", "reader", *asked, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "no slide of class '3+' in the training part" in last


def test_all_systems_are_those_whose_files_the_cohort_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary cohort has overviews alone."""
    for name in set(SYSTEMS) - {"mean-dab", "dab-shares", "abmil", "patch-low-svm"}:
        monkeypatch.delitem(SYSTEMS, name)
    paint_slides(tmp_path, 32)
    asked = ["--cohort", str(tmp_path), "--system", "all", "--task", "4way", "--folds", "4"]
    done = CliRunner().invoke(app, ["evaluate", "reader", *asked, "--json"])
    assert done.exit_code == 0, done.output
    assert "abmil is left out: 32 of 32 slides have no bag." in done.stderr
    assert "patch-low-svm is left out: 32 of 32 slides have no patches_low." in done.stderr
    result = json.loads(done.stdout)
    assert set(result["tasks"]["4way"]["systems"]) == {"mean-dab", "dab-shares"}


@pytest.mark.parametrize("name", ["abmil", "mean-dab"])
def test_options_that_change_nothing_are_told(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen_system(name, "focal", False, True, 3)
    said = f"{name}: --loss, --epochs, --no-augment is not for it and changes nothing.\n"
    assert capsys.readouterr().err == said
    chosen_system(name, None, True, True, None)
    chosen_system("reference-224", "focal", False, False, 3)
    assert capsys.readouterr().err == ""
