"""TorchScript export: the file answers as the network does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.build import build
from models.checkpoint import load_network
from models.spec import Task, read_manifest, reference_folder
from models.torchscript import save_torchscript


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")  # WSInfer takes nothing else
def test_the_same_answers_in_batches_of_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)  # the tolerance was seen to hold for these numbers
    folder = reference_folder(Task.TUMOR)
    spec, network = load_network(folder)
    assert spec.temperature != 1
    seen = build(replace(read_manifest(folder), tile_px=spec.input_px)).eval()
    seen.load_state_dict(network.state_dict())
    tiles = torch.randint(0, 256, (3, 3, spec.input_px, spec.input_px), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = seen(tiles).logits / spec.temperature
    for half, allowed in ((False, 1e-4), (True, 0.1)):
        path = tmp_path / f"{half}.pt"
        save_torchscript(path, spec, network, "cpu", half=half)
        other = torch.jit.load(path)
        for count in (3, 1):
            with torch.inference_mode():
                said = other(tiles[:count].float() / 255)
            assert said.dtype is torch.float32
            assert (said - wanted[:count]).abs().max() < allowed
        assert half == (not torch.allclose(said, wanted[:1], atol=1e-4))
