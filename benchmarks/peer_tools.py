"""Other tools as peers: the same tiles and the same network, each tool a separate program.

``FOLDER/peers.json`` holds their names and commands; ``benchmarks/peers.py --install FOLDER``
writes it. A command gets the path of a job and prints its answer, both JSON:

::

    job       slide, mpp; tile_px and places, tiles in level-0 px (x, y); input_px, classes;
              networks, TorchScript by precision (`models.torchscript`); precision, the faster one
              on this machine; batch, workers
    answer    seconds, for the tiles alone; precision, of the network used; probabilities, a row
              per tile; package, name and version
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliance.errors import PeerError
from appliance.geometry import TILE_UM, TileIndex
from appliance.slides.reader import SlideReader

if TYPE_CHECKING:
    from appliance.readers.inference import Network

PEERS_NAME = "peers.json"
REFERENCE = "loop-"
"""Prefix of the peers whose probabilities are the reference; the precision follows."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference of a probability by precision: kernels of other versions round differently.
Probabilities of two tiles differ by more, so that other tiles or weights are detected."""
BATCH = 32
"""Tiles per forward pass of a peer; more if Tandem takes more."""

Commands = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Answer:
    seconds: float
    precision: str
    package: str
    probabilities: NDArray[np.float64]


class Peers:
    """Programs that take turns on one job."""

    def __init__(self, commands: Commands, job: Path, whole: NDArray[np.bool_]) -> None:
        self._commands, self._job, self._whole = commands, job, whole
        self._answers: dict[str, list[_Answer]] = {name: [] for name in commands}

    def take_turns(self) -> None:
        """Let each peer work once; raises PeerError if one fails or answers for other tiles."""
        for name, command in self._commands.items():
            self._answers[name].append(_ask(name, command, self._job))

    def figures(self) -> dict[str, Any]:
        """Return the median ``peers.NAME.tiles_per_s`` of each peer, and the values behind it.

        Raises
        ------
        PeerError
            If probabilities differ from those of the plain loop.
        """
        found: dict[str, Any] = {}
        for name, answers in self._answers.items():
            last = answers[-1]
            seconds = statistics.median(answer.seconds for answer in answers)
            found |= {
                f"peers.{name}.tiles_per_s": round(len(last.probabilities) / seconds, 2),
                f"peers.{name}.precision": last.precision,
                f"peers.{name}.package": last.package,
            }
            if reference := self._answers.get(REFERENCE + last.precision):
                difference = self._difference(name, last, reference[-1])
                found[f"peers.{name}.largest_difference"] = round(difference, 6)
        return found

    def _difference(self, name: str, answer: _Answer, reference: _Answer) -> float:
        """Largest difference of any probability, over tiles within the slide. Tiles across its edge
        are excluded: tools fill the outside differently."""
        if answer.probabilities.shape != reference.probabilities.shape:
            raise PeerError(f"peer {name} did not answer for each tile: its rate says nothing")
        change = np.abs(answer.probabilities - reference.probabilities)[self._whole]
        most, allowed = float(change.max(initial=0)), TOLERANCE[answer.precision]
        if not most <= allowed:
            raise PeerError(
                f"peer {name} differs by {most:.3f} from the plain loop, more than {allowed}: it "
                "took other tiles or another network"
            )
        return most


@contextmanager
def peers_on(
    commands: Commands, slide: Path, tiles: Sequence[TileIndex], network: Network, batch_size: int
) -> Iterator[Peers]:
    """Yield peers for these tiles and this classifier; the job's files exist until the end."""
    with TemporaryDirectory(prefix="tandem-peers-") as scratch, SlideReader.open(slide) as reader:
        facts = reader.facts
        tile_px = round(TILE_UM / facts.mpp)
        places = [[round(n * TILE_UM / facts.mpp) for n in (t.column, t.row)] for t in tiles]
        networks = {name: Path(scratch) / f"{name}.pt" for name in TOLERANCE}
        for name, path in networks.items() if commands else ():
            network.save_torchscript(path, half=name == "bfloat16")
        job = Path(scratch) / "job.json"
        job.write_text(
            json.dumps(
                {
                    "slide": str(slide.resolve()),
                    "mpp": facts.mpp,
                    "tile_px": tile_px,
                    "places": places,
                    "input_px": network.spec.input_px,
                    "classes": network.spec.classes,
                    "networks": {name: str(path) for name, path in networks.items()},
                    "precision": network.precision,
                    "batch": max(BATCH, batch_size),
                    "workers": os.cpu_count() or 1,
                }
            )
        )
        whole = [
            x + tile_px <= facts.width_px and y + tile_px <= facts.height_px for x, y in places
        ]
        yield Peers(commands, job, np.array(whole))


def read_commands(
    folder: Path, listed: str = PEERS_NAME, installer: str = "peers.py"
) -> dict[str, list[str]]:
    """Return name and command of each peer of `folder`, from its file `listed`.

    Raises
    ------
    PeerError
        If the folder has no usable file of that name, which `installer` makes.
    """
    path = folder / listed
    try:
        commands: dict[str, list[str]] = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise PeerError(
            f"{path} cannot be read: python benchmarks/{installer} --install {folder} makes it"
        ) from err
    return commands


def ask(
    name: str, command: Sequence[str], job: Path, limit_s: float | None = None
) -> dict[str, Any]:
    """Return the answer of a peer to a job: the last line of its output, JSON.

    Raises
    ------
    PeerError
        If it does not start, fails, takes longer than `limit_s`, or gives no answer.
    """
    try:
        done = subprocess.run(
            [*command, str(job)], capture_output=True, text=True, check=False, timeout=limit_s
        )
    except OSError as err:
        raise PeerError(f"peer {name} does not start ({err}): install it anew") from err
    except subprocess.TimeoutExpired as err:
        raise PeerError(f"peer {name} took longer than {limit_s:g} s") from err
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:]
        raise PeerError(f"peer {name} failed ({''.join(said)}): {' '.join(command)} {job}")
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as err:
        raise PeerError(f"peer {name} gave no answer: {' '.join(command)} {job}") from err
    return answer


def _ask(name: str, command: Sequence[str], job: Path) -> _Answer:
    answer = ask(name, command, job)
    return _Answer(
        seconds=answer["seconds"],
        precision=answer["precision"],
        package=answer["package"],
        probabilities=np.array(answer["probabilities"]),
    )
