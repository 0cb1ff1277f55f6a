"""Mutated TIFF and DICOM files: nothing but SlideError escapes, in bounded time and memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures.series import write_instance
from fixtures.slide_objects import write_svs

from appliance.errors import SlideError
from appliance.intake.completeness import is_whole
from appliance.intake.found import slides_in
from appliance.intake.listing import Listing
from appliance.line.analyze_slide import identify_slide
from appliance.settings.settings import Settings
from appliance.slides.files import slide_files
from benchmarks.scanner.mutated import mutated
from benchmarks.trial.odd import odd_seeds

FILES = 3000
SCAN_SECONDS, STEP_SECONDS = 5.0, 30.0
"""Most seconds of one file in the thread that scans, and in a step; typical are milliseconds."""
MOST_RSS_MIB = 1024


def seeds(folder: Path, cases: Path, real: Path) -> list[tuple[str, bytes]]:
    """Return small files of each kind with their suffixes."""
    folder.mkdir()
    svs = write_svs(folder / "seed.svs").read_bytes()
    plain = write_instance(folder / "seed.dcm").read_bytes()
    packed = write_instance(folder / "packed.dcm", compressed=True).read_bytes()
    return [
        (".svs", svs),
        (".tif", (real / "broken" / "unopenable.tiff").read_bytes()),
        (".svs", (real / "broken" / "unreadable.svs").read_bytes()),
        (".svs", (cases / "files" / "tiff-tag-type.svs").read_bytes()),
        (".dcm", plain),
        (".dcm", packed),
        (".dcm", (real / "slides" / "sm_image.dcm").read_bytes()),
        ("", (real / "slides" / "sm_annotations.dcm").read_bytes()),
        *odd_seeds(),
    ]


@pytest.mark.slow
def test_no_mutated_file_escapes(tmp_path: Path, cases: Path, real: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = random.Random(18)  # noqa: S311  no secret
    kinds = seeds(tmp_path / "seeds", cases, real)
    for number in range(FILES):
        suffix, seed = kinds[number % len(kinds)]
        path = folder / str(number) / f"S26-{number:05d}_A1_HE{suffix}"
        path.parent.mkdir()
        path.write_bytes(mutated(seed, rng))
    paths, worst_s = scanned(folder), 0.0
    assert len(paths) > 0.9 * FILES
    for path in paths:
        start = time.process_time()
        is_whole(path, slide_files(path))
        worst_s = max(worst_s, time.process_time() - start)
    assert worst_s < SCAN_SECONDS
    # Decoders are C code: a process of its own, which must end by itself.
    command = [sys.executable, __file__, str(folder), str(tmp_path / "state")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=800, env=environment
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    print(f"scan: {worst_s:.3f} s at worst;", figures)
    assert figures["escaped"] == []
    assert figures["worst_s"] < STEP_SECONDS and figures["rss_mib"] < MOST_RSS_MIB, figures
    assert figures["refused"] > FILES / 4


def scanned(folder: Path) -> list[Path]:
    listing = Listing([str(folder)])
    return [Path(s.path) for one in listing.under(str(folder)) for s in slides_in(one, ())]


def resident_mib() -> float:
    # The kernel's figure of getrusage is the parent's at first, and so that of other tests.
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line) / 1024


def identify_all(folder: Path, state: Path) -> dict[str, object]:
    """Do the step that identifies, for each file by itself."""
    settings, escaped, refused, worst_s, slowest = Settings(state_dir=state), [], 0, 0.0, ""
    for path in sorted(folder.glob("*/*")):
        start = time.process_time()
        try:
            identify_slide(path, settings)
        except SlideError:
            refused += 1
        except Exception as err:  # noqa: BLE001  what escapes is what is counted
            escaped.append(f"{path.name}: {type(err).__name__}: {err}")
        seconds = time.process_time() - start
        if seconds > worst_s:
            worst_s, slowest = seconds, path.name
    return {
        "escaped": escaped,
        "refused": refused,
        "worst_s": worst_s,
        "slowest": slowest,
        "rss_mib": resident_mib(),
    }


if __name__ == "__main__":
    print(json.dumps(identify_all(Path(sys.argv[1]), Path(sys.argv[2]))))
