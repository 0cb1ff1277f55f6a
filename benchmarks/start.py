"""Start of the daemon and of ``tandem --help``, beside another revision's, side by side.

Starts the ``tandem`` of each tree in turn, `--repeats` times, and prints medians: the CPU seconds
of ``tandem --help``, and the seconds and CPU seconds from ``tandem run`` on an empty folder to its
line "watching" (of the daemon's process, without the server of its worker processes). Both trees
run by this interpreter; packages that only the other one needs are looked for in `--packages`.

Usage: python benchmarks/start.py [--repeats 7] [--packages FOLDER] TREE…
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

TANDEM = Path(sys.executable).with_name("tandem")
READY = "watching; state in"


def help_cpu_s(tree: Path, packages: Path | None) -> float:
    """Return the CPU seconds of ``tandem --help``."""
    before = _children_cpu_s()
    subprocess.run(
        [TANDEM, "--help"],
        cwd=tree,
        env=_environment(tree, packages),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return _children_cpu_s() - before


def start_s(tree: Path, packages: Path | None) -> tuple[float, float]:
    """Return the seconds, and CPU seconds of the daemon, until it watches an empty folder.

    Raises
    ------
    SystemExit
        If the daemon ends before; its output is the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        scans, config = Path(folder, "scans"), Path(folder, "tandem.toml")
        scans.mkdir()
        config.write_text(f'state_dir = "{folder}/state"\n[watch]\nfolder = "{scans}"\n')
        began, lines = monotonic(), []
        with subprocess.Popen(
            [TANDEM, "run", "-c", config],
            cwd=tree,
            env=_environment(tree, packages),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as daemon:
            said = daemon.stdout or ()
            for line in said:
                lines.append(line)
                if READY in line:
                    break
            else:
                raise SystemExit(f"{tree}: the daemon ended:\n{''.join(lines)}")
            taken, cpu = monotonic() - began, _cpu_s(daemon.pid)
            daemon.send_signal(signal.SIGTERM)
            lines.extend(said)
        return taken, cpu


def _environment(tree: Path, packages: Path | None) -> dict[str, str]:
    paths = [str(tree), *([str(packages)] if packages else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print one line for each tree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="+", type=Path, metavar="TREE")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--packages", type=Path)
    given = parser.parse_args()
    found: dict[Path, list[tuple[float, float, float]]] = {tree: [] for tree in given.trees}
    for _ in range(given.repeats):
        for tree, figures in found.items():
            where = tree.resolve()
            helped = help_cpu_s(where, given.packages)
            figures.append((helped, *start_s(where, given.packages)))
    for tree, figures in found.items():
        helped, taken, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        print(
            f"{tree}: --help {helped:.2f} s of CPU; run, until it watches: "
            f"{taken:.2f} s, {cpu:.2f} s of CPU"
        )


if __name__ == "__main__":
    main()
