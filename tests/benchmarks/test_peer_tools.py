"""Other tools measured beside the appliance: real programs, the plain loop among them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.errors import PeerError
from benchmarks.peer_tools import Peers, read_commands
from models.synthesis.slides import SyntheticCase

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "peers.py"
LIKELY = [[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]
WHOLE = np.array([True, True, False])


def peer(probabilities: list[list[float]], seconds: float = 1.5) -> list[str]:
    """Write a program that gives the same answer to every job."""
    answer = {
        "seconds": seconds,
        "precision": "bfloat16",
        "package": "peer 1.0",
        "probabilities": probabilities,
    }
    return [sys.executable, "-c", f"print('hello'); print({json.dumps(answer)!r})"]


def test_the_script_compares_and_says_who_is_left_out(small_case: SyntheticCase) -> None:
    command = [sys.executable, BENCHMARK, small_case.he_path, "--tiles", "6", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tiles"] == 6
    rates = [found[f"peers.loop-{name}.tiles_per_s"] for name in ("float32", "bfloat16")]
    assert min(rates) > 0
    assert found["tandem_over_best_peer"] == pytest.approx(
        found["tandem_tiles_per_s"] / max(rates), abs=0.01
    )
    for name in ("wsinfer", "tiatoolbox"):
        assert "not installed" in found[f"peers.{name}"]
        assert f"peers.{name}.tiles_per_s" not in found


def test_bench_asks_the_peers_of_a_folder(small_case: SyntheticCase, tmp_path: Path) -> None:
    command = ["bench", "--slide", str(small_case.he_path), "--tiles", "3", "--repeats", "1"]
    command += ["--peers", str(tmp_path)]
    done = CliRunner().invoke(app, [*command, "--json"])
    assert isinstance(done.exception, PeerError)
    assert "--install" in str(done.exception)
    (tmp_path / "peers.json").write_text(json.dumps({"other": peer(LIKELY)}))
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["peers.other.tiles_per_s"] == 2
    done = CliRunner().invoke(app, [*command, "--read", "stain"])
    assert done.exit_code == 2


def test_probabilities_are_those_of_the_loop_but_past_the_edge(tmp_path: Path) -> None:
    close = [[0.88, 0.12], [0.2, 0.8], [0.0, 1.0]]
    peers = Peers({"loop-bfloat16": peer(LIKELY), "other": peer(close, 3)}, tmp_path, WHOLE)
    peers.take_turns()
    found = peers.figures()
    assert found["peers.other.tiles_per_s"] == 1
    assert found["peers.other.largest_difference"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("other", "says"),
    [(LIKELY[::-1], "other tiles"), (LIKELY[:2], "each tile"), ([[np.nan] * 2] * 3, "other tiles")],
)
def test_other_work_is_refused(other: list[list[float]], says: str, tmp_path: Path) -> None:
    peers = Peers({"loop-bfloat16": peer(LIKELY), "other": peer(other)}, tmp_path, WHOLE)
    peers.take_turns()
    with pytest.raises(PeerError, match=says):
        peers.figures()


def test_a_peer_that_does_not_work_is_named(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "import no_such_package"]
    with pytest.raises(PeerError, match=r"peer other failed .*no_such_package"):
        Peers({"other": broken}, tmp_path, WHOLE).take_turns()
    with pytest.raises(PeerError, match="peer other does not start"):
        Peers({"other": [str(tmp_path / "python")]}, tmp_path, WHOLE).take_turns()


def test_a_list_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "peers.json").write_text("{")
    with pytest.raises(PeerError, match="cannot be read"):
        read_commands(tmp_path)
