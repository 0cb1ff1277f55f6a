"""Figures of ``tandem evaluate --mapping`` where no place was found, and seeds that are refused."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.evaluation import mapping
from appliance.evaluation.mapped_pair import MappedPair


def test_without_a_place_the_figures_are_null_and_the_json_is_json() -> None:
    pair = MappedPair(
        seed=1,
        tre_um=np.full(5, np.nan),
        said_um=np.inf,
        agreement=0.0,
        overlap=0.0,
        seconds=1.0,
        reasons=("slides-do-not-match",),
        mix_up=(),
        mix_up_agreement=0.0,
        control=False,
        leaked=0,
        truth={"mirrored": False},
        mirrored=False,
    )
    found = json.loads(json.dumps(mapping.summarize([pair]), allow_nan=False))
    assert found["alignment.tre_um_median"] is None and found["alignment.tre_um_p90"] is None
    assert (found["alignment.unplaced_share"], found["alignment.failures"]) == (1.0, 1)
    row = json.loads(json.dumps(mapping._row(pair), allow_nan=False))
    assert row["reported_error_um"] is None and row["tre_um_median"] is None


def test_generated_tiles_that_trained_a_network_do_not_judge_it() -> None:
    command = ["evaluate", "tiles", "--task", "tumor", "--generated", "8", "--seed", "-899000000"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and "--seed" in done.stderr
