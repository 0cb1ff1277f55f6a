"""Large objects in the engine of the Slim viewer: slides over 4 GiB, SEG of 3,000 frames.

``python benchmarks/viewer_limits.py --px 65536 --slides 2 --form sparse`` writes a pair of
synthetic slides of one block (H&E and HER2, noise in a mosaic of colors), converts them, lays a
segmentation of five segments over each, sends all to an Orthanc of its own by C-STORE and opens
each slide with dicom-microscopy-viewer in Chromium, from the overview to level 0. The segmentations
are off-level: no level of them has the px size of a level of the slide.

Printed are sizes, seconds, the overlap (intersection over union) of a painted segment with the
label map, and the mean difference of the shown px from those of the scanner. The exit status is 1
if an overlap is less than `OVERLAP` or a difference is more than `COLOR_LIMIT`.

Needs the judges of the tests (tests/install-judges.sh), and disk for the slides and twice the
larger one. With ``--folder`` a run that was ended goes on where it was, and ``--until`` ends it
after a stage.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from tifffile import TiffWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
# `tests/appliance` would hide the package of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fixtures.orthanc import Orthanc
from fixtures.slide_objects import ALGORITHM, her2_segments
from fixtures.viewer import Overlay, Screen, Viewer, open_viewer

from appliance.slides.general import pyramid_of
from dicom import codes, pacs
from dicom.association import PacsAddress
from dicom.segmentation import Form, Layer, SegmentFacts, pyramid_factors, write_segmentation
from dicom.source import SlideIdentity, convert_slide, read_headers
from dicom.status import Outcome, Verdict
from dicom.study import StudyFacts

MPP, FACTOR, TILE, STEP = 0.25, 5, 256, 4
"""µm per px of the slide; px of the slide per px of the label map, whose levels are 1.25, 5, 20 and
80 µm; px of a tile; reduction of the slide's levels: 0.25, 1, 4, … µm."""
CELLS = 4
"""Cells of the mosaic, and of the label map, per direction; tiles of the coarsest level."""
COLORS = 16
MADE = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CHANGED = 8
"""A px counts as painted over if a channel changes by more than this."""
SLOW_S = 1.0
"""Requests to the archive that took longer are printed."""
OVERLAP = 0.9
"""Least intersection over union of a painted segment with the label map, as in the tests."""
COLOR_LIMIT = 6.0
"""Largest mean difference of shown px from the scanner's, in gray values of 0 to 255. The noise of
another place, or another level, differs by more than 25."""
MIDDLE = 2048
"""Edge, in px of level 0, of the part of the slide that is looked at in level 0: four cells meet
there."""
STAGES = ("convert", "send", "look")


def write_slide(path: Path, stain: str, px: int, noise: int) -> None:
    """Write an SVS of `px` px per direction; noise, on level 0, makes the file large.

    `px` is 1,024 times a power of 4: each level has whole tiles.
    """
    mosaic, colors = drawn(stain)
    with TiffWriter(path, bigtiff=True) as writer:
        size, tiles = px, noisy_tiles(colors, spread=noise)
        while size >= CELLS * TILE:
            side = size // TILE

            def numbered(side: int = side, tiles: list[bytes] = tiles) -> Iterator[bytes]:
                place = np.arange(side) * CELLS // side
                for row in place:
                    yield from (tiles[number] for number in mosaic[row, place])

            writer.write(
                numbered(),
                shape=(size, size, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(1, 1),
                compression="jpeg",
                description=f"Aperio Image Library v12\r\n{px}x{px} |AppMag = 40|MPP = {MPP}",
                software=False,
                metadata=None,
            )
            size, tiles = size // STEP, noisy_tiles(colors, spread=min(5, noise))


def drawn(stain: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return a slide's mosaic (rows, columns) of numbers of colors, and these (number, 3)."""
    random = np.random.default_rng(len(stain))
    mosaic = random.integers(0, COLORS, (CELLS, CELLS), dtype=np.uint8)
    return mosaic, random.integers(60, 200, (COLORS, 3))


def noisy_tiles(colors: NDArray[np.int64], spread: int) -> list[bytes]:
    """Return encoded tiles of noise around one color each: noise compresses badly."""
    noise = np.random.default_rng(0).integers(-spread, spread, (TILE, TILE, 3))
    return [
        bytes(
            imagecodecs.jpeg8_encode(
                np.ascontiguousarray(color + noise, dtype=np.uint8),
                level=86,
                colorspace="rgb",
                outcolorspace="ycbcr",
                subsampling="444",
            )
        )
        for color in colors
    ]


def middle_of(stain: str, px: int, noise: int) -> NDArray[np.uint8]:
    """Return the middle of level 0, RGB (`MIDDLE`, `MIDDLE`, 3), as the scanner's tiles have it."""
    mosaic, colors = drawn(stain)
    tiles = np.stack([imagecodecs.jpeg8_decode(tile) for tile in noisy_tiles(colors, noise)])
    place = np.arange((px - MIDDLE) // 2, (px + MIDDLE) // 2)
    numbers = mosaic[np.ix_(place * CELLS // px, place * CELLS // px)]
    within = np.ix_(place % TILE, place % TILE)
    shown = np.empty((MIDDLE, MIDDLE, 3), dtype=np.uint8)
    for number in np.unique(numbers):
        shown[numbers == number] = tiles[number][within][numbers == number]
    return shown


def label_map(px: int) -> NDArray[np.uint8]:
    """Return classes 1 to 4 in cells, finely striped: each frame of the finest level holds all."""
    cells = np.random.default_rng(1).integers(1, 5, (CELLS, CELLS), dtype=np.uint8)
    place = np.arange(px) * CELLS // px
    labels = cells[np.ix_(place, place)]
    # A row in 64 goes through the classes.
    labels[::64] = np.arange(px, dtype=np.uint8) // 16 % 4 + 1
    return labels


def segmentation(
    stem: Path, headers: list[Dataset], labels: NDArray[np.uint8], form: Form
) -> list[Path]:
    """Write the label map as the line does: four classes, and the tumor that was scored."""
    layers = [Layer(labels=labels, segments=her2_segments())]
    if form is Form.SPARSE:
        tumor = SegmentFacts(
            number=5,
            label="Tumor, scored",
            category=codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE,
            type=codes.NEOPLASM,
            algorithm=ALGORITHM,
            cielab=(55, 60, 40),
        )
        layers.append(Layer(labels=np.minimum(labels, 1), segments=[tumor]))
    mpp = MPP * FACTOR
    return write_segmentation(
        stem,
        source_images=headers,
        layers=layers,
        mpp=mpp,
        factors=pyramid_factors(mpp, finest_um=0, coarsest_um=80),
        form=form,
        series_description="Synthetic (research use only)",
        content_description="Synthetic. For research use only.",
        uid_seed=str(headers[0].SOPInstanceUID),
        created=MADE,
        software="benchmark",
    )


def send(archive: Orthanc, paths: list[Path]) -> None:
    """Send files by C-STORE; SystemExit if one is not stored."""
    outcomes: list[Outcome] = []
    address = PacsAddress(
        host="127.0.0.1", port=archive.dicom_port, called_aet="ORTHANC", timeout_s=600
    )
    pacs.store(
        address, paths, before=lambda _path: None, after=lambda _path, how: outcomes.append(how)
    )
    for outcome in outcomes:
        if outcome.verdict is not Verdict.STORED:
            raise SystemExit(f"not stored: {outcome.text}")


def gib(paths: list[Path]) -> float:
    """Return the size of the largest file in GiB."""
    return max(path.stat().st_size for path in paths) / 2**30


def converted(folder: Path, stain: str, *, px: int, noise: int, max_bytes: int) -> None:
    """Make and convert a slide; print a line each."""
    slide, start = folder / f"{stain}.svs", time.perf_counter()
    half_done = folder / f"{stain}-converting"
    shutil.rmtree(half_done, ignore_errors=True)
    write_slide(slide, stain, px, noise)
    print(f"{stain}: {px} x {px} px, file of {gib([slide]):.2f} GiB, {since(start)}", flush=True)
    identity = SlideIdentity(
        accession="B-1",
        block="A1",
        stain=stain,
        container_id=f"B-1-A1-{stain}",
        study=StudyFacts(uid="2.25.4096"),
        fingerprint=f"synthetic {px}",
        scanned=MADE,
    )
    start = time.perf_counter()
    with pyramid_of(slide) as pyramid:
        made = convert_slide(
            slide, half_done, identity, mpp=MPP, pyramid=pyramid, max_bytes=max_bytes
        )
    slide.unlink()
    half_done.rename(folder / stain)
    paths = sorted((folder / stain).glob("*.dcm"))
    print(
        f"{stain}: {made.how}, {len(paths)} instances, the largest of {gib(paths):.2f} GiB, "
        f"{since(start)}",
        flush=True,
    )


def sent(folder: Path, archive: Orthanc, stain: str, form: Form, px: int) -> None:
    """Send a converted slide and its segmentation, and remove both; print a line each.

    The header of level 0 stays, as a file: it says that the slide was sent.
    """
    paths = sorted((folder / stain).glob("*.dcm"))
    headers = read_headers(paths)
    start = time.perf_counter()
    labels = label_map(px // FACTOR)
    segments = segmentation(folder / f"{stain}-seg", headers, labels, form)
    frames = [int(dcmread(path, stop_before_pixels=True).NumberOfFrames) for path in segments]
    sizes = [f"{path.stat().st_size / 2**20:.1f}" for path in segments]
    print(f"{stain}: SEG {form}, frames {frames}, MiB {sizes}, {since(start)}", flush=True)
    start = time.perf_counter()
    send(archive, [*paths, *segments])
    print(f"{stain}: sent, {since(start)}", flush=True)
    headers[0].save_as(header_of(folder, stain), enforce_file_format=True)
    for path in (*paths, *segments):
        path.unlink()


def header_of(folder: Path, stain: str) -> Path:
    """Return the file of the header of level 0 of a slide that was sent."""
    return folder / f"{stain}-header.dcm"


def look(viewer: Viewer, header: Dataset, stain: str, noise: int) -> bool:
    """Open a slide and two classes, and go to level 0; print seconds, and what was right.

    Return whether all lies where it should, in its colors.
    """
    start = time.perf_counter()
    overlays = viewer.open(header.StudyInstanceUID, header.SeriesInstanceUID)
    bare = viewer.picture()
    print(
        f"{stain}: first tile, {viewer.first_tile_s:.1f} s; slide shown, {since(start)}; "
        f"{len(overlays)} overlays",
        flush=True,
    )
    for path, seconds in viewer.taken:
        if seconds > SLOW_S:
            print(f"{stain}: {seconds:.1f} s for {'/'.join(path.split('/')[6:])}", flush=True)
    viewer.taken.clear()
    px = int(header.TotalPixelMatrixColumns)
    mosaic, colors = drawn(stain)
    thumbnail = np.kron(colors.astype(np.uint8)[mosaic], np.ones((64, 64, 1), dtype=np.uint8))
    screen = Screen.seen(bare, thumbnail, (px, px))
    wanted = screen.project(thumbnail, px / len(thumbnail))
    off = difference(bare[screen.inside], wanted[screen.inside])
    print(f"{stain}: overview, off by {off:.1f} gray values", flush=True)
    labels = label_map(px // FACTOR)
    overlaps = [
        shown_overlap(viewer, overlay, screen.project(mask.astype(np.uint8), FACTOR) == 1, stain)
        for overlay, mask in zip(overlays, (labels == 1, labels == 2), strict=False)
    ]
    start = time.perf_counter()
    viewer.go_to_level_0()
    near = viewer.picture()
    wanted = Screen((MIDDLE, MIDDLE), screen.turns, 1.0).project(middle_of(stain, px, noise), 1.0)
    off_near = difference(near, wanted)
    print(f"{stain}: level 0 shown, {since(start)}, off by {off_near:.1f} gray values", flush=True)
    return max(off, off_near) <= COLOR_LIMIT and min(overlaps, default=0.0) >= OVERLAP


def shown_overlap(viewer: Viewer, overlay: Overlay, wanted: NDArray[np.bool_], stain: str) -> float:
    """Show an overlay and hide it again; return, and print, the overlap with the px `wanted`."""
    bare, start = viewer.picture(), time.perf_counter()
    viewer.show(overlay)
    painted = viewer.picture()
    seconds = since(start)
    viewer.hide(overlay)
    shown = np.abs(painted.astype(int) - bare).max(axis=2) > CHANGED
    overlap = float((shown & wanted).sum()) / max(1.0, float((shown | wanted).sum()))
    print(f"{stain}: {overlay.label} shown, {seconds}, overlap {overlap:.2f}", flush=True)
    return overlap


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the mean absolute difference of two pictures in gray values."""
    return float(np.abs(one.astype(int) - other).mean())


def since(start: float) -> str:
    """Return the seconds since `start`, in words."""
    return f"{time.perf_counter() - start:.1f} s"


def main() -> int:
    """Measure one or two slides; return 1 if something lies wrong or has wrong colors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--px", type=int, default=65_536, help="edge of a slide: 1,024 times a power of 4"
    )
    parser.add_argument("--noise", type=int, default=50, help="gray values; 50: 4.2 GiB, 5: 1 GiB")
    parser.add_argument(
        "--max-slide-mib", type=float, default=2048, help="as objects.max_slide_mib"
    )
    parser.add_argument("--slides", type=int, choices=(1, 2), default=2)
    parser.add_argument("--form", type=Form, choices=list(Form), default=Form.SPARSE)
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="last stage")
    parser.add_argument(
        "--folder",
        type=Path,
        help="folder that keeps slides and archive for the next run; default: none",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return 0 if run(options.folder or Path(name), options) else 1


def run(folder: Path, options: argparse.Namespace) -> bool:
    """Convert and send the slides that `folder` does not have yet, and look at them.

    Return whether all that was looked at is right.
    """
    stains = ("HER2", "HE")[: options.slides]
    archive = Orthanc(folder / "archive").start()
    right = []
    try:
        for stain in stains:
            if header_of(folder, stain).exists():
                continue
            if not (folder / stain).exists():
                making = {"px": options.px, "noise": options.noise}
                max_bytes = int(options.max_slide_mib * 2**20)
                converted(folder, stain, **making, max_bytes=max_bytes)
            if options.until != "convert":
                sent(folder, archive, stain, options.form, options.px)
        if options.until == "look":
            with open_viewer(archive.dicomweb_url) as viewer:
                for stain in stains:
                    header = dcmread(header_of(folder, stain))
                    right.append(look(viewer, header, stain, options.noise))
    finally:
        archive.stop()
    return all(right)


if __name__ == "__main__":
    sys.exit(main())
