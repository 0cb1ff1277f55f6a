"""WSInfer as a peer: ``python benchmarks/peer_wsinfer.py JOB``, by its own environment's Python.

It runs `run_inference` on Tandem's model and patches, in WSInfer's formats, read with OpenSlide.
Job and answer: `benchmarks/peer_tools.py`.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
import wsinfer
from wsinfer.modellib import run_inference as engine
from wsinfer.modellib.models import LocalModelTorchScript, get_pretrained_torch_module
from wsinfer.wsi import set_backend
from wsinfer_zoo.client import ModelConfiguration


def main(job_path: str) -> None:
    """Run the job and print the answer; WSInfer's own output goes to stderr."""
    job = json.loads(Path(job_path).read_text())
    torch.set_num_threads(job["workers"])
    with redirect_stdout(sys.stderr), TemporaryDirectory() as scratch:
        seconds, table = measured(job, job["networks"][job["precision"]], Path(scratch))
    places = np.array(job["places"])
    if not np.array_equal(table[["minx", "miny"]].to_numpy(), places):
        raise SystemExit("WSInfer answered for other places")
    answer = {
        "seconds": seconds,
        "precision": job["precision"],
        "package": f"wsinfer {wsinfer.__version__}, torch {torch.__version__}",
        "probabilities": table.filter(like="prob_").to_numpy().tolist(),
    }
    print(json.dumps(answer))


def measured(job: dict[str, Any], network: str, scratch: Path) -> tuple[float, pd.DataFrame]:
    """Return the seconds for the slide's patches, and WSInfer's table of them."""
    slide = Path(job["slide"])
    slides, results = scratch / "slides", scratch / "results"
    (results / "patches").mkdir(parents=True)
    slides.mkdir()
    (slides / slide.name).symlink_to(slide)
    with h5py.File(results / "patches" / f"{slide.stem}.h5", "w") as file:
        coords = file.create_dataset("coords", data=np.array(job["places"]))
        coords.attrs.update(patch_level=0, patch_size=job["tile_px"])
    config = {
        "spec_version": "1.0",
        "architecture": "vit",
        "num_classes": len(job["classes"]),
        "class_names": job["classes"],
        "patch_size_pixels": job["tile_px"],
        "spacing_um_px": job["mpp"],
        "transform": [
            {"name": "Resize", "arguments": {"size": job["input_px"]}},
            {"name": "ToTensor"},
        ],
    }
    model = LocalModelTorchScript(ModelConfiguration.from_dict(config), network)
    set_backend("openslide")
    loaded = get_pretrained_torch_module(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = min(job["batch"], len(job["places"])), 3, *[job["input_px"]] * 2
    with torch.no_grad():
        for _ in range(3):  # TorchScript optimizes itself in its first calls
            loaded.to(device)(torch.zeros(shape, device=device))
    # Load before the timing: WSInfer would load the network again in each call.
    engine.get_pretrained_torch_module = lambda model: loaded
    start = time.perf_counter()
    failed = engine.run_inference(slides, results, model, job["batch"], job["workers"])
    seconds = time.perf_counter() - start
    if any(failed):
        raise SystemExit(f"WSInfer failed: {failed}")
    return seconds, pd.read_csv(results / "model-outputs-csv" / f"{slide.stem}.csv")


if __name__ == "__main__":
    main(sys.argv[1])
