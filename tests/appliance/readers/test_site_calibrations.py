"""A site's calibration in use: probabilities, label maps, keys of results, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.weights import tiny_weights
from scipy.special import softmax

from appliance.errors import SettingsError, WeightsError, WeightsUnusableError
from appliance.line.readings import reader_facts, require_unchanged
from appliance.operations.doctor import examine
from appliance.operations.start_checks import check_start
from appliance.readers.chosen_weights import chosen_weights, with_chosen_weights
from appliance.readers.inference import Network, Runtime
from appliance.readers.networks import network_for
from appliance.readers.opinions import reference_to
from appliance.readers.reader import find_reader
from appliance.readers.site_calibrations import calibration_path, calibration_words
from appliance.settings.networks import ModelSettings
from appliance.settings.settings import Settings
from models.site_calibration import SiteCalibration
from models.spec import ModelSpec, Task, read_manifest, reference_folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", models=ModelSettings(device="cpu"))


def made_for(spec: ModelSpec, scale: float, *offsets: float) -> SiteCalibration:
    return SiteCalibration(
        task=spec.task.value,
        weights=spec.weights_fingerprint,
        scale=scale,
        offsets=offsets,
        tiles=40,
        patients=6,
        made="2026-01-01T00:00:00+00:00",
    )


def put(site: SiteCalibration, spec: ModelSpec, settings: Settings) -> Path:
    path = calibration_path(spec, settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(site.to_json())
    return path


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_probabilities_change_by_exactly_the_scale_and_the_offsets(
    tmp_path: Path, runtime: Runtime
) -> None:
    spec = tiny_weights(tmp_path / "w", temperature=2.0)
    tiles = np.random.default_rng(0).integers(0, 256, (5, 512, 512, 3), dtype=np.uint8)
    plain = Network(tmp_path / "w", "cpu", runtime)
    ours = Network(tmp_path / "w", "cpu", runtime, made_for(spec, 1.5, 0.5, -1.0))
    logits = plain.logits(tiles)
    expected = 1.5 * logits + np.array([0.5, -1.0], np.float32)
    np.testing.assert_allclose(ours.logits(tiles), expected, atol=1e-5)
    np.testing.assert_allclose(ours.classify(tiles), softmax(expected, axis=1), atol=1e-5)


def test_label_maps_are_those_of_the_changed_logits() -> None:
    folder = reference_folder(Task.SEGMENTATION)
    spec = read_manifest(folder)
    offsets = (0.0, 0.0, 3.0, 0.0, 0.0)
    tiles = np.random.default_rng(0).integers(90, 256, (1, 512, 512, 3), dtype=np.uint8)
    plain = Network(folder, "cpu")
    ours = Network(folder, "cpu", site=made_for(spec, 0.5, *offsets))
    expected = 0.5 * plain.logits(tiles) + np.array(offsets, np.float32)[:, None, None]
    found = ours.segment(tiles)
    assert (found == expected.argmax(axis=1)).all()
    assert (found != plain.segment(tiles)).any()


def test_the_next_step_uses_it_and_no_result_of_another_is_reused(
    settings: Settings, tmp_path: Path
) -> None:
    reader = find_reader("tumor")
    spec = read_manifest(reference_folder(Task.TUMOR))
    tile = np.full((1, 256, 256, 3), 180, dtype=np.uint8)
    before, facts = network_for(Task.TUMOR, settings).classify(tile), []
    facts.append(reader_facts(reader, settings, {}))
    # Without a calibration a key is what it was before there were any.
    assert facts[0]["weights"] == spec.weights_fingerprint
    for offset in (2.0, 3.0):
        put(made_for(spec, 1.0, 0.0, offset), spec, settings)
        facts.append(reader_facts(reader, settings, {}))
        after = network_for(Task.TUMOR, settings).classify(tile)
        odds = [float(np.log(p[0, 1] / p[0, 0])) for p in (before, after)]
        assert odds[1] - odds[0] == pytest.approx(offset, abs=1e-3)
    assert len({fact["weights"] for fact in facts}) == 3
    # Findings name it.
    said = reference_to(network_for(Task.TUMOR, settings).spec)
    assert said.fingerprint == facts[-1]["weights"]
    assert said.calibration_words.startswith("calibrated for this site by 40 tiles of 6 patients")
    # `tandem process` has a state folder of its own, and the site's calibration.
    elsewhere = with_chosen_weights(settings, [Task.TUMOR]).model_copy(
        update={"state_dir": tmp_path / "scratch"}
    )
    assert reader_facts(reader, elsewhere, {}) == facts[-1]
    calibration_path(spec, settings).unlink()
    assert reader_facts(reader, settings, {}) == facts[0]
    assert network_for(Task.TUMOR, settings).classify(tile) == pytest.approx(before)


def test_a_folder_of_calibrations_that_is_away_stops_the_reader(
    settings: Settings, tmp_path: Path
) -> None:
    share, reader = tmp_path / "share", find_reader("tumor")
    named = settings.models.model_copy(update={"calibrations": share / "calibrations"})
    settings = settings.model_copy(update={"models": named})
    spec = read_manifest(reference_folder(Task.TUMOR))
    put(made_for(spec, 1.0, 0.0, 2.0), spec, settings)
    facts = reader_facts(reader, settings, {})
    assert facts["weights"] != spec.weights_fingerprint
    share.rename(tmp_path / "away")
    share.mkdir()  # the bare mount point
    told = f"models.calibrations = {share / 'calibrations'}: no folder is there. Mount or create it"
    with pytest.raises(WeightsUnusableError, match=re.escape(told)):
        reader_facts(reader, settings, {})
    with pytest.raises(SettingsError, match=re.escape(told)):
        check_start(settings)
    share.rmdir()
    (tmp_path / "away").rename(share)
    assert reader_facts(reader, settings, {}) == facts
    # A folder without a calibration of these weights says that there is none.
    calibration_path(spec, settings).unlink()
    assert reader_facts(reader, settings, {})["weights"] == spec.weights_fingerprint
    check_start(settings)


def test_the_doctor_names_a_folder_of_calibrations_that_is_away(tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(
        f"state_dir = '{tmp_path / 'state'}'\nmodels.calibrations = '{tmp_path / 'share'}'\n"
    )
    lines = [line for line in examine(config) if line.what == "weights for tumor"]
    assert [line.ok for line in lines] == [False]
    assert f"models.calibrations = {tmp_path / 'share'}: no folder is there" in lines[0].text


def test_a_damaged_calibration_stops_the_reader_and_names_the_remedy(settings: Settings) -> None:
    spec = read_manifest(reference_folder(Task.TUMOR))
    path = put(made_for(spec, 1.0, 0.0, 2.0), spec, settings)
    for text in (path.read_text()[:-20], path.read_text().replace("2.0", "2.5")):
        path.write_text(text)
        with pytest.raises(WeightsError, match="tandem calibrate --remove --task tumor"):
            chosen_weights(Task.TUMOR, settings)


def test_a_calibration_of_other_weights_is_not_applied(settings: Settings, tmp_path: Path) -> None:
    other = tiny_weights(tmp_path / "other")
    path = put(made_for(other, 1.0, 0.0, 2.0), other, settings)
    _, spec = chosen_weights(Task.TUMOR, settings)
    assert spec.site is None
    assert "of other weights is there; it is not applied" in calibration_words(spec, settings)
    assert "other weights" not in calibration_words(other, settings)
    # Under the right name it is refused all the same.
    calibration_path(spec, settings).write_text(path.read_text())
    with pytest.raises(WeightsError, match="belongs to other weights"):
        chosen_weights(Task.TUMOR, settings)
    named = replace(spec, site=None)
    assert named.fingerprint == spec.fingerprint


def test_a_calibration_that_is_stored_while_a_slide_is_read_drops_the_reading(
    settings: Settings,
) -> None:
    reader = find_reader("tumor")
    asked = [reader_facts(reader, settings, {})]
    require_unchanged(asked, [reader], settings, {})
    spec = read_manifest(reference_folder(Task.TUMOR))
    put(made_for(spec, 1.0, 0.0, 2.0), spec, settings)
    with pytest.raises(WeightsUnusableError, match="tried again by itself"):
        require_unchanged(asked, [reader], settings, {})
