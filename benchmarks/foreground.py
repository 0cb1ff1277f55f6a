"""Foreground of drawn overviews: the steps of arXiv 2503.22069 beside the line's tissue finder.

``python benchmarks/foreground.py --slides 30 --seed 78`` prints the overlap (IoU) of each with the
drawn tissue, control tissue included: mean and worst slide. Synthetic.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from appliance.slides.tissue import find_tissue
from models.slide_level.foreground import foreground
from models.synthesis.slide_cohort import draw_slides
from models.synthesis.slide_overview import draw_slide


def main() -> None:
    """Draw, find, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, default=30)
    parser.add_argument("--seed", type=int, default=78)
    options = parser.parse_args()
    overlaps: dict[str, list[float]] = {"steps of the paper": [], "tissue finder": []}
    for draw in draw_slides(options.seed, options.slides):
        made = draw_slide(draw)
        found = (foreground(made.pixels), find_tissue(made.pixels, made.mpp).mask)
        for known, mask in zip(overlaps.values(), found, strict=True):
            known.append(overlap(mask, made.tissue))
    for name, known in overlaps.items():
        print(f"{name}: mean IoU {np.mean(known):.3f}, worst {min(known):.3f}")


def overlap(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return the intersection of two masks by their union."""
    return float((found & truth).sum() / (found | truth).sum())


if __name__ == "__main__":
    main()
