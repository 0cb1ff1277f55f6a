"""Tandem beside other tools: the same slide, weights and tiles in one run.

``python benchmarks/peers.py --install FOLDER`` once: WSInfer and TIAToolbox, each in its own
environment (5 GB each if torch comes with CUDA). Then
``python benchmarks/peers.py SLIDE --config vit-tiny-patch16-224 --tiles 1000 --peers FOLDER``.

Peers are programs (`peer_*.py`; `benchmarks/peer_tools.py` describes their interface). The plain
loop is always among them, in float32 and in bfloat16. Weights are random, because speed does not
depend on them. ``tandem bench --peers FOLDER`` measures with the weights in use.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from appliance.errors import PeerError
from appliance.readers.inference import Network
from benchmarks.bench import planned, read_plan
from benchmarks.peer_tools import (
    PEERS_NAME,
    REFERENCE,
    TOLERANCE,
    Commands,
    peers_on,
    read_commands,
)
from models.checkpoint import save_untrained
from models.spec import Task
from models.training.configuration import load_configuration

HERE = Path(__file__).resolve().parent
PACKAGES = {
    # WSInfer 0.6 needs zarr 2 without declaring it. Both tools get the torch of TIAToolbox.
    "wsinfer": ["wsinfer[openslide]", "openslide-bin", "zarr<3", "torch<2.13"],
    "tiatoolbox": ["tiatoolbox", "torch<2.13"],
}

IMPORTED = "import runpy, sys; runpy.run_path(sys.argv[1])"
"""Imports what a peer's program needs: pip may succeed where that fails. The peer itself may need a
network for its import, which its program knows to avoid."""


def command(python: str | Path, peer: str) -> list[str]:
    """Return the command of a peer, isolated (-I) from Tandem whatever PYTHONPATH says."""
    return [str(python), "-I", str(HERE / f"peer_{peer}.py")]


LOOPS = {f"{REFERENCE}{name}": [*command(sys.executable, "loop"), name] for name in TOLERANCE}
"""Commands of the plain loop in both precisions, by this Python."""


def main(arguments: Sequence[str]) -> None:
    """Print tiles per second of each tool (medians of interleaved repeats) and ratios, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path, nargs="?")
    parser.add_argument("--config", default="vit-tiny-patch16-224")
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--runtime", choices=("torch", "openvino"), default="torch", help="Tandem's"
    )
    parser.add_argument("--peers", type=Path, help="folder that --install made")
    parser.add_argument("--install", type=Path, help="folder for the peers' environments")
    options = parser.parse_args(arguments)
    if options.install is not None:
        print(json.dumps(install(options.install, PACKAGES, PEERS_NAME, LOOPS), indent=2))
        return
    if options.slide is None:
        parser.error("name a slide, or --install")
    try:
        commands = LOOPS if options.peers is None else read_commands(options.peers)
        found = compare(options, commands)
    except PeerError as err:
        raise SystemExit(str(err)) from err
    for name in PACKAGES.keys() - commands:
        found[f"peers.{name}"] = "left out: not installed (--install FOLDER, then --peers FOLDER)"
    print(json.dumps(found))


def compare(options: argparse.Namespace, commands: Commands) -> dict[str, Any]:
    """Return the rates of Tandem and of the peers on one slide."""
    plan = planned(options.slide, options.tiles)
    spec = load_configuration(options.config, Task.TUMOR).spec(Task.TUMOR)
    seconds = []
    with tempfile.TemporaryDirectory() as scratch:
        save_untrained(Path(scratch), spec)
        network = Network(Path(scratch), "auto", options.runtime)
        batch_size = network.fitting_batch()
        with peers_on(commands, options.slide, plan.tiles, network, batch_size) as peers:
            for _ in range(options.repeats):
                start = time.perf_counter()
                read_plan(plan, "tumor", [network], batch_size)
                seconds.append(time.perf_counter() - start)
                peers.take_turns()
            figures = peers.figures()
    tandem = len(plan.tiles) / statistics.median(seconds)
    best = max(value for name, value in figures.items() if name.endswith(".tiles_per_s"))
    return {
        "config": options.config,
        "runtime": options.runtime,
        "device": network.device,
        "tiles": len(plan.tiles),
        "tandem_tiles_per_s": round(tandem, 2),
        **figures,
        "tandem_over_best_peer": round(tandem / best, 2),
    }


def install(
    root: Path, wanted: Mapping[str, Sequence[str]], listed: str, others: Commands
) -> dict[str, str]:
    """Install each peer below `root`; return the result of each.

    `wanted` holds the packages by name of the peer's module. The commands of those that work, and
    of `others`, are written to ``root/listed``.
    """
    root.mkdir(parents=True, exist_ok=True)
    commands, said = dict(others), {}
    for name, packages in wanted.items():
        python = root / name / "bin" / "python"
        steps: tuple[list[str | Path], ...] = (
            [sys.executable, "-m", "venv", root / name],
            [python, "-m", "pip", "install", "--quiet", *packages],
            [python, "-I", "-c", IMPORTED, HERE / f"peer_{name}.py"],
        )
        said[name] = "installed"
        for step in steps:
            done = subprocess.run(step, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                said[name] = f"not installed: {' '.join(done.stderr.strip().splitlines()[-1:])}"
                break
        else:
            commands[name] = command(python.absolute(), name)
    (root / listed).write_text(json.dumps(commands, indent=2))
    return said


if __name__ == "__main__":
    main(sys.argv[1:])
