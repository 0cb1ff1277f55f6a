"""Faults of all kinds done to a running site: nothing is lost, sent twice, or mixed up."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.scanner.tissue import Sections
from benchmarks.trial.chaos import Chaos, chaos
from benchmarks.trial.disk import small_disk
from benchmarks.trial.faults import FAULTS, faketime_library

LEFT_OUT = frozenset({"kill-daemon", "kill-worker", "term-storm", "shelf-away", "shelf-lies"})
"""Faults much like others of the list: a loss of power kills, and the ledger is damaged at rest."""
BY_CHANCE = frozenset({"artifact-flipped", "stop-worker", "slide-overwritten"})
"""Faults that are left out where nothing is at work just then."""


@pytest.mark.slow
def test_a_short_chaos_loses_nothing(tmp_path: Path, sections: Sections) -> None:
    kinds = [kind for kind in FAULTS if kind not in LEFT_OUT]
    wanted = Chaos(
        faults=len(kinds),
        seed=1,
        kinds=kinds,
        lock_s=3.0,
        stop_s=180.0,
        silent_s=15.0,
        most_s=720.0,
        pause_s=1.0,
        faults_per_pair=3,
        settings="intake = 1",
    )
    with tempfile.TemporaryDirectory() as place, small_disk(Path(place)) as disk:
        found = chaos(tmp_path, wanted, sections, disk=disk, say=print)
    assert not found.wrong, "\n".join(found.wrong)
    assert found.delivered == found.pairs == 5
    assert found.objects == found.pairs
    without = set(BY_CHANCE)
    if faketime_library() is None:
        without.add("clock-moved")
    if disk is None:
        without.add("disk-full")
    if disk is None or disk.image is None:
        without.add("power-loss")
    assert set(kinds) - without <= set(found.recovery_s), found.skipped
