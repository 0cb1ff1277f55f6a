"""Calibration: the temperature of an overconfident network rises, and its answers stay."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.small_disk import small_files
from fixtures.weights import tiles_of, tiny_weights
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from appliance.readers.inference import Network
from models.checkpoint import load_network, save_network
from models.datasets.generated_tiles import FIRST_HELD_OUT_SEED, FIRST_RESERVED_SEED
from models.errors import DataSetError, ManifestError
from models.slide_level.temperature import fit_temperature
from models.spec import (
    MANIFEST_NAME,
    WEIGHTS_NAME,
    ModelSpec,
    Task,
    file_sha256,
    read_manifest,
    reference_folder,
)
from models.training.calibration import with_calibration
from models.training.card import write_card
from models.training.finish import finished
from models.training.material import judged_tiles
from models.training.train import train

Logits = namedtuple("Logits", "logits")


class TooSure(nn.Module):
    """Reads the answer off the first px and is right in `right` of 100; always sure by `scale`."""

    def __init__(self, classes: int, scale: float, label_px: int | None = None) -> None:
        super().__init__()
        self.classes, self.scale, self.label_px = classes, scale, label_px

    def forward(self, pixels: Tensor) -> Logits:
        said = pixels[:, 0, 0, 0].long()
        if self.label_px is not None:
            said = said[:, None, None].expand(-1, self.label_px, self.label_px)
        logits = functional.one_hot(said, self.classes).float() * self.scale
        return Logits(logits.movedim(-1, 1))


def spec_of(task: Task, tmp_path: Path) -> ModelSpec:
    spec = tiny_weights(tmp_path / "base")
    return replace(spec, task=task)


@pytest.mark.parametrize("label_px", [None, 16])
def test_temperature_makes_an_overconfident_network_as_sure_as_it_is_right(
    tmp_path: Path, label_px: int | None
) -> None:
    """Right 80 times of 100, but 99.97 % sure: the fitted temperature makes that 80 %."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 100).astype(np.uint8)
    said = np.where(np.arange(100) % 5 == 0, 1 - labels, labels)
    images = np.zeros((100, 32, 32, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = said
    truth = labels if label_px is None else np.tile(labels[:, None, None], (1, label_px, label_px))
    spec = with_calibration(
        spec_of(Task.TUMOR, tmp_path), TooSure(2, 8.0, label_px), images, truth, "cpu"
    )
    sure = torch.tensor([8.0, 0.0]).div(spec.temperature).softmax(0)[0]
    assert float(sure) == pytest.approx(0.8, abs=1e-3)
    facts = spec.trained["calibration"]
    assert facts["nll"] < facts["nll_before"]


def test_a_few_tiles_that_are_all_right_make_nothing_sure(tmp_path: Path) -> None:
    for count, least in ((6, 0.7), (600, 0.05)):
        labels = np.arange(count, dtype=np.uint8) % 2
        images = np.zeros((count, 32, 32, 3), dtype=np.uint8)
        images[:, 0, 0, 0] = labels
        network = TooSure(2, 2.0)
        spec = with_calibration(spec_of(Task.TUMOR, tmp_path), network, images, labels, "cpu")
        assert least < spec.temperature < 1
        logits = np.where(labels[:, None] == np.arange(2), 2.0, 0.0)
        assert least < fit_temperature(logits, labels.astype(np.int64)) < 1


def test_of_two_valleys_the_deeper_one_is_found(tmp_path: Path) -> None:
    labels = np.zeros(400, dtype=np.uint8)
    images = np.zeros((400, 32, 32, 3), dtype=np.uint8)  # all right, and hardly sure
    spec = with_calibration(spec_of(Task.TUMOR, tmp_path), TooSure(2, 0.02), images, labels, "cpu")
    assert spec.temperature < 0.06  # the other valley is at 0.48


def test_steps_that_were_counted_are_no_weights(tmp_path: Path) -> None:
    """The counter of batch normalization exceeds float16; it is inf in files of former editions."""
    spec, network = load_network(reference_folder(Task.SEGMENTATION))
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            buffer.fill_(70_000)
            counter = name
    saved = save_network(tmp_path, spec, network)
    stored = load_file(tmp_path / WEIGHTS_NAME)
    assert np.isfinite(stored[counter])
    save_file(stored | {counter: np.array(np.inf, np.float16)}, tmp_path / WEIGHTS_NAME)
    former = replace(saved, sha256=file_sha256(tmp_path / WEIGHTS_NAME))
    (tmp_path / MANIFEST_NAME).write_text(former.to_json())
    assert load_network(tmp_path)[0] == former


def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path: Path) -> None:
    tiny_weights(tmp_path / "good")
    spec, network = load_network(tmp_path / "good")
    next(iter(network.parameters())).data[0] = 1e30  # not a number of float16
    with pytest.raises(ManifestError, match="no finite number, and nothing was written"):
        save_network(tmp_path / "bad", spec, network)
    assert not (tmp_path / "bad").exists()
    stored = load_file(tmp_path / "good" / WEIGHTS_NAME)
    next(iter(stored.values()))[0] = np.nan
    save_file(stored, tmp_path / "good" / WEIGHTS_NAME)
    changed = replace(spec, sha256=file_sha256(tmp_path / "good" / WEIGHTS_NAME))
    (tmp_path / "good" / MANIFEST_NAME).write_text(changed.to_json())
    with pytest.raises(ManifestError, match="no finite number"):
        load_network(tmp_path / "good")


def test_the_temperature_of_the_manifest_is_applied_to_probabilities(tmp_path: Path) -> None:
    """And to nothing else: softmax(logits / T), the same answer, another fingerprint."""
    cold = tiny_weights(tmp_path / "cold")
    warm = tiny_weights(tmp_path / "warm", temperature=4.0)
    assert cold.sha256 == warm.sha256
    assert cold.fingerprint != warm.fingerprint
    tiles = np.random.default_rng(0).integers(0, 256, (3, 512, 512, 3), dtype=np.uint8)
    sharp, soft = (Network(tmp_path / n, "cpu").classify(tiles) for n in ("cold", "warm"))
    expected = torch.from_numpy(sharp).log().div(4.0).softmax(dim=1).numpy()
    np.testing.assert_allclose(soft, expected, atol=1e-5)
    assert (soft.argmax(axis=1) == sharp.argmax(axis=1)).all()


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "warm"])
def test_a_temperature_that_is_none_is_refused(tmp_path: Path, temperature: object) -> None:
    tiny_weights(tmp_path)
    path = tmp_path / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature": temperature}))
    with pytest.raises(ManifestError, match=r"temperature|not supported"):
        read_manifest(tmp_path)


def test_nothing_to_calibrate_on_is_said(tmp_path: Path) -> None:
    none = np.zeros((0, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(DataSetError, match="no tiles to calibrate"):
        with_calibration(
            spec_of(Task.TUMOR, tmp_path), TooSure(2, 1.0), none, np.zeros(0, np.uint8), "cpu"
        )


def test_training_never_draws_what_calibrates_or_judges(tmp_path: Path) -> None:
    from fixtures.weights import TINY_VIT

    assert FIRST_RESERVED_SEED < FIRST_HELD_OUT_SEED
    with pytest.raises(DataSetError, match="Take a seed below 890"):
        train(
            Task.TUMOR,
            TINY_VIT,
            tmp_path,
            seed=890,
            tiles=1,
            device="cpu",
            progress=lambda _what, _done, _total: None,
        )


@pytest.mark.parametrize("task", [Task.TUMOR, Task.INTENSITY])
def test_a_trained_network_leaves_with_both(
    task: Task, tmp_path: Path, held_out_tiles: Path
) -> None:
    tiles = tiles_of(held_out_tiles, FIRST_HELD_OUT_SEED + 5_000_000, 64)
    before = tiny_weights(
        tmp_path,
        task=task,
        figures={"data": "synthetic", "accuracy": 0.5, "macro_f1": 0.5, "per_class": {}},
        trained={"tiles": 64, "data": "generated tiles", "seed": 0, "epochs": 1, "seconds": 1},
    )
    examples = judged_tiles(task, tiles)
    spec = finished(before, load_network(tmp_path)[1], examples, examples, "cpu")
    write_card(tmp_path, spec)
    assert spec.sha256 == before.sha256
    assert spec.appearance is not None
    assert spec.temperature != 1.0
    wanted = 64 if task is Task.TUMOR else int(tiles.tumor.sum())
    assert spec.trained["calibration"]["tiles"] == wanted
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert f"Temperature {spec.temperature:g}" in card
    assert f"Stain and focus of {spec.appearance['tiles']} training tiles" in card


def test_a_full_disk_is_told_with_the_folder_of_the_weights(tmp_path: Path) -> None:
    tiny_weights(tmp_path / "good")
    spec, network = load_network(tmp_path / "good")
    with small_files(256), pytest.raises(ManifestError, match=r"full: File too large\. Make room"):
        save_network(tmp_path / "full", spec, network)
    with pytest.raises(NotADirectoryError):  # more room would not help
        save_network(tmp_path / "good" / MANIFEST_NAME / "none", spec, network)
