"""Other tools of registration beside the alignment: their answers, their failures, the figures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import install
from benchmarks.registration_peers import (
    LISTED,
    PACKAGES,
    TANDEM,
    Registered,
    asked,
    compared,
    left_out,
    summarized,
)
from models.synthesis.sections import SectionPair

HE_UM = np.array([[10.0, 20.0], [30.0, 40.0], [50.0, 60.0], [70.0, 80.0]])


@pytest.fixture
def pair() -> SectionPair:
    """Return a pair without tissue whose H&E lies 100 µm to the right on the IHC slide."""
    glass = np.full((64, 64, 3), 245, dtype=np.uint8)
    mask = np.zeros((8, 8), dtype=bool)
    return SectionPair(
        he=glass,
        ihc=glass,
        mpp=4.5,
        he_um=HE_UM,
        ihc_um=HE_UM + np.array([100.0, 0.0]),
        he_tumor=mask,
        ihc_tumor=mask,
        ihc_control=mask,
        tumor_cells=(1, 0, 0, 0),
        torn=False,
        moved=False,
        mirrored=False,
        control=False,
        degrees=0.0,
        pieces=1,
    )


def peer(shift_um: float, error_um: float | None) -> list[str]:
    """Write a program that reads its job and moves each point to the right."""
    program = f"""
import json, sys
job = json.load(open(sys.argv[1]))
places = [[x + {shift_um}, y] for x, y in job["points_um"]]
assert all(open(job[name], "rb").read(4) == b"\\x89PNG" for name in ("he", "ihc"))
print("chatter")
print(json.dumps(dict(cpu_s=3.0, places_um=places, error_um={error_um}, package="peer 1.0")))
"""
    return [sys.executable, "-c", program]


def test_errors_are_those_at_the_targets_and_failures_count_by_flag(pair: SectionPair) -> None:
    commands = {"near": peer(103, 5.0), "lost": peer(900, None), "wary": peer(900, 400.0)}
    found = {name: summarized([answer]) for name, answer in compared(pair, commands, 1200)}
    assert found["near"]["tre_um_median"] == found["near"]["tre_um_p90"] == 3
    assert found["near"]["cpu_s_median"] == 3
    assert found["near"]["said"] == ["peer 1.0"]
    assert (found["near"]["failures"], found["near"]["flagged_without_failure"]) == (0, 0)
    assert (found["lost"]["failures"], found["lost"]["unflagged_failures"]) == (1, 1)
    assert (found["wary"]["failures"], found["wary"]["unflagged_failures"]) == (1, 0)
    # Tandem finds no tissue, and says so.
    assert (found[TANDEM]["failures"], found[TANDEM]["unflagged_failures"]) == (1, 0)


def test_a_peer_that_fails_or_takes_too_long_is_named_and_places_nothing(
    pair: SectionPair, tmp_path: Path
) -> None:
    broken = [sys.executable, "-c", "import no_such_package"]
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    silent = [sys.executable, "-c", ""]
    short = {"cpu_s": 1.0, "places_um": [[1.0, 2.0]], "error_um": None, "package": "peer 1.0"}
    few = [sys.executable, "-c", f"print({json.dumps(short)!r})"]
    job = tmp_path / "job.json"
    answers = [
        asked("broken", broken, job, pair, 1200),
        asked("slow", slow, job, pair, 0.1),
        asked("silent", silent, job, pair, 1200),
        asked("few", few, job, pair, 1200),
    ]
    assert "no_such_package" in answers[0].said
    assert "longer than 0.1 s" in answers[1].said
    assert "gave no answer" in answers[2].said
    assert "each target" in answers[3].said
    for answer in answers:
        figures = summarized([answer])
        assert (figures["failures"], figures["unflagged_failures"]) == (1, 0)
        assert figures["tre_um_median"] is figures["cpu_s_median"] is None
        assert figures["unplaced_share"] == 1


def test_errors_are_pooled_over_pairs() -> None:
    near = Registered(tre_um=np.array([1.0, 2.0, 3.0]), cpu_s=1.0, flagged=True, said="a")
    far = Registered(tre_um=np.array([80.0, 90.0, np.nan]), cpu_s=4.0, flagged=False, said="a")
    figures = summarized([near, far])
    assert figures["tre_um_median"] == 3
    assert figures["unplaced_share"] == pytest.approx(1 / 6, abs=1e-3)
    assert (figures["failures"], figures["unflagged_failures"]) == (1, 1)
    assert figures["flagged_without_failure"] == 1
    assert figures["cpu_s_median"] == 2.5


def test_what_is_not_installed_is_left_out_with_the_remedy(tmp_path: Path) -> None:
    assert left_out({name: [] for name in PACKAGES}) == {}
    assert left_out({"valis": []}).keys() == {"deeperhistreg"}
    assert "--install" in left_out({})["valis"]
    said = install(tmp_path, {}, LISTED, {"other": ["program"]})
    assert said == {}
    assert json.loads((tmp_path / LISTED).read_text()) == {"other": ["program"]}
