"""Cost of scanning the scanner's folder: ``python benchmarks/scans.py [--files N] [--series N]``.

Prints the time and memory of a full scan that finds nothing new among `--files` known files, and
the CPU time of listing `--series` DICOM series of one folder for the first time, headers included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

from appliance.intake.found import slides_in
from appliance.intake.listing import Listing
from appliance.intake.scan import FolderScan
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import SlideRow
from appliance.settings.intake import Watch

INSTANCES = 6
"""Instances of a series: four levels, label and overview."""


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        scan_known(options.folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fill(folder, options.files)
        # A process of its own: this one still holds the memory of filling.
        command = [sys.executable, __file__, "--folder", scratch]
        subprocess.run(command, check=True)
        list_series(folder / "series", options.series)


def fill(folder: Path, count: int) -> None:
    """Make `count` files in folders of 1000, and a ledger that knows them all."""
    for number in range(count):
        path = folder / "scans" / f"{number // 1000:03d}" / f"S26-{number:06d}_A1_HE.svs"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.touch()
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    with ledger.transaction() as tx:
        tx.session.add_all(
            SlideRow(
                path=str(path),
                modified_ns=path.stat().st_mtime_ns,
                state=SlideState.READ,
                created_at=0.0,
                changed_at=0.0,
            )
            for path in (folder / "scans").rglob("*.svs")
        )
    ledger.close()


def scan_known(folder: Path) -> None:
    """Scan twice: after a start, and again."""
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    scan = FolderScan(ledger, Watch(folder=folder / "scans"), folder)
    for what in ("first", "second"):
        wall, cpu = time.perf_counter(), time.process_time()
        found = scan.run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"{what} scan of known files: {found} new, {wall:.2f} s, {cpu:.2f} s of CPU, "
            f"peak RSS {peak_mib():.0f} MiB"
        )
    ledger.close()


def peak_mib() -> float:
    """Return the highest resident memory of this process; that of getrusage is the parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def list_series(folder: Path, count: int) -> None:
    """List a folder of DICOM series whose headers were never read."""
    folder.mkdir()
    for number in range(count):
        write_series(folder, number)
    cpu = time.process_time()
    listing = Listing([str(folder)])
    found = [slide for one in listing.under(str(folder)) for slide in slides_in(one, ())]
    cpu = time.process_time() - cpu
    print(f"{len(found)} DICOM series of {INSTANCES} instances listed: {cpu:.2f} s of CPU")


def write_series(folder: Path, number: int) -> None:
    """Write the headers of a series; their pixel data is empty."""
    series = generate_uid()
    for instance in range(INSTANCES):
        dataset = Dataset()
        dataset.SOPClassUID = VLWholeSlideMicroscopyImageStorage
        dataset.SOPInstanceUID = generate_uid()
        dataset.SeriesInstanceUID = series
        resampled = "NONE" if instance == 0 else "RESAMPLED"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", resampled]
        dataset.Rows = dataset.Columns = 256
        dataset.NumberOfFrames = 1
        dataset.TotalPixelMatrixColumns = dataset.TotalPixelMatrixRows = 256
        dataset.DimensionOrganizationType = "TILED_FULL"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(folder / f"{number:03d}-{instance}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
