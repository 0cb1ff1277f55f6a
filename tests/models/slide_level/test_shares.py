"""The network that counts shares: what it counts, the weights that ship, and their training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import ManifestError
from models.evaluation.figures import auc
from models.slide_level import beginning, low_resolution
from models.slide_level.beginning import begin
from models.slide_level.foreground import foreground, on_section, section_picture
from models.slide_level.low_resolution import FittedLowResolution, is_less, slide_logits
from models.slide_level.manifest import reference_overview
from models.slide_level.networks import NETWORKS, SlideNetwork, density_of
from models.slide_level.shares import GRADES, Shares, SharesShape
from models.slide_level.system import load_fitted
from models.slide_level.tasks import SLIDE_CLASSES, SlideTask, class_of
from models.slide_level.temperature import calibrated
from models.synthesis.slide_cohort import draw_slides
from models.synthesis.slide_files import as_stored
from models.synthesis.slide_overview import draw_slide
from models.training.overview import Plan, train

REFERENCE = NETWORKS["reference"]


def test_shares_are_of_the_tissue_and_their_ratio_does_not_depend_on_its_size() -> None:
    torch.manual_seed(1)
    body = Shares(SharesShape(pixel=4, widths=(8, 8, 8), inner=8)).eval()
    density = torch.zeros(1, 3, 64, 64)
    density[:, :, 16:48, 16:48] = 0.2
    with torch.inference_mode():
        places = body.places(density)
    assert places.shape == (1, GRADES + 1 + 8, 16, 16)
    tumor, tissue = places[:, :GRADES].sum(1), places[:, GRADES]
    assert float(tissue.sum()) == 64 and (tumor <= tissue + 1e-6).all()
    look = torch.zeros(1, 8, 16, 16)
    features = []
    for edge in (4, 8):
        laid = torch.zeros(1, GRADES + 1, 16, 16)
        laid[:, GRADES, :edge, :edge] = 1
        laid[:, 1, :edge, : edge // 2] = 0.8
        laid[:, 3, :edge, edge // 2 : edge] = 0.1
        with torch.inference_mode():
            features.append(body.pooled(torch.cat((laid, look), dim=1)))
    assert torch.allclose(*features, atol=1e-5)


def test_what_an_overview_holds_lies_where_its_section_does() -> None:
    drawn = draw_slide(draw_slides(3, 10)[2], px=300)
    mask = foreground(drawn.pixels)
    picture = section_picture(drawn.pixels, mask, 112)
    laid = on_section(mask[..., None].astype(np.float32), mask, 112)
    shown = (picture < 255).any(axis=2)
    assert laid.shape == (112, 112, 1)
    assert ((laid[..., 0] >= 0.5) == shown).mean() > 0.99


def test_a_network_begins_with_the_weights_that_ship() -> None:
    shipped = load_fitted(reference_overview())
    assert isinstance(shipped, FittedLowResolution)
    given = shipped.network.state_dict()
    same, other, er = (SlideNetwork(REFERENCE, classes, 224) for classes in (4, 3, 2))
    fresh, own = other.head.weight.detach().clone(), er.head.weight.detach().clone()
    assert begin(same, REFERENCE, SlideTask.FOUR_WAY, 224) == (shipped.spec.sha256, True)
    assert all(torch.equal(given[name], t) for name, t in same.state_dict().items())
    assert begin(other, REFERENCE, SlideTask.THREE_WAY, 224) == (shipped.spec.sha256, True)
    assert not torch.equal(other.head.weight, fresh)
    assert torch.equal(other.body.state_dict()["grades.weight"], given["body.grades.weight"])
    # A head of chance, and pictures of another size, are nothing to keep.
    assert begin(er, REFERENCE, SlideTask.ER, 224) == (shipped.spec.sha256, False)
    assert torch.equal(er.head.weight, own)
    assert begin(same, REFERENCE, SlideTask.FOUR_WAY, 512) == (shipped.spec.sha256, False)
    tiny = {"kind": "shares", "inner": 8}
    assert begin(SlideNetwork(tiny, 4, 224), tiny, SlideTask.FOUR_WAY, 224) == ("", False)


def test_without_weights_the_small_network_has_the_numbers_of_a_training_from_scratch() -> None:
    begun = low_resolution.system("reference-224")
    scratch = low_resolution.changed(begun, begin=False)
    assert (begun.recipe.epochs, scratch.recipe.epochs) == (15, 100)
    assert low_resolution.changed(begun, begin=False, epochs=7).recipe.epochs == 7
    other = low_resolution.system("convnext-s-224")
    assert low_resolution.changed(other, begin=False).recipe.rate == other.recipe.rate


def test_damaged_weights_begin_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "overview"
    shutil.copytree(reference_overview(), folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    monkeypatch.setattr(beginning, "reference_overview", lambda: folder)
    with pytest.raises(ManifestError, match="checksum"):
        begin(SlideNetwork(REFERENCE, 4, 224), REFERENCE, SlideTask.FOUR_WAY, 224)


def test_the_weights_that_ship_read_drawn_slides_that_they_have_not_seen() -> None:
    fitted = load_fitted(reference_overview())
    assert isinstance(fitted, FittedLowResolution)
    draws, pictures = draw_slides(31, 60), []
    for draw in draws:
        overview = as_stored(draw_slide(draw).pixels)
        pictures.append(section_picture(overview, foreground(overview), 224))
    for task in (SlideTask.BINARY, SlideTask.THREE_WAY, SlideTask.FOUR_WAY):
        network = SlideNetwork(REFERENCE, len(SLIDE_CLASSES[task]), 224)
        begin(network, REFERENCE, task, 224)
        said = slide_logits(network, np.stack(pictures))
        labels = np.array([class_of(draw.label, task) for draw in draws])
        areas = [auc(labels == k, calibrated(said, 1.0)[:, k]) for k in range(said.shape[1])]
        assert np.mean(areas) > 0.8
    assert np.array_equal(
        fitted.answer(np.stack(pictures)), calibrated(said, fitted.spec.temperature)
    )
    density = density_of(torch.from_numpy(pictures[0][None]))
    assert fitted.network.explained(density, 3).shape == (1, 56, 56)


def test_drawn_slides_are_kept_and_equal_plans_give_equal_weights(tmp_path: Path) -> None:
    plan = Plan(slides=20, epochs=1, batch=4)
    first = train(tmp_path, plan)
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "slides").iterdir()}
    again = train(tmp_path, plan)
    assert again.sha256 == first.sha256
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "slides").iterdir()} == drawn
    manifest = json.loads((tmp_path / "overview" / "manifest.json").read_text())
    assert manifest["figures"]["held_out_slides"] == 2
    assert isinstance(load_fitted(tmp_path / "overview"), FittedLowResolution)


def test_losses_are_less_only_beyond_a_standard_error() -> None:
    before, noise = np.linspace(0.5, 1.5, 50), np.tile([0.5, -0.5], 25)
    assert is_less(before - 0.2, before) and not is_less(before, before)
    assert not is_less(before - 0.02 + noise, before)
    assert not is_less(before[:1] - 1, before[:1])
