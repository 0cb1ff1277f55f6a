"""Tandem's alignment beside VALIS and DeeperHistReg, on the same made pairs (synthetic).

``python benchmarks/registration_peers.py --install FOLDER`` once: each in an environment of its own
(6 GB each if torch comes with CUDA). Then
``python benchmarks/registration_peers.py --pairs 6 --peers FOLDER``.

The pairs are those of ``tandem evaluate --mapping``. Peers are programs (`peer_valis.py`,
`peer_deeperhistreg.py`) that get the path of a job and print their answer, both JSON:

::

    job       he, ihc: overviews, PNG; mpp; points_um, (n, 2) in µm of the H&E slide
    answer    cpu_s, of all cores, without start and imports; places_um, the same points on the
              IHC slide; error_um, its own estimate of the error, or null; package, name and version
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.errors import PeerError
from appliance.evaluation.mapped_pair import (
    FAILED_UM,
    FAILED_UNPLACED,
    aligned_sections,
    has_failed,
    review_codes,
)
from appliance.evaluation.mapping import SECTIONS_MPP, SEEDS_PER_RUN
from appliance.settings.settings import Settings
from benchmarks.peer_tools import Commands, ask, read_commands
from benchmarks.peers import install
from models.synthesis.sections import SectionPair, synthesize_sections

LISTED = "registration_peers.json"
PACKAGES = {
    # Neither names all that it imports. Their torch needs the torchvision of its own build.
    "valis": ["valis-wsi", "pyvips-binary", "torch<2.13", "torchvision"],
    "deeperhistreg": [
        "deeperhistreg",
        *("pyvips", "pyvips-binary", "torch<2.13", "torchvision", "numpy", "scipy", "matplotlib"),
        *("SimpleITK", "opencv-python-headless", "pillow", "openslide-python", "openslide-bin"),
    ],
}
TANDEM = "tandem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """Answer of a tool on a pair: errors (n,) in µm at its targets, NaN without a place.

    `flagged`: the tool itself says that the pair is not to be relied on. `said` is its package, or
    why it gave no answer; `cpu_s` is None then.
    """

    tre_um: NDArray[np.float64]
    cpu_s: float | None
    flagged: bool
    said: str


def main(arguments: Sequence[str]) -> None:
    """Print the figures of each tool as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1, help="As of tandem evaluate --mapping.")
    parser.add_argument("--peers", type=Path, help="folder that --install made")
    parser.add_argument("--limit-s", type=float, default=600, help="Longest time of a peer's pair.")
    parser.add_argument("--install", type=Path, help="folder for the peers' environments")
    given = parser.parse_args(arguments)
    if given.install is not None:
        print(json.dumps(install(given.install, PACKAGES, LISTED, {}), indent=2))
        return
    try:
        commands = read_commands(given.peers, LISTED, Path(__file__).name) if given.peers else {}
    except PeerError as err:
        raise SystemExit(str(err)) from err
    answers: dict[str, list[Registered]] = defaultdict(list)
    for number in range(given.pairs):
        pair = synthesize_sections(given.seed * SEEDS_PER_RUN + number, mpp=SECTIONS_MPP)
        for name, answer in compared(pair, commands, given.limit_s):
            answers[name].append(answer)
            print(f"pair {number + 1} of {given.pairs}, {name}: {_words(answer)}", file=sys.stderr)
    found: dict[str, Any] = {name: summarized(those) for name, those in answers.items()}
    found |= left_out(commands)
    print(json.dumps({"data": "synthetic", "seed": given.seed, **found}, indent=2))


def left_out(commands: Commands) -> dict[str, str]:
    """Return why the peers without a command are not compared, by name."""
    why = "left out: not installed (--install FOLDER says why, then --peers FOLDER)"
    return {name: why for name in PACKAGES if name not in commands}


def compared(
    pair: SectionPair, commands: Commands, limit_s: float
) -> Iterator[tuple[str, Registered]]:
    """Yield the name and the answer of Tandem and of each peer on a pair."""
    yield TANDEM, _tandem(pair)
    with TemporaryDirectory(prefix="tandem-peers-") as scratch:
        job = Path(scratch) / "job.json"
        images = Path(scratch) / "slides"
        images.mkdir()
        places = {name: images / f"{name}.png" for name in ("he", "ihc")}
        for name, path in places.items():
            cv2.imwrite(str(path), getattr(pair, name)[..., ::-1])
        facts = {"mpp": pair.mpp, "points_um": pair.he_um.tolist()}
        job.write_text(json.dumps({n: str(path) for n, path in places.items()} | facts))
        for name, command in commands.items():
            yield name, asked(name, command, job, pair, limit_s)


def asked(
    name: str, command: Sequence[str], job: Path, pair: SectionPair, limit_s: float
) -> Registered:
    """Return a peer's answer; one that fails or takes too long places nothing, and flags it.

    A peer that estimates its error flags a pair from the error on from which Tandem does.
    """
    try:
        answer = ask(name, command, job, limit_s)
        places, error = np.array(answer["places_um"]), answer["error_um"]
        if places.shape != pair.he_um.shape:
            raise PeerError(f"peer {name} did not answer for each target")
    except PeerError as err:
        nowhere = np.full(len(pair.he_um), np.nan)
        return Registered(tre_um=nowhere, cpu_s=None, flagged=True, said=str(err))
    return Registered(
        tre_um=np.linalg.norm(places - pair.ihc_um, axis=1),
        cpu_s=answer["cpu_s"],
        flagged=error is not None and not error <= Settings().review.max_alignment_error_um,
        said=answer["package"],
    )


def summarized(answers: Sequence[Registered]) -> Mapping[str, Any]:
    """Return the figures of a tool over its pairs, ready for JSON; errors are pooled."""
    errors = np.concatenate([answer.tre_um for answer in answers])
    placed = errors[~np.isnan(errors)]
    failed = [answer for answer in answers if has_failed(answer.tre_um)]
    cpu_s = [answer.cpu_s for answer in answers if answer.cpu_s is not None]
    return {
        "pairs": len(answers),
        "tre_um_median": round(float(np.median(placed)), 1) if placed.size else None,
        "tre_um_p90": round(float(np.quantile(placed, 0.9)), 1) if placed.size else None,
        "unplaced_share": round(float(np.isnan(errors).mean()), 3),
        "failures": len(failed),
        "unflagged_failures": sum(not answer.flagged for answer in failed),
        "flagged_without_failure": sum(a.flagged and not has_failed(a.tre_um) for a in answers),
        "failure": f"median over {FAILED_UM:g} µm, or over {FAILED_UNPLACED:.0%} without a place",
        "cpu_s_median": round(float(np.median(cpu_s)), 1) if cpu_s else None,
        "said": sorted({answer.said for answer in answers}),
    }


def _tandem(pair: SectionPair) -> Registered:
    before = time.process_time()
    found, _ = aligned_sections(pair.he, pair.ihc, pair.mpp)
    cpu_s = time.process_time() - before
    tre = np.full(len(pair.he_um), np.nan)
    if found is not None:
        tre = np.linalg.norm(found.mapping.forward(pair.he_um) - pair.ihc_um, axis=1)
    flagged = bool(review_codes(found, Settings()))
    return Registered(tre_um=tre, cpu_s=cpu_s, flagged=flagged, said="this checkout")


def _words(answer: Registered) -> str:
    if np.isnan(answer.tre_um).all():
        return f"no place: {answer.said}"
    flag = ", flagged" if answer.flagged else ""
    return f"median error {np.nanmedian(answer.tre_um):.1f} µm, {answer.cpu_s:.0f} s of CPU{flag}"


if __name__ == "__main__":
    main(sys.argv[1:])
