"""The simulated scanner: plays a plan into a folder, and returns the truth about each slide."""

from __future__ import annotations

import errno
import heapq
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.scanner.arrival import Arriving, Disk, Wait, arrive
from benchmarks.scanner.plan import FAULTS, Scan, plan_scans
from benchmarks.scanner.profiles import PROFILES, Files, Maker, SlideLabel
from benchmarks.scanner.tissue import Sections, draw_sections

SCORES = ("3+", "0")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Parameters of a simulation. `speed`: multiple of the scanner's, 0 for without waiting.

    `fault_share` is the share of the slides that have one of the `faults`. `target` is the stain
    that labels and names state for the second slide of a block; its pixels are those of HER2.
    `namings` are conventions of names in turn (`benchmarks.scanner.plan.NAMINGS`).
    """

    profiles: tuple[str, ...] = ("aperio-svs",)
    slides: int = 20
    seed: int = 1
    faults: tuple[str, ...] = tuple(FAULTS)
    fault_share: float = 0.3
    speed: float = 0.0
    scores: tuple[str, ...] = SCORES
    target: str = "HER2"
    namings: tuple[str, ...] = ()


def simulate(
    wanted: Simulation,
    folder: Path,
    progress: Progress = lambda _what, _done, _total: None,
    sections: Sections | None = None,
) -> dict[str, Any]:
    """Write the slides of `wanted` into `folder`; return the truth, ready for JSON.

    `sections` are those of the scores, where they are drawn already. Equal arguments write equal
    bytes under equal names.

    Raises
    ------
    OSError
        If the folder cannot be written. An odd name that the file system refuses is left out, and
        the truth says so.
    """
    dice = random.Random(wanted.seed)  # noqa: S311
    scans = plan_scans(
        wanted.profiles,
        wanted.slides,
        wanted.faults,
        wanted.fault_share,
        wanted.scores,
        dice,
        wanted.target,
        wanted.namings,
    )
    makers = _makers(wanted, sections or draw_sections(wanted.scores, progress))
    folder.mkdir(parents=True, exist_ok=True)
    slides = [_arriving(scan, makers) for scan in scans]
    disks = {
        scan.number: Disk(
            root=folder,
            slide_s=PROFILES[scan.profile].slide_s,
            dice=random.Random(f"{wanted.seed} {scan.number}"),  # noqa: S311
        )
        for scan in scans
    }
    refused = _play(slides, disks, wanted.speed, progress)
    entries = [
        entry
        for slide in slides
        for entry in _entries(slide, disks[slide.scan.number], refused.get(slide.scan.number, ""))
    ]
    return {
        "seed": wanted.seed,
        "profiles": list(wanted.profiles),
        "slides": entries,
        "cases": _cases(entries),
    }


def _makers(wanted: Simulation, sections: Sections) -> dict[tuple[str, str, str], Maker]:
    """Return the maker of slides for each profile, stain and score."""
    return {
        (profile, stain, score): PROFILES[profile].prepare(section)
        for profile in wanted.profiles
        for (stain, score), section in sections.items()
    }


def _arriving(scan: Scan, makers: dict[tuple[str, str, str], Maker]) -> Arriving:
    make = makers[scan.profile, "HE" if scan.label.stain == "HE" else "HER2", scan.score]

    def files_of(label: SlideLabel, stem: str) -> Files:
        made = make(stem, label, scan.barcode_read)
        usual = PROFILES[scan.profile].suffix
        return {
            _in(scan.folder, name.removesuffix(usual) + scan.suffix)
            if name.endswith(usual)
            else _in(scan.folder, name): data
            for name, data in made.items()
        }

    second = replace(scan.label, scan=2)
    files = files_of(scan.printed, scan.stem)
    return Arriving(
        scan=scan,
        files=files,
        key=_key(scan, files),
        again=lambda stem: files_of(second, stem),
    )


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _key(scan: Scan, files: Files) -> str:
    """Return the name of a slide in the truth: its file, or the folder of its series."""
    first = next(iter(files))
    return first.rpartition("/")[0] if scan.profile == "dicom" else first


def _play(
    slides: Sequence[Arriving], disks: dict[int, Disk], speed: float, progress: Progress
) -> dict[int, str]:
    """Run all arrivals in the order of simulated time; return those the file system refused."""
    began = time.monotonic()
    waiting: list[tuple[float, int, Wait]] = []
    clock: dict[str, float] = {}
    for slide in slides:
        scanner = slide.scan.profile
        at = clock.get(scanner, 0.0)
        clock[scanner] = at + PROFILES[scanner].slide_s
        number = slide.scan.number
        heapq.heappush(waiting, (at, number, arrive(slide, disks[number])))
    refused: dict[int, str] = {}
    done = 0
    while waiting:
        at, number, wait = heapq.heappop(waiting)
        if speed > 0:
            time.sleep(max(0.0, began + at / speed - time.monotonic()))
        try:
            heapq.heappush(waiting, (at + next(wait), number, wait))
            continue
        except StopIteration:
            pass
        except OSError as err:
            if err.errno not in (errno.EILSEQ, errno.EINVAL, errno.ENAMETOOLONG):
                raise
            refused[number] = err.strerror or type(err).__name__
        done += 1
        progress("slides", done, len(slides))
    return refused


def _entries(slide: Arriving, disk: Disk, refused: str) -> list[dict[str, Any]]:
    """Return the truth of a slide: one entry for each place where it lies."""
    scan = slide.scan
    places = [(slide.key, list(slide.files))]
    if scan.fault == "duplicates":
        places.append((f"copies/{slide.key}", [f"copies/{name}" for name in slide.files]))
    elif scan.variant == "new-name":
        files = slide.again(f"{scan.stem}_001")
        places.append((f"{slide.key} again", list(files)))
    elif scan.variant == "over-the-first":
        places = [(slide.key, list(slide.again(scan.stem)))]
    return [
        {
            "slide": key,
            "files": files,
            "profile": scan.profile,
            "accession": scan.label.accession,
            "block": scan.label.block,
            "stain": scan.label.stain,
            "score": scan.score,
            "fault": scan.fault,
            "variant": scan.variant,
            "expected": "gone" if refused else scan.expected,
            "reasons": list(scan.reasons),
            "whole_at": disk.whole_at.get(key, []),
            "refused": refused,
        }
        for key, files in places
    ]


def _cases(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks with the stains that are read, and those that may have been."""
    blocks: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        found = blocks.setdefault(
            (entry["accession"], entry["block"]),
            {
                "accession": entry["accession"],
                "block": entry["block"],
                "read": [],
                "perhaps": [],
                "score": entry["score"],
            },
        )
        if entry["expected"] in ("read", "one-of") and entry["stain"] not in found["read"]:
            found["read"].append(entry["stain"])
        elif entry["expected"] == "gone":
            found["perhaps"].append(entry["stain"])
    return list(blocks.values())
