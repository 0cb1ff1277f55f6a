"""Cost of a large slide's overlays without any reading: seconds, memory, bytes.

``python benchmarks/objects.py`` makes a random, blobby label map (synthetic) of 60,000 x 50,000 px
and of 100,000 x 80,000 px at 0.25 µm with 20 % tumor tiles, and the larger one also at 0.5 µm,
where the label map has four times the px. It then makes all SEG and PM objects, each slide in its
own process. Memory is that of the process above that with loaded libraries.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from pydicom import Dataset

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.assays.her2.decide import HE_RASTER_UM
from appliance.delivery.context import ObjectContext
from appliance.delivery.overlays import MIB, write_overlays
from appliance.domain import HE, HER2, SlideFacts
from appliance.findings.findings import SCORED, Rasters
from appliance.findings.label_map import LabelWriter, StoredLabels
from appliance.geometry import TileGrid, TileIndex
from appliance.readers.segmentation import RASTER_UM
from appliance.settings.objects import ObjectSettings
from appliance.slides.raster import RasterGrid
from benchmarks.bench import memory_mib
from dicom.segmentation import AlgorithmFacts
from dicom.source import SlideIdentity, convert_slide, read_headers
from dicom.study import StudyFacts
from models.synthesis.pyramid import write_pyramid

TUMOR = 0.2
"""Share of tumor among all tiles."""
SIZES = ((60_000, 50_000, 0.25), (100_000, 80_000, 0.25), (100_000, 80_000, 0.5))
MADE = datetime(2026, 1, 1, tzinfo=UTC)


def main(arguments: Sequence[str]) -> None:
    """Make the objects and print the costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--finest-um", type=float, default=0.0, help="as in [objects]")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        width_px, height_px, mpp = json.loads(options.one)
        print(json.dumps(measured(width_px, height_px, mpp, options.finest_um)))
        return
    for size in SIZES:
        command = [sys.executable, __file__, "--one", json.dumps(size)]
        command += ["--finest-um", str(options.finest_um)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(done.stdout)
        print(
            f"{size[0]:,} x {size[1]:,} px at {size[2]} µm: {row['seconds']:.1f} s, "
            f"peak {row['above_mib']} MiB"
        )
        for name, mib in row["files"].items():
            print(f"    {name:<16}{mib:8.1f} MiB")


def measured(width_px: int, height_px: int, mpp: float, finest_um: float) -> dict[str, Any]:
    """Return seconds, MiB above the libraries, and MiB per file."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        header = slide_header(folder, mpp)
        # Load the libraries before the measurement.
        overlays(folder, header, 4096, 4096, mpp, finest_um)
        context = some_making(folder, header, width_px, height_px, mpp, finest_um)
        before = memory_mib("VmRSS", reset=True)
        start = time.perf_counter()
        written = write_overlays(folder, context)
        seconds = time.perf_counter() - start
        peak = memory_mib("VmHWM")
        files = {path.name: path.stat().st_size / MIB for _, path in written}
    if before is None or peak is None:
        raise SystemExit("memory is measured on Linux alone")
    return {"seconds": seconds, "above_mib": peak - before, "files": files}


def overlays(folder: Path, header: Dataset, *facts: Any) -> None:
    """Make all objects of a slide."""
    write_overlays(folder, some_making(folder, header, *facts))


def slide_header(folder: Path, mpp: float) -> Dataset:
    """Return level 0 of a converted slide; the caller then states a larger size."""
    slide = folder / "slide.svs"
    pixels = np.full((1024, 1024, 3), 230, dtype=np.uint8)
    write_pyramid(slide, [pixels], width_px=1024, height_px=1024, mpp=mpp, file_format="svs")
    identity = SlideIdentity(
        accession="B-1",
        block="A1",
        stain="HER2",
        container_id="B-1-A1",
        study=StudyFacts(uid="2.25.1"),
        fingerprint="synthetic",
        scanned=MADE,
    )
    return read_headers(convert_slide(slide, folder / "wsm", identity, mpp=mpp).paths)[0]


def some_making(
    folder: Path, header: Dataset, width_px: int, height_px: int, mpp: float, finest_um: float
) -> ObjectContext:
    """Return synthetic rasters of a slide of that size, with tumor in blobs."""
    header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows = width_px, height_px
    facts = SlideFacts(
        path="synthetic",
        fingerprint="synthetic",
        format="aperio",
        width_px=width_px,
        height_px=height_px,
        mpp=mpp,
        level_count=1,
        is_dicom=False,
    )
    rng = np.random.default_rng(0)
    grid = TileGrid.of(width_px * mpp, height_px * mpp)
    probability = smooth(rng, grid.shape, 6)
    tumor = probability > 1 - TUMOR
    ihc = RasterGrid.of(facts, RASTER_UM)
    # Tiles of blobs of the four classes and of stroma between them.
    tiles = [(smooth(rng, (512, 512), 12) * 5).astype(np.uint8) for _ in range(16)]
    path = folder / f"labels-{width_px}.zip"
    with LabelWriter(path, ihc) as writer:
        for number, (row, column) in enumerate(np.argwhere(tumor)):
            writer.paint(TileIndex(int(column), int(row)), tiles[number % len(tiles)])
    he = RasterGrid.of(facts, HE_RASTER_UM)
    findings: Any = SimpleNamespace(
        he=facts,
        rasters=Rasters(
            he_tumor=he.expand(tumor),
            he_mpp=he.mpp,
            ihc_classes=StoredLabels.open(path),
            ihc_mpp=ihc.mpp,
            ihc_read=np.where(tumor, SCORED, 0).astype(np.uint8),
            he_probability=probability,
        ),
    )
    algorithm = AlgorithmFacts(name="synthetic", version="1", weights_sha256="0" * 64)
    return ObjectContext(
        findings=findings,
        assay=HER2_ASSAY,
        sources={stain: [header] for stain in (HE, HER2)},
        algorithms=dict.fromkeys(("tumor", "segmentation"), algorithm),
        settings=ObjectSettings(finest_um=finest_um),
        created=MADE,
        seed="synthetic",
        software="0",
    )


def smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Any:
    """Blobs: float32 (rows, columns), with a uniform distribution of values from 0 to below 1."""
    noise = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), sigma)
    ranks = noise.ravel().argsort().argsort().reshape(shape)
    return (ranks / noise.size).astype(np.float32)


if __name__ == "__main__":
    main(sys.argv[1:])
