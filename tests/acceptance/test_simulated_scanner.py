"""A day of a simulated scanner: nothing is lost, nobody is misled, the folder stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.scanner.play import Simulation
from benchmarks.scanner.tissue import Sections
from benchmarks.trial.day import simulated_day


@pytest.mark.slow
def test_a_day_of_three_scanners_with_faults(tmp_path: Path, sections: Sections) -> None:
    wanted = Simulation(
        profiles=("aperio-svs", "mirax", "dicom"),
        slides=60,
        seed=1,
        fault_share=0.4,
        speed=200.0,
        scores=("3+",),
        target="QUICK",
    )
    day = simulated_day(tmp_path, wanted, sections, most_s=900)
    assert not day.wrong, "\n".join(day.wrong)
    assert day.delivered >= day.pairs > 15
