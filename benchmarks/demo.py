"""``make demo``: the main job on one synthetic case, from the scanner's folder to the archive.

A synthetic case is made and the daemon is started with embedded defaults (no server). The slides
are copied slowly and in pieces as by a scanner, H&E first. Then the demo waits for the delivery.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydicom import dcmread

from dicom import codes
from dicom.result import read_result

HERE = Path(__file__).resolve().parents[1]
TANDEM = Path(sys.executable).with_name("tandem")
PIECES = 12
PAUSE_SECONDS = 0.4
TIMEOUT_SECONDS = 420
MOST_ERROR = 5.0
"""Percentage points within which a percentage of positive nuclei is right."""


def main() -> int:
    """Run the demo; return 0 only if every object arrived and the result equals the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--assay", default="her2", choices=["her2", "er", "pr"])
    parser.add_argument("--score", choices=["0", "1+", "2+", "3+"])
    parser.add_argument("--positive", type=float, help="percent of positive nuclei of ER and PR")
    parser.add_argument("--folder", type=Path, default=HERE / "demo-case")
    options = parser.parse_args()
    stain = options.assay.upper()
    wish = ("--score", options.score) if stain == "HER2" else ("--positive", options.positive)
    start = time.monotonic()
    shutil.rmtree(options.folder, ignore_errors=True)
    scans, source, state = (options.folder / name for name in ("scans", "source", "state"))
    scans.mkdir(parents=True)

    say("1. making a synthetic case: two slides of 12,288 x 9,216 px with their ground truth")
    made = time.monotonic()
    run("synth", "--seed", options.seed, "--assay", options.assay, *wish, "--out", source)
    truth = json.loads(next((source / "truth").glob("*.json")).read_text())
    known = truth["score"] or f"{truth['positive_percent']:.1f} % positive"
    say(f"   {time.monotonic() - made:.0f} s; truth: {known} {truth['percent']}")

    config = options.folder / "tandem.toml"
    config.write_text(
        ("" if stain == "HER2" else f'extensions = ["appliance.assays.{options.assay}.assay"]\n')
        + f"state_dir = {json.dumps(str(state))}\n"
        f"[pair]\nexpected_assays = [{json.dumps(options.assay)}]\n"
        f"[watch]\nfolder = {json.dumps(str(scans))}\nrescan_seconds = 5\nstable_seconds = 3\n"
    )
    say("2. starting the daemon on embedded defaults (SQLite ledger, folder archive)")
    log = (options.folder / "daemon.log").open("w")
    daemon = subprocess.Popen([TANDEM, "run", "--config", config], stdout=log, stderr=log)
    try:
        say("3. copying the slides in, slowly and in pieces, H&E first")
        for name in ("HE", stain):
            copy_slowly(next(source.glob(f"*_{name}.svs")), scans)
        say("4. waiting for delivery")
        status = wait_for_delivery(config, daemon)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        log.close()
    return report(options.folder, status, truth, time.monotonic() - start)


def say(text: str) -> None:
    print(text, flush=True)


def run(*arguments: object) -> str:
    """Run a tandem command and return its stdout; stderr is passed through unchanged."""
    command = [str(TANDEM), *(str(a) for a in arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def copy_slowly(slide: Path, folder: Path) -> None:
    """Append a slide to the scanner's folder in `PIECES`, pausing after each."""
    size = slide.stat().st_size // PIECES + 1
    with slide.open("rb") as source, (folder / slide.name).open("wb") as target:
        while piece := source.read(size):
            target.write(piece)
            target.flush()
            time.sleep(PAUSE_SECONDS)


def wait_for_delivery(config: Path, daemon: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Poll ``tandem status`` until the case is delivered or has failed; return the last status."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    last = ""
    status: dict[str, Any] = {}
    while time.monotonic() < deadline and daemon.poll() is None:
        time.sleep(1)
        ledger = config.parent / "state" / "ledger.sqlite"
        if not ledger.exists():
            continue
        status = json.loads(run("status", "--json", "--config", config))
        states = [f"{s['stain'] or s['file'][-8:]} {s['state']}" for s in status["slides"]]
        states += [f"case {c['state']}" for c in status["cases"]]
        if (line := ", ".join(states)) != last:
            say(f"   {line}")
            last = line
        final = {c["state"] for c in status["cases"]} | {s["state"] for s in status["slides"]}
        if final & {"delivered", "failed", "undelivered", "quarantined"}:
            break
    return status


def report(folder: Path, status: dict[str, Any], truth: dict[str, Any], seconds: float) -> int:
    """Print timings, files and the verdict; return 0 if the demo succeeded, else 1."""
    cases = status.get("cases", [])
    case = cases[0] if cases else {}
    if case.get("state") != "delivered":
        say(json.dumps(status, indent=2))
        say(f"DEMO FAILED: the case was not delivered; see {folder / 'daemon.log'}")
        return 1
    say("5. timings per step")
    config = folder / "tandem.toml"
    for subject in (*status["slides"], case):
        for event in subject["steps"]:
            if event["kind"] in ("step", "note"):
                say(f"   {subject['id']:<8} {event['text']}")
    archive = folder / "state" / "archive"
    files = sorted(archive.rglob("*.dcm"))
    say(f"6. delivered to {archive.relative_to(HERE) if archive.is_relative_to(HERE) else archive}")
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        say(
            f"   {header.Modality:<4}{file.stat().st_size / 2**20:8.2f} MiB  "
            f"{header.get('SeriesDescription', '')}"
        )
    shutil.copy2(next((folder / "state" / "artifacts" / "objects").glob("*/report.pdf")), folder)
    say(f"   the report page: {os.path.relpath(folder / 'report.pdf')}")
    expected = len(case["deliveries"])
    said, right = compared(case, truth, folder)
    ok = len(files) == expected > 0 and right
    for reason in case["review"]:
        say(f"   review: {reason}")
    named = f"--config {os.path.relpath(config)}"
    say(f"   look at it:  {os.path.relpath(TANDEM)} dashboard {named}, http://127.0.0.1:8501")
    say(
        f"   confirm it there, with the appliance beside it:  {os.path.relpath(TANDEM)} run {named}"
    )
    say("   synthetic tissue; for research use only")
    say(
        f"DEMO {'OK' if ok else 'FAILED'} accession={case['accession']} {said} "
        f"delivered={len(files)} seconds={seconds:.0f} archive={archive}"
    )
    return 0 if ok else 1


def compared(case: dict[str, Any], truth: dict[str, Any], folder: Path) -> tuple[str, bool]:
    """Return the result beside the truth in words, and whether it is right.

    Of a HER2 case the score is; of ER and PR the percentage of positive nuclei, within
    `MOST_ERROR`. That percentage is read from the delivered report.
    """
    if truth["score"]:
        said = f"score={case['score']} truth={truth['score']}"
        return said, bool(case["score"] == truth["score"])
    report = next(
        file
        for file in (folder / "state" / "archive").rglob("*.dcm")
        if dcmread(file, stop_before_pixels=True).Modality == "SR"
    )
    percent = next(
        item.value
        for item in read_result(report).items
        if item.name in (codes.ER_CELLS, codes.PR_CELLS)
    )
    known = truth["positive_percent"]
    said = f"status={case['score']!r} percent={percent:.1f} truth={known:.1f}"
    return said, isinstance(percent, float) and abs(percent - known) <= MOST_ERROR


if __name__ == "__main__":
    sys.exit(main())
