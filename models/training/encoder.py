"""Training of the encoder that ships: the share of each kind of tissue on drawn IHC tiles.

``python -m models.training.encoder --out DIR [--seed 1] [--looks 60] [--steps 480]``

The pretext needs no person's label: of each tile the generator knows which share of the px is
background and tumor scored 0, 1+, 2+ and 3+. The layer that answers it is thrown away, and what
stays is the vector before it. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoint import require_finite
from models.encoders.convolutional import ConvolutionalEncoder, ConvolutionalShape
from models.encoders.spec import EncoderSpec
from models.pixels import Pixels
from models.spec import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME, Task, file_sha256
from models.synthesis.stain import random_ihc_style
from models.synthesis.tile_pool import BAG_TILE_MPP, BAG_TILE_PX, KINDS, draw_tissue, stained
from models.training.augmentation import augment

ROWS, COLUMNS = 2, 2
"""Neighboring tiles that are drawn of each kind and look."""
STAININGS = 3
"""Stainings of each drawn tile."""
HELD_OUT = 0.15
"""Share of the looks, the last ones, that train nothing and give the figures."""
SHAPE = ConvolutionalShape(widths=(24, 48, 96, 192))
VERSION = "1.0"
Examples = tuple[NDArray[np.uint8], NDArray[np.float32]]
CHECKPOINT_STEPS = 20
"""Steps between checkpoints, from which a run that was killed goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretext:
    """Numbers that determine the weights."""

    seed: int = 1
    looks: int = 60
    steps: int = 480
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02


def untrained_spec() -> EncoderSpec:
    """Return the manifest of the encoder before it has weights."""
    return EncoderSpec(
        name="reference-encoder",
        version=VERSION,
        architecture="convolutional",
        tile_px=BAG_TILE_PX,
        mpp=BAG_TILE_MPP,
        dimension=SHAPE.widths[-1],
        mean=(0.25, 0.25, 0.25),
        std=(0.25, 0.25, 0.25),
        pixels="optical-density",
        config=asdict(SHAPE),
        license="Apache-2.0",
    )


def draw_look(folder: Path, seed: int, look: int) -> Examples:
    """Return the stained tiles of a look and their truth; draw them if their file is missing.

    uint8 (n, 224, 224, 3) with glass at 255, as a memory map, and float32 (n, 5).
    """
    pixels_path, truth_path = (folder / f"{seed}-{look}-{name}.npy" for name in ("pixels", "truth"))
    if not truth_path.is_file():
        rng = np.random.default_rng([seed, look, 0xE2C0])
        pixels, truth = [], []
        for kind in range(len(KINDS)):
            tissue = draw_tissue(seed, look, kind, ROWS, COLUMNS)
            for _ in range(STAININGS):
                pixels.append(stained(tissue, random_ihc_style(rng), int(rng.integers(2**31))))
                truth.append(tissue.truth)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(pixels_path, np.concatenate(pixels))
        part = truth_path.with_suffix(".part.npy")
        np.save(part, np.concatenate(truth))
        part.rename(truth_path)  # last: what is there is whole
    return (
        np.load(pixels_path, mmap_mode="r", allow_pickle=False),
        np.load(truth_path, allow_pickle=False),
    )


def train_encoder(out: Path, pretext: Pretext) -> EncoderSpec:
    """Draw the tiles, train, and write the encoder's folder; return its manifest.

    Raises
    ------
    ValueError
        If the training diverged: a weight is no finite number of float16.
    """
    tiles = out / "tiles"
    parts = []
    for look in range(pretext.looks):
        parts.append(draw_look(tiles, pretext.seed, look))
    kept = max(1, round(pretext.looks * (1 - HELD_OUT)))
    spec = untrained_spec()
    torch.manual_seed(pretext.seed)
    trunk = ConvolutionalEncoder(SHAPE)
    network = nn.Sequential(Pixels(spec), trunk, nn.Linear(spec.dimension, len(KINDS)))
    _learn(network, parts[:kept], out, pretext)
    figures = _figures(network, parts[kept:])
    folder = out / "encoder"
    tensors = {name: t.detach().half().contiguous() for name, t in trunk.state_dict().items()}
    require_finite(tensors)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / WEIGHTS_NAME)
    spec = replace(
        spec,
        sha256=file_sha256(folder / WEIGHTS_NAME),
        trained={**asdict(pretext), "data": "drawn IHC tiles (synthetic)", "stainings": STAININGS},
        figures=figures,
    )
    (folder / MANIFEST_NAME).write_text(spec.to_json())
    (folder / CARD_NAME).write_text(_card(spec))
    return spec


def _learn(network: nn.Module, looks: list[Examples], out: Path, pretext: Pretext) -> None:
    """Train by AdamW with a cosine; the loss is the cross-entropy with the shares."""
    truth = np.stack([shares for _, shares in looks])  # (looks, n, 5)
    each = truth.shape[1]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=pretext.learning_rate, weight_decay=pretext.weight_decay
    )
    losses: list[float] = []
    network.train()
    for step in range(_resume(network, optimizer, out, pretext), pretext.steps):
        share = step / pretext.steps
        for group in optimizer.param_groups:
            warm = min(1.0, share / 0.05 + 1e-2)
            group["lr"] = pretext.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        # Seeded by the step: a run that goes on equals one that was not interrupted.
        rng = np.random.default_rng([pretext.seed, step])
        chosen = np.sort(rng.choice(len(looks) * each, pretext.batch_size, replace=False))
        look, tile = np.divmod(chosen, each)
        pixels = np.stack([looks[k][0][n] for k, n in zip(look, tile, strict=True)])
        given = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        wanted = torch.from_numpy(truth[look, tile])
        given, wanted = augment(given, wanted, rng, Task.INTENSITY)
        loss = functional.cross_entropy(network(given), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == pretext.steps:
            _checkpoint(network, optimizer, out, pretext, step + 1)
            _say(f"step {step + 1} of {pretext.steps}: loss {np.mean(losses):.4f}")
            losses.clear()
    network.eval()


def _checkpoint(
    network: nn.Module, optimizer: torch.optim.Optimizer, out: Path, pretext: Pretext, steps: int
) -> None:
    tensors = {f"network.{name}": t.detach() for name, t in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
    part = out / "checkpoint.part"
    facts = {"steps": str(steps), "pretext": json.dumps(asdict(pretext))}
    save_file(tensors, part, metadata=facts)
    part.rename(out / "checkpoint.safetensors")


def _resume(
    network: nn.Module, optimizer: torch.optim.Optimizer, out: Path, pretext: Pretext
) -> int:
    """Load the checkpoint of this run, if there is one; return the number of its steps."""
    path = out / "checkpoint.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    if facts["pretext"] != json.dumps(asdict(pretext)):
        return 0
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(path).items():
        part, _, rest = key.partition(".")
        if part == "network":
            weights[rest] = value
        else:
            number, name = rest.split(".")
            state.setdefault(int(number), {})[name] = value
    network.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return int(facts["steps"])


def _figures(network: nn.Module, looks: list[Examples]) -> dict[str, object]:
    """Return what the pretext's own layer answers on tiles of looks that trained nothing."""
    answers = []
    with torch.inference_mode():
        for pixels, _ in looks:
            for start in range(0, len(pixels), 32):
                given = torch.from_numpy(np.array(pixels[start : start + 32]))
                answers.append(network(given.permute(0, 3, 1, 2)).softmax(dim=1).numpy())
    said, truth = np.concatenate(answers), np.concatenate([shares for _, shares in looks])
    return {
        "data": "synthetic, held-out looks",
        "tiles": len(said),
        "mean_error_of_shares": round(float(np.abs(said - truth).mean()), 4),
        "same_leading_kind": round(float((said.argmax(1) == truth.argmax(1)).mean()), 4),
    }


def _card(spec: EncoderSpec) -> str:
    trained, figures = spec.trained, spec.figures
    return f"""# {spec.name} {spec.version}

Turns an IHC tile of {spec.tile_px} px (143 µm) into {spec.dimension} numbers, for readers that
learn from whole slides (`docs/mil.md`).

**Intended use: research only.** Not for diagnostic use. A site may use an encoder of its own.

**Architecture.** {spec.architecture}, {spec.pixels}; numbers in `manifest.json`.

**Data.** Drawn HER2 tiles of {trained["looks"]} patients' looks (synthetic), each in
{trained["stainings"]} stainings. No real image trained it.

**Training.** {trained["steps"]} steps of {trained["batch_size"]} tiles; the pretext is the share of
each kind of tissue in the tile. To make it again:
`python -m models.training.encoder --seed {trained["seed"]} --out DIR`.

**Figures** ({figures["data"]}, {figures["tiles"]} tiles): mean error of a share
{figures["mean_error_of_shares"]}, leading kind right in {figures["same_leading_kind"]}. They say
nothing of real tissue. `python benchmarks/encoders.py` compares it with network L.

**Limits.** It was not judged on real images. It learned HER2 alone: ER and PR tiles are new to it.
"""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the command line; return 0 after the folder was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    for name in ("seed", "looks", "steps"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Pretext(), name))
    options = parser.parse_args()
    if options.seed < 0:
        parser.error(f"--seed {options.seed}: a whole number from 0")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    pretext = Pretext(seed=options.seed, looks=options.looks, steps=options.steps)
    spec = train_encoder(options.out, pretext)
    _say(json.dumps(spec.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
