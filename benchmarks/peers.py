"""Tandem beside others: the same slide, the same weights, the same tiles, in one run.

``python benchmarks/peers.py SLIDE --config vit-tiny-patch16-224 --tiles 1000``

The peer is a plain loop (OpenSlide's `read_region` in torch's DataLoader, one worker per core), in
float32 and in bfloat16. ``--install`` puts WSInfer and TIAToolbox into environments of their own
and says what came of it; they are not run yet. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from appliance.analysis.inference import Network
from appliance.analysis.reading import read_tumor
from appliance.analysis.slide import SlideReader
from appliance.bench import Plan, planned
from appliance.geometry import TILE_MPP, TILE_PX
from models.build import build
from models.spec import ModelSpec, Task
from models.training.configuration import load_configuration
from models.weights import save_network

PACKAGES = {"wsinfer": "wsinfer", "tiatoolbox": "tiatoolbox"}
BATCH = 32


class Tiles(Dataset[Tensor]):
    """The plan's tiles as people read them: a handle per worker, PIL, 224 px, 0-1."""

    def __init__(self, plan: Plan, px: int) -> None:
        self.plan, self.px = plan, px
        self.handle: openslide.OpenSlide | None = None

    def __len__(self) -> int:
        return len(self.plan.tiles)

    def __getitem__(self, number: int) -> Tensor:
        if self.handle is None:
            self.handle = openslide.OpenSlide(self.plan.path)
        tile = self.plan.tiles[number]
        place = tile.column * TILE_PX, tile.row * TILE_PX
        region = self.handle.read_region(place, 0, (TILE_PX, TILE_PX)).convert("RGB")
        small = region.resize((self.px, self.px), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255


class Normalised(nn.Module):
    """The same network behind torchvision's usual normalisation."""

    def __init__(self, spec: ModelSpec, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))

    def forward(self, pixels: Tensor) -> Tensor:
        """`pixels` (N, 3, P, P), 0-1."""
        tokens = self.network.body((pixels - self.mean) / self.std).last_hidden_state
        logits: Tensor = self.network.head(tokens[:, 0])
        return logits


def main(arguments: Sequence[str]) -> None:
    """Print tiles per second of each, medians of interleaved repeats, and ratios, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, nargs="?", help="at 0.2793 µm/px")
    parser.add_argument("--config", default="vit-tiny-patch16-224")
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--install", type=Path, help="folder for the peers' environments")
    options = parser.parse_args(arguments)
    if options.install is not None:
        print(json.dumps({name: install(name, options.install) for name in PACKAGES}, indent=2))
        return
    if options.slide is None:
        parser.error("name a slide, or --install")
    print(json.dumps(compare(options.slide, options.config, options.tiles, options.repeats)))


def compare(slide: Path, config: str, most: int, repeats: int) -> dict[str, Any]:
    """Tandem's and the peers' rates on one slide."""
    plan = planned(slide, most)
    with SlideReader.open(slide) as reader:
        if abs(reader.facts.mpp / TILE_MPP - 1) > 1e-3:
            raise SystemExit(f"{slide}: {reader.facts.mpp} µm/px; the loop reads {TILE_MPP} alone")
    torch.manual_seed(0)
    spec = load_configuration(config, Task.TUMOR).spec(Task.TUMOR)
    with tempfile.TemporaryDirectory() as scratch:
        save_network(Path(scratch), spec, build(spec))
        network = Network(Path(scratch), "auto")
        own = torch.get_num_threads()
        plain = Normalised(spec, network._module).eval().to(network.device)
        kinds: dict[str, Callable[[], None]] = {
            "tandem": lambda: _tandem(plan, network),
            "loop-float32": lambda: _loop(plan, spec, plain, network.device, half=False),
            "loop-bfloat16": lambda: _loop(plan, spec, plain, network.device, half=True),
        }
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(repeats):
            for name, work in kinds.items():
                # As the peers would set torch up, and as Tandem does.
                torch.set_num_threads(own if name == "tandem" else os.cpu_count() or 1)
                start = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - start)
    rates = {name: len(plan.tiles) / statistics.median(s) for name, s in seconds.items()}
    best = max(rate for name, rate in rates.items() if name != "tandem")
    return {
        "config": config,
        "device": network.device,
        "tiles": len(plan.tiles),
        "tandem_tiles_per_s": round(rates["tandem"], 1),
        **{
            f"peers.{name}.tiles_per_s": round(rate, 1)
            for name, rate in rates.items()
            if name != "tandem"
        },
        "tandem_over_best_peer": round(rates["tandem"] / best, 2),
    }


def _tandem(plan: Plan, network: Network) -> None:
    with SlideReader.open(plan.path) as reader:
        batch_size = network.fitting_batch()
        read_tumor(reader, plan.tiles, plan.white_rgb, network, batch_size, lambda *_: None)


def _loop(plan: Plan, spec: ModelSpec, plain: nn.Module, device: str, *, half: bool) -> None:
    loader = DataLoader(
        Tiles(plan, spec.input_px), batch_size=BATCH, num_workers=os.cpu_count() or 1
    )
    with torch.inference_mode(), torch.autocast(device, dtype=torch.bfloat16, enabled=half):
        for pixels in loader:
            plain(pixels.to(device)).float().softmax(dim=1).cpu()


def install(name: str, root: Path) -> str:
    """Try to install a peer into ``root/name``; what came of it, in a line."""
    environment = root / name
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    command = [str(environment / "bin" / "pip"), "install", "--quiet", PACKAGES[name]]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    return "installed" if done.returncode == 0 else f"not installed: {lines[-1] if lines else ''}"


if __name__ == "__main__":
    main(sys.argv[1:])
