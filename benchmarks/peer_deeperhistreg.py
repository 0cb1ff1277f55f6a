"""DeeperHistReg as a peer: ``python benchmarks/peer_deeperhistreg.py JOB``, by its own environment.

The rigid step is that of its default, the bending that of its fast variant, because the default
takes far more than ten minutes on a CPU. It is GPL-3: it runs as a program, and Tandem's code does
not import it. Job and answer: `benchmarks/registration_peers.py`.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import deeperhistreg
import numpy as np
import SimpleITK as sitk  # noqa: N813  its own convention
import torch
from scipy.ndimage import map_coordinates


def main(job_path: str) -> None:
    """Run the job and print the answer; its own output goes to stderr."""
    job = json.loads(Path(job_path).read_text())
    with redirect_stdout(sys.stderr), TemporaryDirectory() as scratch:
        before = time.process_time()
        places = registered(job, Path(scratch))
        cpu_s = time.process_time() - before
    answer = {
        "cpu_s": cpu_s,
        "places_um": (places * job["mpp"]).tolist(),
        "error_um": None,  # it does not estimate one
        "package": f"deeperhistreg {version('deeperhistreg')}, torch {torch.__version__}",
    }
    print(json.dumps(answer))


def parameters() -> dict[str, Any]:
    """Return the parameters of a run on a CPU that writes nothing but the displacement."""
    chosen = deeperhistreg.configs.default_initial_nonrigid()
    fast = deeperhistreg.configs.default_initial_nonrigid_fast()
    for part in ("preprocessing_params", "nonrigid_registration_params"):
        chosen[part] = fast[part] | {"save_results": False}
    chosen["initial_registration_params"]["save_results"] = False
    for part in (chosen, *(chosen[f"{n}_registration_params"] for n in ("initial", "nonrigid"))):
        part["device"] = "cpu"
    chosen["initial_registration_params"]["cuda"] = False
    chosen["save_final_images"] = False
    chosen["loading_params"] |= {
        "loader": "pil",
        "source_resample_ratio": 1.0,
        "target_resample_ratio": 1.0,
    }
    return chosen


def registered(job: dict[str, Any], scratch: Path) -> np.ndarray:
    """Return the places of the points in px of the IHC overview.

    The field says for each px of the target where it lies on the source. So the H&E slide is the
    target; both overviews have one size.
    """
    pipeline = deeperhistreg.direct_registration.DeeperHistReg_FullResolution(
        parameters() | {"case_name": "pair", "logging_path": None}
    )
    pipeline.run_registration(job["ihc"], job["he"], str(scratch))
    field = sitk.GetArrayFromImage(
        sitk.ReadImage(str(next(scratch.rglob("Results_Final/displacement_field.mha"))))
    )
    rows, columns = field.shape[1:]
    height, width = pipeline.org_target.shape[2:]
    scale = np.array([columns / width, rows / height])
    points = np.array(job["points_um"]) / job["mpp"] * scale
    at = points[:, ::-1].T - 0.5
    moved = [map_coordinates(layer, at, order=1, mode="nearest") for layer in field]
    return (points + np.stack(moved, axis=1)) / scale


if __name__ == "__main__":
    main(sys.argv[1])
