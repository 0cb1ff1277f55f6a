"""Plain loop as a peer: OpenSlide's `read_region` in torch's DataLoader, PIL for resizing.

``python benchmarks/peer_loop.py float32|bfloat16 JOB``; job and answer: `benchmarks/peer_tools.py`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Tiles(Dataset[Tensor]):
    """Tiles read in the usual way: a handle per worker, PIL, 0-1."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.handle: openslide.OpenSlide | None = None

    def __len__(self) -> int:
        return len(self.job["places"])

    def __getitem__(self, number: int) -> Tensor:
        if self.handle is None:
            self.handle = openslide.OpenSlide(self.job["slide"])
        size = (self.job["tile_px"],) * 2
        region = self.handle.read_region(self.job["places"][number], 0, size).convert("RGB")
        small = region.resize((self.job["input_px"],) * 2, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255


def main(precision: str, job_path: str) -> None:
    """Run the job and print the answer."""
    job = json.loads(Path(job_path).read_text())
    torch.set_num_threads(job["workers"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = torch.jit.load(job["networks"][precision], map_location=device)
    loader = DataLoader(Tiles(job), batch_size=job["batch"], num_workers=job["workers"])
    likely = []
    with torch.inference_mode():
        shape = min(job["batch"], len(job["places"])), 3, *[job["input_px"]] * 2
        for _ in range(3):  # TorchScript optimizes itself in its first calls
            network(torch.zeros(shape, device=device))
        start = time.perf_counter()
        for pixels in loader:
            likely.append(network(pixels.to(device)).softmax(dim=1).cpu())
        seconds = time.perf_counter() - start
    answer = {
        "seconds": seconds,
        "precision": precision,
        "package": f"openslide-python {openslide.__version__}, torch {torch.__version__}",
        "probabilities": torch.cat(likely).tolist(),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
