"""Locks with the hash of each file that an install may take, one for each platform.

`requirements.lock` says which versions. A lock of `supply/locks` adds the SHA-256 of each file that
the index offers for them, so that pip refuses any other file. That for CUDA has torch's build for
CUDA and its libraries, the other one torch's build for CPUs.

Usage: python -m supply.hashed [FOLDER]

The index is asked by its JSON (PEP 691), and pip for what it would install here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import requests
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from supply.components import LOCK, pins, plain

INDEX = "https://pypi.org/simple"
FOLDER = Path(__file__).parent / "locks"
CPU, CUDA = "linux-x86_64-cpu.txt", "linux-x86_64-cuda.txt"
_HEAD = """# Linux, x86_64, torch's build for {build}.
# Written by: make lock. Used by: make install LOCK=supply/locks/{name}
"""
_WAIT_S = 60
_PLATFORM = re.compile(r"any|(many)?linux.*_x86_64")


def offered(name: str, version: str, index: str = INDEX) -> set[str]:
    """Return the SHA-256 of each file of a version that the index offers for Linux on x86_64.

    None are found of a package that it does not know.

    Raises
    ------
    requests.RequestException
        If the index does not answer.
    """
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    answer = requests.get(f"{index}/{plain(name)}/", headers=accept, timeout=_WAIT_S)
    if answer.status_code == requests.codes.not_found:
        return set()
    answer.raise_for_status()
    return {
        each["hashes"]["sha256"]
        for each in answer.json()["files"]
        if "sha256" in each["hashes"] and _is_for(each["filename"], Version(version))
    }


def resolved(*asked: str) -> dict[str, tuple[str, str]]:
    """Return version and SHA-256, by name, of what pip would install here for some arguments.

    Raises
    ------
    subprocess.CalledProcessError
        If pip finds no solution.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run",
                   "--ignore-installed", "--report", str(report), *asked]  # fmt: skip
        subprocess.run(command, check=True)  # noqa: S603  our own arguments
        found: list[dict[str, Any]] = json.loads(report.read_text())["install"]
    return {
        plain(each["metadata"]["name"]): (
            each["metadata"]["version"],
            each["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for each in found
    }


def written(locked: Mapping[str, str], hashes: Mapping[str, Iterable[str]]) -> str:
    """Return the lines of a lock; raises ValueError for a pin without a hash."""
    without = [name for name in locked if not hashes[name]]
    if without:
        raise ValueError(f"no file is known of: {', '.join(without)}")
    return "".join(
        " \\\n    ".join(
            [f"{name}=={version}", *(f"--hash=sha256:{h}" for h in sorted(hashes[name]))]
        )
        + "\n"
        for name, version in sorted(locked.items())
    )


def main() -> None:
    """Write both locks."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    locked = pins()
    here = resolved("--no-deps", "-r", str(LOCK))
    for_cpu = here["torch"]
    if not for_cpu[0].endswith("+cpu"):
        raise SystemExit("make lock: pip would install torch's build for CUDA here")
    hashes = {name: offered(name, version) | {here[name][1]} for name, version in locked.items()}
    # Of two builds with a hash that is allowed, pip may take either: each lock names its own.
    of_cpu = hashes | {"torch": {for_cpu[1]}}
    of_cuda = hashes | {"torch": hashes["torch"] - {for_cpu[1]}}
    # Alone, the public index offers the build for CUDA.
    needed = resolved("--isolated", "--only-binary", ":all:", "--index-url", INDEX,
                      "-c", str(LOCK), f"torch=={locked['torch']}")  # fmt: skip
    more = {name: version for name, (version, _) in needed.items() if name not in locked}
    of_cuda |= {name: offered(name, version) for name, version in more.items()}
    for name, build, pinned, known in (
        (CPU, "CPUs", locked, of_cpu),
        (CUDA, "CUDA", locked | more, of_cuda),
    ):
        (folder / name).write_text(_HEAD.format(build=build, name=name) + written(pinned, known))


def _is_for(file_name: str, version: Version) -> bool:
    """Tell whether a file is of a version, and for Linux on x86_64 if it is a wheel."""
    try:
        if not file_name.endswith(".whl"):
            return parse_sdist_filename(file_name)[1] == version
        _, found, _, tags = parse_wheel_filename(file_name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False
    return found == version and any(_PLATFORM.fullmatch(tag.platform) for tag in tags)


if __name__ == "__main__":
    main()
