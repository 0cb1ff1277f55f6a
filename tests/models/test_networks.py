"""Networks: every named configuration builds; changed weights are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.weights import tiles_of
from transformers import SegformerConfig, SegformerForSemanticSegmentation, ViTConfig, ViTModel
from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

from models.build import build
from models.checkpoint import load_network, save_network
from models.datasets.generated_tiles import FIRST_HELD_OUT_SEED
from models.errors import DataSetError, ManifestError
from models.spec import MANIFEST_NAME, WEIGHTS_NAME, Task, reference_folder
from models.training.configuration import configuration_names, load_configuration
from models.training.evaluate import judge


@pytest.mark.parametrize("name", configuration_names())
def test_every_named_configuration_builds(name: str) -> None:
    built = 0
    for task in Task:
        config = load_configuration(name, task)
        try:
            spec = config.spec(task)
        except DataSetError:
            continue
        with torch.device("meta"):
            network = build(spec)
        assert sum(p.numel() for p in network.parameters()) > 100_000
        built += 1
    assert built > 0


@pytest.mark.parametrize(
    ("name", "task"),
    [("reference", task) for task in Task] + [("maskformer-swin-tiny", Task.SEGMENTATION)],
)
def test_forward_gives_logits_of_the_promised_shape(name: str, task: Task) -> None:
    torch.manual_seed(0)  # the tolerance was seen to hold for these numbers
    spec = load_configuration(name, task).spec(task)
    network = build(spec).eval()
    pixels = torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8)
    with torch.inference_mode():
        logits = network(pixels).logits
        again = network(pixels.float()).logits
    expected = (1, 5, 128, 128) if task is Task.SEGMENTATION else (1, len(spec.classes))
    assert tuple(logits.shape) == expected
    # Bytes are resized as bytes: up to half a gray level is lost.
    lost = 0.01 if spec.input_px < spec.tile_px else 1e-5
    torch.testing.assert_close(logits, again, atol=lost, rtol=lost)


@pytest.mark.parametrize("name", ["reference", "vit-tiny-patch16-224", "segformer-b0"])
def test_networks_are_those_of_the_library_by_names_answers_and_beginning(name: str) -> None:
    torch.manual_seed(0)  # means of 192 drawn numbers: one pair in eighty differs by more
    task = Task.SEGMENTATION if name.startswith("segformer") else Task.TUMOR
    spec = load_configuration(name, task).spec(task)
    network = build(spec).eval()
    if task is Task.SEGMENTATION:
        config = SegformerConfig(num_labels=len(spec.classes), **spec.config)
        theirs = SegformerForSemanticSegmentation(config).eval()
    else:
        theirs = ViTModel(ViTConfig(**spec.config), add_pooling_layer=False).eval()
    for part, other in zip(network.body.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(part.std(), other.std(), rtol=0.3, atol=1e-3)
        torch.testing.assert_close(part.mean(), other.mean(), rtol=0.1, atol=5e-3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(1.0 * (parameter.dim() == 1), 0.05)
        theirs.load_state_dict(network.body.state_dict())
        seen = network.pixels(torch.randint(0, 256, (2, 3, 512, 512), dtype=torch.uint8))
        ours = network.body(seen)
        expected = theirs(seen)
    answer = expected.logits if task is Task.SEGMENTATION else expected.last_hidden_state
    torch.testing.assert_close(ours, answer, atol=1e-3, rtol=1e-3)


def test_numbers_that_the_network_does_not_have_are_named() -> None:
    spec = load_configuration("reference", Task.TUMOR).spec(Task.TUMOR)
    with pytest.raises(ManifestError, match="hidden_sise"):
        build(replace(spec, config={**spec.config, "hidden_sise": 3}))


def test_heads_that_cannot_share_the_width_are_told() -> None:
    spec = load_configuration("reference", Task.TUMOR).spec(Task.TUMOR)
    with pytest.raises(ManifestError, match="7 attention heads cannot share 192 features"):
        build(replace(spec, config=spec.config | {"num_attention_heads": 7}))


@pytest.mark.parametrize("training", [False, True])
def test_the_decode_head_says_what_that_of_the_library_says(training: bool) -> None:
    torch.manual_seed(0)
    spec = load_configuration("reference", Task.SEGMENTATION).spec(Task.SEGMENTATION)
    network = build(spec)
    config = SegformerConfig(num_labels=len(spec.classes), **spec.config)
    ours = network.body.decode_head
    norm = ours.batch_norm
    with torch.no_grad():  # as after training, not as made
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 3)
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    theirs = SegformerDecodeHead(config)
    theirs.load_state_dict(ours.state_dict())
    for head in (ours, theirs):
        head.train(training)
        head.dropout.p = 0.0
    sizes = zip(config.hidden_sizes, (32, 16, 8, 4), strict=True)
    states = [torch.randn(2, channels, size, size) for channels, size in sizes]
    answers = [head(states) for head in (ours, theirs)]
    torch.testing.assert_close(*answers, atol=1e-4, rtol=1e-4)
    target = torch.randn_like(answers[0])
    for answer in answers:
        (answer * target).sum().backward()
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        expected = theirs_by_name[name].grad
        scale = float(expected.abs().max())
        torch.testing.assert_close(parameter.grad, expected, atol=2e-4 * scale + 1e-4, rtol=1e-3)


def test_weights_survive_the_disk_and_a_changed_byte_is_refused(tmp_path: Path) -> None:
    spec = load_configuration("reference", Task.TUMOR).spec(Task.TUMOR)
    network = build(spec)
    saved = save_network(tmp_path, spec, network)
    loaded_spec, loaded = load_network(tmp_path)
    assert loaded_spec == saved
    for name, tensor in network.state_dict().items():
        expected = tensor.half().float()  # stored at half precision
        torch.testing.assert_close(loaded.state_dict()[name], expected)
    weights = tmp_path / WEIGHTS_NAME
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ManifestError, match="checksum"):
        load_network(tmp_path)
    weights.unlink()
    with pytest.raises(ManifestError, match="missing"):
        load_network(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text("{}")
    with pytest.raises(ManifestError, match="not a usable manifest"):
        load_network(tmp_path)


def test_unknown_configuration_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="vit-small-patch16-224"):
        load_configuration("vit-huge", Task.TUMOR)
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nlearnin_rate = 1\n')
    with pytest.raises(DataSetError, match="learnin_rate"):
        load_configuration(str(path), Task.TUMOR)


@pytest.mark.parametrize(
    ("task", "key", "at_least"),
    [
        (Task.TUMOR, "accuracy", 0.94),
        (Task.INTENSITY, "accuracy", 0.85),
        (Task.SEGMENTATION, "mean_iou", 0.75),
    ],
)
def test_reference_weights_know_held_out_tiles(
    task: Task, key: str, at_least: float, held_out_tiles: Path
) -> None:
    """Seeds that neither trained nor chose them. The bar is low: this finds broken weights."""
    tiles = tiles_of(held_out_tiles, FIRST_HELD_OUT_SEED + 5_000_000, 64)
    spec, network = load_network(reference_folder(task))
    figures = judge(spec, network, tiles, "cpu")
    assert figures[key] >= at_least, figures


def test_evaluation_counts_what_it_says() -> None:
    from models.evaluation.figures import classification_figures, confusion

    matrix = confusion(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 2)
    assert matrix.tolist() == [[1, 1], [1, 2]]
    figures = classification_figures(matrix, ("no", "yes"))
    assert figures["accuracy"] == 0.6
    assert figures["per_class"]["yes"] == {
        "precision": 0.6667,
        "recall": 0.6667,
        "specificity": 0.5,
        "f1": 0.6667,
        "n": 3,
    }
