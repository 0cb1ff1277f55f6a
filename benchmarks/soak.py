"""Soak: ``python benchmarks/soak.py --faults 10000 --seed 1``, or ``make soak``.

Chaos (`benchmarks.chaos`) in rounds, each with a new site and a seed of its own. A finished round
is a line of the log, so that a soak that was ended goes on where it was; the round that ran is done
again. At the end, and with ``--sum`` at any time, the whole log is summed up.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from multiprocessing import active_children, get_context
from pathlib import Path
from statistics import median, quantiles
from types import FrameType
from typing import ParamSpec, TypeVar

from benchmarks.chaos import say
from benchmarks.scanner.tissue import draw_sections
from benchmarks.trial.chaos import Chaos, Outcome, chaos
from benchmarks.trial.disk import small_disk
from benchmarks.trial.faults import CLUSTER_FAULTS, FAULTS

P = ParamSpec("P")
T = TypeVar("T")
OneRound = Callable[[int, int], "Round"]
LOG = Path("docs/soak.jsonl")
"""Log of the project's own soak, which is committed."""
ROUND_FAULTS = 100
CLUSTER_EVERY = 10
LOCK_S = 10.0
"""Seconds that the ledger is locked: one of a hundred rounds must not last days."""
SILENT_S = 15.0
P99_LIMIT_S = 30.0
"""Limit of the 99th percentile of recovery, on a machine with nothing else to do."""
IDLE_LOAD = 1.5
"""Load before a round from which the machine had other work. So has one with several sites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Line of the log: a round's number, seed, load of the machine before it, and what was found.

    `code` is the commit that ran, "" where it is not known. `recovery_s` are seconds until the line
    moved again, by kind of fault. `faults` were done, those of `skipped` were not. `cpu_s` are
    seconds of CPU of the site until it moved again, by kind. `sites` ran at the same time; 0: not
    known.
    """

    number: int
    seed: int
    load: float
    seconds: float
    faults: int
    pairs: int
    delivered: int
    objects: int
    wrong: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    code: str = ""
    cpu_s: dict[str, float] = field(default_factory=dict)
    sites: int = 0

    @property
    def is_idle(self) -> bool:
        """The machine had nothing else to do when the round began."""
        return self.sites == 1 and self.load < IDLE_LOAD


def main() -> int:
    """Run the rounds that are left and sum up; return 0 only where all limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=10_000, help="of the whole soak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--hours", type=float, default=1e9, help="no round is begun after them")
    parser.add_argument("--sites", type=int, default=1, help="rounds at the same time")
    parser.add_argument("--sum", action="store_true", help="sum the log up and run nothing")
    parser.add_argument(
        "--code",
        action="append",
        metavar="COMMIT",
        help="sum up all rounds of it, whatever the seed",
    )
    options = parser.parse_args()
    if options.code and not options.sum:
        parser.error("--code goes with --sum")
    heed_signals()
    if not options.sum:
        soak(options.log, options.faults, options.seed, options.hours, _one_round, options.sites)
    rounds = rounds_of(options.log, None if options.code else options.seed)
    if options.code:
        rounds = [each for each in rounds if each.code in options.code]
    return 0 if summed(rounds, options.faults) else 1


def soak(
    log: Path,
    faults: int,
    seed: int,
    hours: float,
    one_round: OneRound,
    sites: int = 1,
    executor: Executor | None = None,
) -> None:
    """Run rounds until the log has so many faults of this soak, or the hours have passed.

    `one_round` runs a round of a number and a seed. With several `sites` so many rounds run at the
    same time, by `executor`: by default each in a process of its own. Where a round fails by
    itself the others are ended well, and its error is raised. An interrupt ends all with their
    sites.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 3600 * hours
    with executor or _executor(sites) as running_in, _interrupting_children():
        running: dict[Future[Round], int] = {}
        troubles: list[BaseException] = []
        while True:
            known = rounds_of(log, seed)
            done = sum(each.faults for each in known)
            numbers = (k for k in count() if k not in {r.number for r in known})
            free = (k for k in numbers if k not in running.values())
            while (
                not troubles
                and len(running) < sites
                and done + ROUND_FAULTS * len(running) < faults
                and time.monotonic() < end
            ):
                number = next(free)
                say(f"round {number + 1}: {done} of {faults} faults are done")
                running[running_in.submit(one_round, number, round_seed(seed, number))] = number
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                if trouble := future.exception():
                    troubles.append(trouble)
                    continue
                found = replace(future.result(), sites=sites)
                _append(log, seed, found)
                if not found.faults:
                    say("no fault could be done here; see what is skipped in the log")
                    end = time.monotonic()
    for trouble in troubles:
        raise trouble


class _Here(Executor):
    """Executor that runs a function when it is submitted: one round after the other."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it; an interrupt goes to the caller at once."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _executor(sites: int) -> Executor:
    if sites == 1:
        return _Here()
    return ProcessPoolExecutor(sites, mp_context=get_context("spawn"), initializer=heed_signals)


def heed_signals() -> None:
    """Let SIGINT and SIGTERM interrupt this process, once: what it runs is ended well.

    A shell that runs it in the background has its processes ignore SIGINT.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _interrupting_children() -> Iterator[None]:
    """Pass an interrupt on: not all who send one send it to all processes."""
    try:
        yield
    except KeyboardInterrupt:
        for pid in filter(None, (child.pid for child in active_children())):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        raise


def _append(log: Path, seed: int, found: Round) -> None:
    with log.open("a+b") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 1))
        cut_off = stream.read(1) not in (b"", b"\n")
        line = json.dumps({"soak": seed, **asdict(found)})
        stream.write(("\n" if cut_off else "").encode() + line.encode() + b"\n")


def rounds_of(log: Path, seed: int | None) -> list[Round]:
    """Return the finished rounds of a soak, None: of all; a line that was cut off is no round."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if facts.pop("soak", None) == seed or seed is None:
            found.append(Round(**facts))
    return found


def round_seed(seed: int, number: int) -> int:
    """Return the seed of a round: no two soaks share one."""
    return 100_000 * seed + number


def _one_round(number: int, seed: int) -> Round:
    """Run a site of its own under `ROUND_FAULTS` faults; every tenth has a cluster."""
    cluster = number % CLUSTER_EVERY == CLUSTER_EVERY - 1
    wanted = Chaos(
        faults=ROUND_FAULTS,
        seed=seed,
        kinds=[*FAULTS, *(CLUSTER_FAULTS if cluster else ())],
        cluster=cluster,
        lock_s=LOCK_S,
        stop_s=120.0,
        silent_s=SILENT_S,
        most_s=1800.0,
    )
    load, began = os.getloadavg()[0], time.monotonic()
    sections = draw_sections(("3+",), lambda _what, _done, _total: None)
    with tempfile.TemporaryDirectory() as place, small_disk(Path(place) / "disk") as disk:
        found = chaos(Path(place), wanted, sections, disk=disk, say=lambda _text: None)
    return _line(found, number, seed, load, time.monotonic() - began)


def _line(found: Outcome, number: int, seed: int, load: float, seconds: float) -> Round:
    return Round(
        number=number,
        seed=seed,
        load=round(load, 1),
        seconds=round(seconds, 1),
        faults=sum(len(each) for each in found.recovery_s.values()),
        pairs=found.pairs,
        delivered=found.delivered,
        objects=found.objects,
        wrong=found.wrong,
        skipped=found.skipped,
        recovery_s={kind: [round(s, 1) for s in each] for kind, each in found.recovery_s.items()},
        code=_commit(),
        cpu_s={kind: round(seconds, 1) for kind, seconds in found.cpu_s.items()},
    )


def _commit() -> str:
    """Return the commit of this tree, short; "" where there is none."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def summed(rounds: Sequence[Round], faults: int) -> bool:
    """Print what all rounds found together; return whether all limits hold.

    The limit of recovery holds for the rounds of an idle machine, or for all where none was.
    """
    by_kind: dict[str, list[float]] = defaultdict(list)
    cpu_s: dict[str, float] = defaultdict(float)
    for each in rounds:
        for kind, seconds in each.recovery_s.items():
            by_kind[kind] += seconds
            cpu_s[kind] += each.cpu_s.get(kind, 0.0)
    say(f"{'fault':<20}{_HEAD}{'CPU s':>8}  until it moves again")
    for kind, seconds in sorted(by_kind.items()):
        say(f"{_row(kind, seconds)}{cpu_s[kind] / max(1, len(seconds)):>8.1f}")
    idle = [each for each in rounds if each.is_idle]
    say(_row("all", _seconds_of(rounds)))
    say(_row("machine idle", _seconds_of(idle)))
    by_code: dict[str, list[Round]] = defaultdict(list)
    for each in rounds:
        by_code[each.code or "not known"].append(each)
    for code, those in by_code.items():
        say(_row(f"commit {code}", _seconds_of(those)))
    done = sum(each.faults for each in rounds)
    pairs, delivered = (sum(getattr(r, name) for r in rounds) for name in ("pairs", "delivered"))
    objects = sum(each.objects for each in rounds)
    wrong = [f"{r.code} seed {r.seed}: {said}".lstrip() for r in rounds for said in r.wrong]
    hours = sum(each.seconds for each in rounds) / 3600
    busiest = max((each.load for each in rounds), default=0.0)
    say(f"{done} of {faults} faults in {len(rounds)} rounds, {hours:.1f} h; load before {busiest}")
    say(f"{delivered} of {pairs} pairs delivered, {objects} objects; {len(wrong)} breaches")
    for sentence in wrong:
        say(f"    {sentence}")
    moves = p99(_seconds_of(idle or rounds)) <= P99_LIMIT_S
    return done >= faults and not wrong and delivered == pairs == objects and moves


def _seconds_of(rounds: Sequence[Round]) -> list[float]:
    return [s for each in rounds for seconds in each.recovery_s.values() for s in seconds]


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile; of fewer than two, the largest."""
    if len(seconds) < 2:
        return max(seconds, default=0.0)
    return quantiles(seconds, n=100, method="inclusive")[98]


_HEAD = f"{'times':>7}{'median s':>10}{'p99 s':>8}{'worst s':>9}"


def _row(what: str, seconds: Sequence[float]) -> str:
    middle, worst = median(seconds or [0.0]), max(seconds, default=0.0)
    return f"{what:<20}{len(seconds):>7}{middle:>10.1f}{p99(seconds):>8.1f}{worst:>9.1f}"


if __name__ == "__main__":
    sys.exit(main())
