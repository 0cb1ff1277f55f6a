"""Systems of patch counts: trained out of fold, stored, loaded, and refused in one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.painted_patches import paint_patches

from models.errors import DataSetError, ManifestError
from models.patch_counts import classifier
from models.patch_counts.classifier import PatchRecipe, patch_classes, train_and_count
from models.patch_counts.examples import labeled_patches
from models.patch_counts.patches import load_patches, save_patches
from models.patch_counts.quality import MAX_WHITE
from models.patch_counts.system import PatchCounts, changed, system
from models.slide_level.cohort import CohortSlide, read_cohort
from models.slide_level.low_resolution import Recipe
from models.slide_level.manifest import read_slide_manifest
from models.slide_level.system import load_fitted
from models.slide_level.tasks import SlideTask, class_of

RECIPE = PatchRecipe(
    resolution="low",
    training=Recipe(network="reference", px=16, epochs=8, rate=3e-2, augment=False),
    config=(("kind", "convnext"), ("depths", (1,)), ("widths", (16,)), ("layer_scale", 0.1)),
)


def silent(_: str) -> None:
    pass


def tiny(aggregator: Any) -> PatchCounts:
    return PatchCounts(name=f"patch-low-{aggregator}", aggregator=aggregator, recipe=RECIPE)


@pytest.fixture(scope="module")
def trained_once() -> Iterator[None]:
    """Train equal networks once: systems differ in what they make of the same counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.patch_counts.system.train_and_count", cache(train_and_count))
        yield


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> list[CohortSlide]:
    return paint_patches(tmp_path_factory.mktemp("patches"), 60)


def test_a_cohort_names_its_patches(painted: list[CohortSlide], tmp_path: Path) -> None:
    folder = painted[0].overview.parent
    assert read_cohort(folder) == painted
    table = (folder / "cohort.csv").read_text().replace("patches/S003", "patches/S999")
    other = folder / "other"
    other.mkdir()
    for slide in painted:
        (other / slide.overview.name).symlink_to(slide.overview)
    (other / "patches").symlink_to(folder / "patches")
    (other / "cohort.csv").write_text(table)
    with pytest.raises(DataSetError, match=r"line 5: .*S999.safetensors is missing"):
        read_cohort(other)


@pytest.mark.usefixtures("trained_once")
@pytest.mark.parametrize("aggregator", ["forest", "svm", "mlp", "majority"])
def test_a_system_learns_and_is_loaded_as_it_was_saved(
    aggregator: str, painted: list[CohortSlide], tmp_path: Path
) -> None:
    task = SlideTask.FOUR_WAY
    fitted = tiny(aggregator).fit(painted[:40], painted[40:48], task, seed=1, say=silent)
    found = fitted.predict(painted[48:])
    assert found.sum(axis=1) == pytest.approx(1)
    truth = [class_of(slide.label, task) for slide in painted[48:]]
    assert (found.argmax(axis=1) == truth).mean() >= 0.75
    fitted.save(tmp_path)
    spec = read_slide_manifest(tmp_path)
    assert spec.input["max_white"] == MAX_WHITE and spec.input["clahe_clip_limit"] > 0
    assert spec.trained["labels"] == "inherited" and spec.trained["patches"] == 40 * 3 * 4 // 5
    again = load_fitted(tmp_path).predict(painted[48:])
    assert again == pytest.approx(found, abs=0.05)  # the network is kept as float16
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"max_white": 0.7', '"max_white": 0.6'))
    with pytest.raises(ManifestError, match="prepared by other rules"):
        load_fitted(tmp_path)


def test_counts_are_of_networks_that_did_not_see_the_slide(
    painted: list[CohortSlide], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patients of each training and of the slides that it counts have none in common."""
    seen: list[tuple[set[str], Any]] = []
    counted: list[tuple[Any, str]] = []

    def trained(train: Any, *_: Any) -> tuple[Any, dict[str, Any]]:
        network = object()
        seen.append(({slide.patient for slide in train}, network))
        return network, {}

    def count(network: Any, slide: CohortSlide, _: Any) -> Any:
        counted.append((network, slide.patient))
        return np.ones(4, dtype=np.int64)

    monkeypatch.setattr(classifier, "_trained", trained)
    monkeypatch.setattr(classifier, "count_patches", count)
    given = (*painted[:20], *(replace(s, slide=f"{s.slide}-b") for s in painted[:20]))
    found = train_and_count(given, tuple(painted[40:48]), RECIPE, 7, silent)
    assert len(seen) == RECIPE.parts + 1 and len(counted) == len(given)
    assert (found.counts == 1).all()
    patients = {id(network): known for known, network in seen}
    assert all(patient not in patients[id(network)] for network, patient in counted)
    assert found.network is seen[-1][1] and len(seen[-1][0]) == 20


def test_equal_seeds_make_equal_answers(painted: list[CohortSlide]) -> None:
    short = replace(RECIPE, training=replace(RECIPE.training, epochs=1))
    first, again, other = (
        train_and_count(tuple(painted[:24]), tuple(painted[24:32]), short, seed, say).counts
        for seed, say in ((1, silent), (1, lambda _: None), (2, silent))
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_own_labels_teach_where_inherited_ones_lie(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    """Every annotated patch gets the label 0; their own truth is known."""
    slides = []
    for slide in painted[:24]:
        patches = load_patches(dict(slide.patches)["low"])
        path = tmp_path / f"{slide.slide}.safetensors"
        save_patches(replace(patches, labels=np.minimum(patches.labels, 0)), path)
        slides.append(replace(slide, patches=(("low", path),)))
    _, inherited = labeled_patches(slides, "low", 16, labels="inherited", most=40)
    _, own = labeled_patches(slides, "low", 16, labels="own", most=40)
    assert set(inherited) == {0} and set(own) == {0, 1, 2, 3}
    _, few = labeled_patches(slides, "low", 16, labels="own", most=1)
    assert len(few) == len([k for k in range(24) if k % 5 != 4])


@pytest.mark.usefixtures("trained_once")
def test_a_slide_without_usable_patches_is_answered(
    painted: list[CohortSlide], tmp_path: Path
) -> None:
    fitted = tiny("majority").fit(
        painted[:40], painted[40:48], SlideTask.THREE_WAY, seed=1, say=silent
    )
    patches = load_patches(dict(painted[50].patches)["low"])
    path = tmp_path / "empty.safetensors"
    save_patches(
        replace(
            patches, coded=(), places=patches.places[:0], labels=patches.labels[:0], truth=None
        ),
        path,
    )
    empty = replace(painted[50], patches=(("low", path),))
    assert len(patch_classes(fitted.network, empty, fitted.recipe)) == 0
    np.testing.assert_allclose(fitted.predict([empty]), [[1 / 3] * 3])


def test_what_cannot_be_learned_from_is_told_in_one_line(painted: list[CohortSlide]) -> None:
    train, rest = painted[:24], painted[24:32]
    given = tiny("svm")
    with pytest.raises(DataSetError, match=r"classes of patches are HER2 scores, not of er"):
        given.fit(train, rest, SlideTask.ER, seed=1, say=silent)
    bare = [replace(slide, patches=()) for slide in train]
    with pytest.raises(DataSetError, match=r"^S\d+: no patches of low .*column patches_low\.$"):
        given.fit(bare, rest, SlideTask.FOUR_WAY, seed=1, say=silent)
    wrong = replace(given, recipe=replace(RECIPE, resolution="high"))
    high = [replace(slide, patches=(("high", slide.patches[0][1]),)) for slide in train]
    with pytest.raises(DataSetError, match="patches of low resolution in the column patches_high"):
        wrong.fit(high, rest, SlideTask.FOUR_WAY, seed=1, say=silent)
    unmarked = [slide for k, slide in enumerate(painted) if k % 5 == 4]
    with pytest.raises(DataSetError, match="annotate more slides"):
        given.fit(train, unmarked[:6], SlideTask.FOUR_WAY, seed=1, say=silent)


def test_names_say_resolution_network_and_aggregator() -> None:
    large = system("patch-moderate-convnext-s-mlp")
    assert (large.recipe.resolution, large.aggregator) == ("moderate", "mlp")
    assert large.recipe.training.network == "convnext-s" and large.recipe.training.px == 224
    assert changed(large, epochs=2).recipe.training.epochs == 2
    with pytest.raises(DataSetError, match="no system"):
        system("patch-low-tree")
