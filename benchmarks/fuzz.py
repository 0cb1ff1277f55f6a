"""Bytes from outside, mutated: ``python benchmarks/fuzz.py [--each 1000] [--seed 1]``.

Every reader of what others write gets `--each` mutated inputs: sidecars, tables of orders, HL7
orders, annotations, MRXS indexes; answers of servers of a worklist (C-FIND), of QIDO-RS, STOW-RS,
UPS-RS, WADO-RS and FHIR; acknowledgments over MLLP. The servers run here, on loopback. Judged is
that a reader ends, that only the errors that it documents come out of it, and that nothing is
written outside of the scratch folder. Slides (TIFF, DICOM) are mutated by
``pytest tests/appliance/intake/test_mutated_files.py``.

Prints a line for each reader, and exits with 1 where one breaks: its name, the seed and the number
of the input give that input again.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from appliance.delivery.order_csv import read_csv
from appliance.delivery.order_hl7 import read_hl7
from appliance.errors import SlideError
from appliance.intake.identity.sidecar import read_sidecar
from appliance.intake.mrxs import mrxs_is_whole
from appliance.settings.orders import Orders
from benchmarks.fuzz_servers import readers_of_answers
from benchmarks.fuzz_target import Target
from models.datasets.geojson import read_annotations
from models.errors import DataSetError

HANG_SECONDS = 120
"""Time after which a reader counts as hanging; typical are milliseconds."""
WORKING_FOLDER = -1
"""Folder of an audit event whose path stands for itself."""
HOSTILE = (
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\r",
        b"\n",
        b"\x0b",
        b"\x1c\r",
        b"^~\\&",
        b"|",
        b"=",
    ),
    *(b"../../../../tmp/out", b"%s%n", b"\\X00\\", b"\\ud800", b"[" * 3000, b"A" * 70_000),
    *(b"-1", b"1e999", b"NaN", b"9" * 400, b"18446744073709551616", b"\xef\xbb\xbf", b'"', b"'"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 10**400, 1e308, float("nan"), "", "\ud800", "\x00", "9" * 5000),
    *([], {}, [[]], [None], {"Value": None}, {"Value": [None]}, {"Value": {}}, "../../../tmp/out"),
)


@dataclass(slots=True)
class Found:
    """Count of what a reader did: inputs read, refused by error, and the inputs that broke it."""

    read: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


class HangError(BaseException):
    """A reader that does not end; no reader may catch it."""


def mutated(sample: bytes, rng: random.Random) -> bytes:
    """Return a sample with bytes flipped, cut, doubled or replaced, or its JSON changed."""
    if rng.random() < 0.5:
        try:
            document = json.loads(sample)
        except ValueError:
            pass
        else:
            for _ in range(rng.choice((1, 1, 2, 5))):
                document = _with_other_value(document, rng)
            return json.dumps(document).encode("utf-8", "surrogatepass")
    data = bytearray(sample)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.choice(HOSTILE)
            case 2:
                data[at : at + rng.randrange(1, 40)] = rng.choice(HOSTILE)
            case 3:
                data[at:at] = data[at : at + rng.randrange(200)]
            case _:
                del data[at : at + rng.choice((1, 8, len(data)))]
    return bytes(data)


def _with_other_value(node: Any, rng: random.Random) -> Any:
    """Return a JSON document in which one place, drawn at random, holds another value."""
    if isinstance(node, (dict, list)) and node and rng.random() < 0.85:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = rng.choice(keys)
        changed: Any = node.copy()
        changed[key] = _with_other_value(node[key], rng)
        return changed
    return rng.choice(VALUES)


def targets_of_files(scratch: Path) -> Mapping[str, Target]:
    """Return the readers of files, which are written below `scratch`."""
    slide, table = scratch / "S26-00031_HE.svs", scratch / "orders.csv"
    messages, mrxs, indexed = scratch / "hl7", scratch / "slide.mrxs", scratch / "other.mrxs"
    for folder in (messages, mrxs.with_suffix(""), indexed.with_suffix("")):
        folder.mkdir()
    slide.touch()
    (mrxs.with_suffix("") / "Index.dat").write_bytes(_INDEX)
    (indexed.with_suffix("") / "Slidedat.ini").write_bytes(_SLIDEDAT)
    for folder in (mrxs, indexed):
        (folder.with_suffix("") / "Data0000.dat").write_bytes(bytes(1000))

    moments = count(time.time_ns() - 3600 * 10**9)  # files are read once for each

    def by(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def call(data: bytes) -> object:
            path.write_bytes(data)
            os.utime(path, ns=(0, next(moments)))  # a fresh one may still be written
            return read(path)

        return call

    return {
        "sidecar": Target(
            samples=(_SIDECAR.encode(), _SIDECAR.encode("utf-16")),
            call=by(slide.with_suffix(".tandem.toml"), lambda _: read_sidecar(slide)),
            documented=(SlideError,),
        ),
        "table of orders": Target(
            samples=(_CSV, _CSV.replace(b",", b";"), _CSV.decode().encode("utf-16")),
            call=by(table, lambda path: read_csv(path, Orders(csv=path))),
        ),
        "HL7 orders": Target(
            samples=(_OML,), call=by(messages / "a.hl7", lambda _: read_hl7(messages, _HL7))
        ),
        "annotations": Target(
            samples=(_GEOJSON,),
            call=by(scratch / "a.geojson", lambda path: read_annotations(path, 1000, 1000)),
            documented=(DataSetError,),
        ),
        "MRXS Slidedat.ini": Target(
            samples=(_SLIDEDAT,),
            call=by(mrxs.with_suffix("") / "Slidedat.ini", lambda _: mrxs_is_whole(mrxs)),
            documented=(OSError,),
        ),
        "MRXS Index.dat": Target(
            samples=(_INDEX,),
            call=by(indexed.with_suffix("") / "Index.dat", lambda _: mrxs_is_whole(indexed)),
            documented=(OSError,),
        ),
    }


def fuzz(name: str, target: Target, *, each: int, seed: int, first: int = 0) -> Found:
    """Give a reader `each` mutated inputs, from number `first` on; equal seeds give equal ones."""
    found = Found()
    for number in range(first, first + each):
        rng = random.Random(f"{seed} {name} {number}")  # noqa: S311  no secret
        data = mutated(rng.choice(target.samples), rng)
        try:
            with _ends(name):
                target.call(data)
            found.read += 1
        except target.documented as err:
            found.refused[type(err).__name__] += 1
        except (Exception, HangError) as err:  # noqa: BLE001  whatever escapes is looked for
            found.broken.append(f"input {number} of seed {seed}: {type(err).__name__}: {err}"[:300])
    return found


@contextmanager
def writes_outside(scratch: Path) -> Iterator[list[str]]:
    """Collect the paths outside of `scratch` that this process opens to write, makes or moves."""
    outside: list[str] = []
    watching = True
    inside = (str(scratch), "/dev/null", "/proc/self")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching:
            return
        writes = event == "open" and set(str(arguments[1])) & set("wax+")
        paths: tuple[Any, ...] = ()
        if writes or event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            paths = arguments[:1]
        elif event in ("os.rename", "os.link", "os.symlink"):
            paths = arguments[:2]
        moved = event.startswith("os.") and event != "os.truncate"
        relative = moved and arguments[-1] != WORKING_FOLDER
        for path in () if relative else paths:  # to a folder that was opened, which was judged
            if isinstance(path, (str, bytes, Path)) and not _text(path).startswith(inside):
                outside.append(f"{event} {_text(path)}")

    sys.addaudithook(audit)  # it cannot be taken away again
    try:
        yield outside
    finally:
        watching = False


def _text(path: str | bytes | Path) -> str:
    return (
        path.decode("utf-8", "replace") if isinstance(path, bytes) else str(Path(path).absolute())
    )


@contextmanager
def _ends(name: str) -> Iterator[None]:
    def told(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"{name} did not end within {HANG_SECONDS} s")

    signal.signal(signal.SIGALRM, told)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def all_targets(scratch: Path, stack: ExitStack) -> Mapping[str, Target]:
    """Return every reader; servers run until the stack is closed."""
    return {**targets_of_files(scratch), **stack.enter_context(readers_of_answers(scratch))}


def main() -> int:
    """Fuzz every reader; return 1 where one broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    # Libraries say much of such bytes, and readers warn: not what is looked for here.
    warnings.simplefilter("ignore")
    logging.disable()
    broken = False
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets = all_targets(scratch, stack)
        outside = stack.enter_context(writes_outside(scratch))
        for name, target in targets.items():
            found = fuzz(name, target, each=given.each, seed=given.seed)
            refused = ", ".join(f"{times} {error}" for error, times in found.refused.items())
            print(f"{name:<22}{found.read:>6} read; refused: {refused or 'none'}")
            for line in found.broken[:10]:
                print(f"  BROKEN by {line}")
            broken |= bool(found.broken)
        for line in dict.fromkeys(outside):
            print(f"WRITTEN outside: {line}")
    print("broken" if broken or outside else f"0 broken, {given.each} inputs each")
    return int(broken or bool(outside))


_CSV = (
    b"accession,patient_id,issuer,patient_name,birth_date,sex,block,stain\n"
    b"S26-00031,4711,LAB,Meier^Anna,1960-02-29,F,A1,HER2\nS26-00032,4712,LAB,Ito^Ken,,M,B2,HE\n"
)
_SIDECAR = 'accession = "S26-00031"\r\nstain = "HER2"\r\nblock = "A1"\r\nmpp = 0.25\r\n'
_HL7 = Orders()
_OML = (
    b"MSH|^~\\&|LIS|LAB|TANDEM|LAB|20260304080000||OML^O21|7|P|2.5.1\r"
    b"PID|1||4711^^^LAB||Meier^Anna||19600229|F\rORC|NW|P1|F1\r"
    b"OBR|1|P1|F1|HER2^HER2^L|||||||||||||||S26-00031\rSPM|1|S26-00031A1||TISS\r"
)
_GEOJSON = json.dumps(
    {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {"type": kind, "coordinates": rings},
                "properties": {"classification": {"name": "Tumor"}},
            }
            for kind, rings in (
                ("Polygon", [[[10, 10], [90, 10], [90, 90], [10, 10]]]),
                ("MultiPolygon", [[[[100, 10], [190, 10], [190, 90], [100, 10]]]]),
            )
        ],
    }
).encode()
_SLIDEDAT = (
    b"[GENERAL]\nSLIDE_ID = 1\nIMAGENUMBER_X = 4\nIMAGENUMBER_Y = 4\n[HIERARCHICAL]\n"
    b"INDEXFILE = Index.dat\nHIER_COUNT = 1\nHIER_0_COUNT = 1\n"
    b"HIER_0_NAME = Slide zoom level\n[DATAFILE]\nFILE_COUNT = 1\nFILE_0 = Data0000.dat\n"
)
_INDEX = b"01.021" + struct.pack("<13i", 10, 14, 0, 22, 1, 0, 0, 100, 200, 0, 0, 0, 0)

if __name__ == "__main__":
    sys.exit(main())
