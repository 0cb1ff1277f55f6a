"""TIAToolbox as a peer: ``python benchmarks/peer_tiatoolbox.py JOB``, by its environment's Python.

It runs `PatchPredictor` in WSI mode with Tandem's model. Job and answer:
`benchmarks/peer_tools.py`.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tiatoolbox
import torch
import zarr
from PIL import Image
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.models_abc import ModelABC
from torch import Tensor
from torch.utils.data import DataLoader


class Classifier(ModelABC):
    """TorchScript network with the interface of TIAToolbox."""

    def __init__(self, path: str, px: int) -> None:
        super().__init__()
        self.network = torch.jit.load(path, map_location="cpu")
        self.preproc_func = partial(resized, px=px)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (N, classes) of `pixels` (N, 3, P, P), 0-1."""
        return self.network(pixels)

    @staticmethod
    def infer_batch(model: Classifier, batch_data: Tensor, *, device: str) -> np.ndarray:
        """Return probabilities (N, classes) of uint8 (N, P, P, 3)."""
        with torch.inference_mode():
            pixels = batch_data.to(device).permute(0, 3, 1, 2).float() / 255
            return model(pixels).softmax(dim=1).cpu().numpy()

    @staticmethod
    def postproc(image: Any) -> Any:
        """Return the most probable class."""
        return image.argmax(axis=-1)


class TilePredictor(PatchPredictor):
    """PatchPredictor for a list of places; the original takes a whole grid or that of a mask."""

    places: np.ndarray
    tile_px: int

    def get_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """Return TIAToolbox's own loader with these places."""
        loader = super().get_dataloader(*args, **kwargs)
        loader.dataset.inputs = np.hstack([self.places, self.places + self.tile_px])
        return loader


def resized(image: np.ndarray, px: int) -> np.ndarray:
    """Resize uint8 (T, T, 3) to (P, P, 3)."""
    return np.array(Image.fromarray(image).resize((px, px), Image.Resampling.BILINEAR))


def main(job_path: str) -> None:
    """Run the job and print the answer; TIAToolbox's own output goes to stderr."""
    job = json.loads(Path(job_path).read_text())
    torch.set_num_threads(job["workers"])
    with redirect_stdout(sys.stderr), TemporaryDirectory() as scratch:
        seconds, probabilities = measured(job, job["networks"][job["precision"]], Path(scratch))
    answer = {
        "seconds": seconds,
        "precision": job["precision"],
        "package": f"tiatoolbox {tiatoolbox.__version__}, torch {torch.__version__}",
        "probabilities": probabilities.tolist(),
    }
    print(json.dumps(answer))


def measured(job: dict[str, Any], network: str, scratch: Path) -> tuple[float, np.ndarray]:
    """Return the seconds for the slide's patches, and their probabilities."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = (job["tile_px"],) * 2
    predictor = TilePredictor(
        Classifier(network, job["input_px"]).eval(),
        batch_size=job["batch"],
        num_workers=job["workers"],
        device=device,
    )
    predictor.places, predictor.tile_px = np.array(job["places"]), job["tile_px"]
    shape = min(job["batch"], len(job["places"])), *[job["input_px"]] * 2, 3
    for _ in range(3):  # TorchScript optimizes itself in its first calls
        Classifier.infer_batch(
            predictor.model, torch.zeros(shape, dtype=torch.uint8), device=device
        )
    slide = Path(job["slide"])
    start = time.perf_counter()
    written = predictor.run(
        [slide],
        patch_mode=False,
        ioconfig=IOPatchPredictorConfig(
            input_resolutions=[{"units": "baseline", "resolution": 1.0}],
            patch_input_shape=side,
            stride_shape=side,
        ),
        auto_get_mask=False,
        return_probabilities=True,
        output_type="zarr",
        save_dir=scratch / "results",
    )
    seconds = time.perf_counter() - start
    return seconds, zarr.open(written[slide], mode="r")["probabilities"][:]


if __name__ == "__main__":
    main(sys.argv[1])
