"""Figures of ``tandem evaluate --mapping`` where no place was found."""

from __future__ import annotations

import json

import numpy as np

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
