"""VALIS as a peer: ``python benchmarks/peer_valis.py JOB``, by its own environment's Python.

It registers the two overviews with its defaults, and looks for reflections, as Tandem does. VALIS
1.2 fetches weights of its default features from the network when it is imported. Without a network
it takes the features that were its default before. Job and answer:
`benchmarks/registration_peers.py`.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kornia.feature
import numpy as np
import torch

PATIENCE_S = 15
"""Longest silence of the network."""


def main(job_path: str) -> None:
    """Run the job and print the answer; VALIS's own output goes to stderr."""
    job = json.loads(Path(job_path).read_text())
    with redirect_stdout(sys.stderr), TemporaryDirectory() as scratch:
        fetched = has_weights()
        before = time.process_time()
        places, error_px = registered(job, scratch, fetched)
        cpu_s = time.process_time() - before
    features = "DISK, LightGlue (its default)" if fetched else "VGG (its default before 1.2)"
    answer = {
        "cpu_s": cpu_s,
        "places_um": (places * job["mpp"]).tolist(),
        "error_um": error_px * job["mpp"],
        "package": f"valis-wsi {version('valis-wsi')}, features {features}",
    }
    print(json.dumps(answer))


def has_weights() -> bool:
    """Return whether the default features have weights; if not, VALIS can be imported without."""
    socket.setdefaulttimeout(PATIENCE_S)
    try:
        kornia.feature.DISK.from_pretrained("depth")
        kornia.feature.LightGlueMatcher("disk")
    except (OSError, RuntimeError):
        kornia.feature.DISK.from_pretrained = lambda _: torch.nn.Identity()
        kornia.feature.LightGlueMatcher = lambda _: torch.nn.Identity()
        return False
    return True


def registered(job: dict[str, Any], scratch: str, fetched: bool) -> tuple[np.ndarray, float]:
    """Return the places of the points in px of the IHC overview, and VALIS's own error in px.

    A px is at its center for VALIS, and half a px further for Tandem. The error is the mean
    distance of the features that VALIS matched; NaN without any.
    """
    from valis import feature_detectors, feature_matcher, registration

    features = {} if fetched else {"matcher": feature_matcher.Matcher(
        match_filter_method=feature_matcher.DEFAULT_RANSAC_NAME,
        feature_detector=feature_detectors.VggFD(),
    )}  # fmt: skip
    registrar = registration.Valis(
        str(Path(job["he"]).parent),
        scratch,
        img_list=[job["he"], job["ihc"]],
        reference_img_f=Path(job["ihc"]).name,
        image_type="brightfield",
        check_for_reflections=True,
        **features,
    )
    _, _, errors = registrar.register()
    he, ihc = (registrar.get_slide(Path(job[name]).name) for name in ("he", "ihc"))
    if errors is None or he is None or ihc is None:
        raise SystemExit("VALIS gave no registration")
    points = np.array(job["points_um"]) / job["mpp"] - 0.5
    known = errors["non_rigid_D"].astype(float).dropna()
    places = he.warp_xy_from_to(points, ihc) + 0.5
    return places, float(known.max()) if len(known) else float("nan")


if __name__ == "__main__":
    main(sys.argv[1])
