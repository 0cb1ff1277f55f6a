"""Speed of the tissue generator on one core in tile pairs per second, and shares of the time.

``python benchmarks/generator.py [--tiles 60]`` compares drawing a tile with encoding it as JPEG,
which happens once per tile: a ratio that holds on any machine.
"""

from __future__ import annotations

import argparse
import sys
import time

import cv2
import imagecodecs
import numpy as np

from models.synthesis.tile_pairs import synthesize_tile_pair


def main() -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    synthesize_tile_pair(options.seed)  # warm-up: textures are made once
    drawing, coding = [], []
    for seed in range(options.seed, options.seed + options.tiles):
        start = time.process_time()
        pair = synthesize_tile_pair(seed)
        drawn = time.process_time()
        imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(pair.he, level=80))
        drawing.append(drawn - start)
        coding.append(time.process_time() - drawn)
    median = float(np.median(drawing))
    print(f"{options.tiles} tile pairs (512 px, H&E and HER2), seconds of one core")
    print(f"  mean {np.mean(drawing):.3f}  median {median:.3f}  slowest {max(drawing):.3f}")
    print(f"  {1 / np.mean(drawing):.1f} tile pairs a second and core")
    print(f"  {median / np.median(coding):.0f} times as long as coding one tile as JPEG and back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
