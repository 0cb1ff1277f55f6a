"""Training begins with a checkpoint that transformers wrote, and refuses what is another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures.weights import TINY_VIT, vit_checkpoint
from torch import nn
from transformers import (
    MaskFormerForInstanceSegmentation,
    SegformerConfig,
    SegformerForImageClassification,
)

from models.build import build
from models.errors import DataSetError
from models.maskformer import MaskformerSegmenter
from models.spec import WEIGHTS_NAME, ModelSpec, Task
from models.training.beginning import begin_with
from models.training.configuration import TrainingConfig

SEGFORMER = {
    "hidden_sizes": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
    "decoder_hidden_size": 16,
    "num_attention_heads": [1, 1, 1, 1],
    "sr_ratios": [8, 4, 2, 1],
}
MASKFORMER = {
    "fpn_feature_size": 32,
    "mask_feature_size": 32,
    "backbone": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]},
    "decoder_config": {
        "model_type": "detr",
        "d_model": 16,
        "num_queries": 6,
        "decoder_layers": 1,
        "decoder_attention_heads": 2,
        "decoder_ffn_dim": 16,
    },
}


def segmenter(architecture: str, numbers: dict[str, Any]) -> ModelSpec:
    config = TrainingConfig.of(
        {
            **{"name": "tiny", "architecture": architecture, "input_px": 512, "config": numbers},
            **{"learning_rate": 1e-3, "batch_size": 2, "epochs": 1, "tiles": 2},
        }
    )
    return config.spec(Task.SEGMENTATION)


def began(spec: ModelSpec, folder: Path) -> tuple[nn.Module, dict[str, Any], list[str]]:
    told: list[str] = []
    network = build(spec)
    facts = begin_with(network, spec, folder, told.append)
    return network.eval(), facts["init"], told


def test_a_classifier_of_as_many_labels_answers_as_its_checkpoint(tmp_path: Path) -> None:
    theirs = vit_checkpoint(tmp_path, labels=2)
    network, facts, _ = began(TINY_VIT.spec(Task.TUMOR), tmp_path)
    assert facts["begun_anew"] == facts["unused"] == []
    pixels = torch.randint(0, 256, (2, 3, 512, 512)).float()
    with torch.inference_mode():
        expected = theirs(network.pixels(pixels)).logits
        torch.testing.assert_close(network(pixels).logits, expected)


def test_a_backbone_without_a_decoder_begins_a_segformer(tmp_path: Path) -> None:
    """Published encoders were trained as classifiers."""
    model = SegformerForImageClassification(SegformerConfig(num_labels=3, **SEGFORMER))
    model.save_pretrained(tmp_path)
    network, facts, told = began(segmenter("segformer", SEGFORMER), tmp_path)
    assert facts["unused"] == ["classifier.bias", "classifier.weight"]
    assert all(name.startswith("decode_head.") for name in facts["begun_anew"])
    assert "decode_head.linear_fuse.weight" in facts["begun_anew"]
    assert any(line.startswith("Not part of this network, not used: classif") for line in told)
    ours = network.state_dict()
    for name, tensor in model.segformer.state_dict().items():
        assert torch.equal(ours[f"body.segformer.{name}"], tensor), name


def test_a_maskformer_of_other_classes_begins_ours(tmp_path: Path) -> None:
    torch.manual_seed(0)  # the same networks in each run
    spec = segmenter("maskformer", MASKFORMER)
    made = build(spec)
    assert isinstance(made, MaskformerSegmenter)
    config = made.body.config
    config.num_labels = 3
    model = MaskFormerForInstanceSegmentation(config)
    model.save_pretrained(tmp_path)
    network, facts, _ = began(spec, tmp_path)
    assert facts["begun_anew"] == ["class_predictor.bias", "class_predictor.weight"]
    ours = network.state_dict()
    assert ours["body.criterion.empty_weight"].shape == (6,)
    for name, tensor in model.state_dict().items():
        if not name.startswith(("class_predictor.", "criterion.")):
            assert torch.equal(ours[f"body.{name}"], tensor), name


def test_what_cannot_begin_a_training_is_told_with_its_remedy(tmp_path: Path) -> None:
    spec = TINY_VIT.spec(Task.TUMOR)

    def refused(folder: Path, says: str) -> None:
        with pytest.raises(DataSetError, match=says):
            began(spec, folder)

    refused(tmp_path, "neither weights of Tandem")
    heads, deep = tmp_path / "heads", tmp_path / "deep"
    vit_checkpoint(heads, labels=2, num_attention_heads=4)  # tensors of the same sizes
    refused(heads, "num_attention_heads is 4 there and 2 here")
    vit_checkpoint(deep, labels=2, num_hidden_layers=2)
    refused(deep, "num_hidden_layers is 2 there and 1 here")
    config = json.loads((deep / "config.json").read_text())
    (deep / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    assert any(".1." in name for name in began(spec, deep)[1]["unused"])
    (deep / "config.json").write_text(json.dumps(config | {"model_type": "deit"}))
    refused(deep, "a checkpoint of 'deit' cannot begin a vit")
    (deep / "config.json").write_text("{")
    refused(deep, "not readable as JSON")
    vit_checkpoint(deep, labels=2)
    data = (deep / WEIGHTS_NAME).read_bytes()
    (deep / WEIGHTS_NAME).write_bytes(data[: len(data) // 2])
    refused(deep, "not a usable checkpoint")
    (deep / WEIGHTS_NAME).rename(deep / "pytorch_model.bin")
    refused(deep, "pytorch_model.bin is a pickle.*save_pretrained")


def test_other_colors_than_those_of_the_checkpoint_are_told(tmp_path: Path) -> None:
    vit_checkpoint(tmp_path, labels=2)
    stated = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    said = began(TINY_VIT.spec(Task.TUMOR), tmp_path)[2]
    assert any("tiny gives it optical-density" in line for line in said)
