"""The weights in use: order of precedence, refusals, and steps that follow a new selection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures.weights import tiny_weights

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import HE
from appliance.errors import WeightsError
from appliance.line.analyze_slide import inspect_slide, open_facts, read_alone
from appliance.line.outcomes import ReadSlide
from appliance.operations.install_weights import install_weights, select_weights
from appliance.readers.chosen_weights import chosen_weights, with_chosen_weights
from appliance.readers.tumor import TumorReader
from appliance.settings.networks import ModelSettings
from appliance.settings.settings import Settings
from models.spec import MANIFEST_NAME, Task
from models.synthesis.pyramid import write_pyramid


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


def use(settings: Settings, folder: Path) -> Path:
    """Install and select the tumor weights in `folder`; return the folder of the installed set."""
    installed = install_weights(folder, settings)
    return select_weights(Task.TUMOR, installed.name, settings).folder


def test_a_folder_in_the_settings_is_stronger_and_is_said(
    settings: Settings, tmp_path: Path
) -> None:
    tiny_weights(tmp_path / "own")
    tiny_weights(tmp_path / "named", seed=1)
    named = settings.model_copy(update={"models": ModelSettings(tumor=tmp_path / "named")})
    install_weights(tmp_path / "own", named, "ours")
    assert not select_weights(Task.TUMOR, "ours", named).in_use
    assert chosen_weights(Task.TUMOR, named)[0] == tmp_path / "named"
    assert chosen_weights(Task.TUMOR, settings)[1].version == "1.0"


def test_a_changed_temperature_is_not_used_silently(settings: Settings, tmp_path: Path) -> None:
    """The checksum covers the weights alone; the selection covers the manifest too."""
    tiny_weights(tmp_path / "own")
    manifest = use(settings, tmp_path / "own") / MANIFEST_NAME
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"temperature": 0.1}))
    with pytest.raises(WeightsError, match="changed after it was selected"):
        chosen_weights(Task.TUMOR, settings)


def test_weights_of_another_task_are_refused(settings: Settings, tmp_path: Path) -> None:
    tiny_weights(tmp_path / "stain", task=Task.INTENSITY)
    named = settings.model_copy(update={"models": ModelSettings(tumor=tmp_path / "stain")})
    with pytest.raises(WeightsError, match="is for intensity"):
        chosen_weights(Task.TUMOR, named)


def test_a_selection_that_cannot_be_read_is_refused(settings: Settings) -> None:
    settings.weights_dir.mkdir(parents=True)
    (settings.weights_dir / "selected.json").write_text('{"tumor": 3}')
    with pytest.raises(WeightsError, match=r"selected\.json cannot be read"):
        chosen_weights(Task.TUMOR, settings)
    # A file that the system does not give is not to be deleted: it says what is in use.
    (settings.weights_dir / "selected.json").unlink()
    (settings.weights_dir / "selected.json").mkdir()
    with pytest.raises(WeightsError, match=r"selected\.json: Is a directory\. It says which"):
        chosen_weights(Task.TUMOR, settings)


def test_the_next_step_runs_what_was_selected(settings: Settings, tmp_path: Path) -> None:
    """Same slide, same process, no restart: other weights give another result, none is reused."""
    pixels = np.full((1024, 1024, 3), 245, dtype=np.uint8)
    noise = np.random.default_rng(0).integers(-40, 40, (768, 768, 1))
    pixels[128:896, 128:896] = (np.array((190, 120, 170)) + noise).astype(np.uint8)
    path = tmp_path / "slide.svs"
    write_pyramid(path, [pixels], width_px=1024, height_px=1024, mpp=0.2793, file_format="svs")
    facts = open_facts(path)
    slide = ReadSlide(facts=facts, inspect_key=inspect_slide(facts, settings).key)
    store = ArtifactStore(settings.artifacts_dir)
    keys, fingerprints = [], []
    for number in (0, 1):
        spec = tiny_weights(tmp_path / f"own-{number}", seed=number)
        use(settings, tmp_path / f"own-{number}")
        done = read_alone(slide, HE, ["her2"], settings)
        assert not done.times[0].reused
        keys.append(done.key)
        fingerprints.append(spec.fingerprint)
    readings = [TumorReader().load(store.path(ArtifactKey.parse(k)) / "tumor") for k in keys]
    weights = [reading.opinion.weights for reading in readings]
    assert [w.fingerprint for w in weights if w is not None] == fingerprints
    maps = [reading.probability for reading in readings]
    assert np.nanmax(np.abs(maps[0] - maps[1])) > 0
    select_weights(Task.TUMOR, "tiny-1.0", settings)
    again = read_alone(slide, HE, ["her2"], settings)
    assert (again.key, again.times[0].reused) == (keys[0], True)
    # `tandem process` uses its own state folder, with the weights selected in this one.
    elsewhere = with_chosen_weights(settings, [Task.TUMOR]).model_copy(
        update={"state_dir": tmp_path / "scratch"}
    )
    shutil.copytree(settings.artifacts_dir, elsewhere.artifacts_dir)
    assert read_alone(slide, HE, ["her2"], elsewhere).key == keys[0]
