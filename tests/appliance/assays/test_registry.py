"""Assays: their registry, the pairs that intake joins, and the laboratory's words for stains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.assays import registry
from appliance.assays.her2.assay import HER2_ASSAY
from appliance.assays.registry import (
    assays,
    check_assays,
    find_assay,
    pairings,
    readers_alone,
    readers_of_target,
    register_assay,
    stains,
    tasks,
    vocabulary,
)
from appliance.domain import HE, HER2, Stain
from appliance.errors import SettingsError
from appliance.settings.identify import Identify
from appliance.settings.intake import PairSettings
from appliance.settings.settings import Settings
from models.spec import Task

KI67 = Stain("KI67")


@pytest.fixture
def only_her2(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The registry with HER2 alone; what a test registers is gone after it."""
    assays()  # what ships is loaded before the registry is replaced
    own = {HER2_ASSAY.name: HER2_ASSAY}
    monkeypatch.setattr(registry, "_ASSAYS", own)
    return own


@pytest.mark.usefixtures("only_her2")
def test_an_unknown_assay_is_named_with_those_there_are() -> None:
    assert find_assay("her2") is HER2_ASSAY
    with pytest.raises(SettingsError, match=r"no assay 'ki67' is installed; there are: her2"):
        find_assay("ki67")
    with pytest.raises(SettingsError, match="'ki67'"):
        pairings(Settings(pair=PairSettings(expected_assays=("ki67",))))


@pytest.mark.usefixtures("only_her2")
def test_two_assays_cannot_have_one_name() -> None:
    assert register_assay(HER2_ASSAY) is HER2_ASSAY
    with pytest.raises(ValueError, match="two assays have the name 'her2'"):
        register_assay(replace(HER2_ASSAY, title="Other"))
    assert find_assay("her2") is HER2_ASSAY


@pytest.mark.usefixtures("only_her2")
def test_a_second_assay_brings_its_stain_and_its_pair() -> None:
    target = replace(HER2_ASSAY.target, code=KI67, label="Ki-67 IHC", words=("KI67", "MIB1"))
    register_assay(
        replace(HER2_ASSAY, name="ki67", title="Ki-67", target=target, readers=("tumor",))
    )
    assert set(stains()) == {HE, HER2, KI67}
    assert [
        (pair.assay, pair.anatomy, pair.target, pair.expected) for pair in pairings(Settings())
    ] == [("her2", HE, HER2, True), ("ki67", HE, KI67, False)]
    assert vocabulary(Settings())["KI67"] == ("KI67", "MIB1")
    assert [r.name for r in readers_alone(find_assay("ki67"), HE)] == ["tumor"]
    assert readers_of_target(find_assay("ki67")) == ()
    check_assays(Settings())


@pytest.mark.usefixtures("only_her2")
def test_her2_asks_c_of_the_anatomy_slide_and_all_others_of_the_target() -> None:
    assert [reader.name for reader in readers_alone(HER2_ASSAY, HE)] == ["tumor"]
    assert [reader.name for reader in readers_alone(HER2_ASSAY, HER2)] == ["low_resolution"]
    assert [reader.name for reader in readers_of_target(HER2_ASSAY)] == [
        "intensity",
        "segmentation",
        "plain",
    ]
    assert tasks() == (Task.TUMOR, Task.INTENSITY, Task.SEGMENTATION)


@pytest.mark.usefixtures("only_her2")
def test_the_laboratorys_words_take_the_place_of_the_assays() -> None:
    settings = Settings(identify=Identify(stains={"HER2": ("ERBB2",)}))
    assert vocabulary(settings) == {"HE": HER2_ASSAY.anatomy.words, "HER2": ("ERBB2",)}
    with pytest.raises(SettingsError, match=r"identify\.stains: unknown stain 'KI67'.*HE or HER2"):
        vocabulary(Settings(identify=Identify(stains={"KI67": ("MIB1",)})))


@pytest.mark.usefixtures("only_her2")
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"readers": ("tumor", "nobody")}, "no reader 'nobody' is installed"),
        ({"tumor_reader": "intensity"}, "does not read tiles of HE slides"),
        (
            {"anatomy": replace(HER2_ASSAY.anatomy, code=Stain("PAS"))},
            "reader 'tumor' reads neither of its slides",
        ),
        ({"classes": HER2_ASSAY.classes * 2}, "8 classes"),
        ({"title": 25 * "t"}, "its title has 25 characters"),
    ],
)
def test_an_assay_that_could_not_decide_is_refused(changes: dict[str, Any], problem: str) -> None:
    register_assay(replace(HER2_ASSAY, name="odd", **changes))
    with pytest.raises(SettingsError, match=problem):
        check_assays(Settings())


@pytest.mark.usefixtures("only_her2")
def test_an_assay_names_its_tumor_reader() -> None:
    with pytest.raises(ValueError, match="does not name its reader 'tumor'"):
        register_assay(replace(HER2_ASSAY, name="odd", readers=("intensity",)))
