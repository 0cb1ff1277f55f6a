"""Regions of 12 x 12 tiles, real against predicted (Table 3)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fixtures.judged_cases import TILES, a_judged_case

from appliance.evaluation.rois import ROI_LEAST, rois


def test_tiles_are_counted_in_their_region_of_144() -> None:
    case = a_judged_case("p", score=2, wrong_tiles=3)
    # 10 tiles at the far corner of the first region, 9 in the one right of it, 5 below: too few.
    place = np.array([(11, 11)] * 10 + [(12, 0)] * 9 + [(0, 12)] * (TILES - 19))
    assert TILES - 19 < ROI_LEAST
    partner = np.roll(place, 1, axis=0)
    share = np.ones(TILES, dtype=np.float32)
    share[9:11] = 0
    first, second = rois(replace(case, he_place=place, ihc_partner=partner, he_share=share))
    none = {"none": 0, "faint": 0, "weak": 0, "strong": 0}
    # C errs on tiles 0 to 2; 9 and 10 are no tumor, and it takes them for it.
    assert first == {
        "roi": "p-R1",
        "real": {"tumor": 9, "normal": 1, **none, "weak": 10},
        "predicted": {"tumor": 7, "normal": 3, **none, "weak": 8, "strong": 2},
    }
    # IHC tiles belong to the region of their partner: the first, wrong one lies below.
    assert second == {
        "roi": "p-R2",
        "real": {"tumor": 8, "normal": 1, **none, "weak": 9},
        "predicted": {"tumor": 9, "normal": 0, **none, "weak": 9},
    }
