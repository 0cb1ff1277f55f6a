"""``tandem evaluate --mapping``: alignment, mix-ups and control tissue on made sections with truth.

Sections are made at the resolution of alignment, as whole slides of 60,000 x 50,000 px show them.
Alignment uses nothing of the full resolution. All figures are synthetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from appliance.evaluation.mapped_pair import MappedPair, map_pair
from appliance.evaluation.pool import Watcher, run_all
from appliance.findings.findings import RESEARCH_USE
from appliance.findings.reasons import Reason
from appliance.settings.settings import Settings
from models.synthesis.placement import SIZE_UM
from models.synthesis.sections import synthesize_sections

SECTIONS_MPP = 4.5
SEEDS_PER_RUN = 100_000


def evaluate_mapping(
    seed: int, pairs: int, settings: Settings, *, workers: int | None, watch: Watcher
) -> dict[str, Any]:
    """Make `pairs` pairs of sections, align each with its own and with another block's partner.

    Quoted figures at the top, a row per pair in ``pairs_found``; ready for JSON.
    """
    first = seed * SEEDS_PER_RUN
    # Two blocks at a time: each takes the other's IHC slide for a mix-up.
    jobs = [(first + k, first + k + 1) for k in range(0, pairs + pairs % 2, 2)]
    both = run_all(
        partial(_both, settings=settings),
        jobs,
        workers=workers,
        what="job",
        extensions=settings.extensions,
        watch=watch,
        say=_said,
    )
    found = {pair.seed: pair for two in both for pair in two}
    chosen = [found[first + k] for k in range(pairs)]
    return {
        "notice": RESEARCH_USE,
        "data": "synthetic",
        "seed": seed,
        "pairs": pairs,
        "slide_um": list(SIZE_UM),
        **summarize(chosen),
        "pairs_found": [_row(pair) for pair in chosen],
    }


def summarize(pairs: Sequence[MappedPair]) -> dict[str, Any]:
    """Quoted figures; errors are pooled over all targets of all pairs."""
    errors = np.concatenate([pair.tre_um for pair in pairs])
    placed = errors[~np.isnan(errors)]
    own = np.array([p.median_um for p in pairs])
    ratio = np.array([p.said_um for p in pairs]) / np.maximum(own, 0.1)
    honest = (ratio >= 0.5) & (ratio <= 2)
    with_control = [pair for pair in pairs if pair.control]
    failed = [pair for pair in pairs if pair.failed]
    return {
        "alignment.tre_um_median": round(float(np.median(placed)), 2) if len(placed) else None,
        "alignment.tre_um_p90": round(float(np.quantile(placed, 0.9)), 2) if len(placed) else None,
        "alignment.unplaced_share": round(float(np.isnan(errors).mean()), 4),
        "alignment.failures": len(failed),
        "alignment.unflagged_failures": sum(not pair.reasons for pair in failed),
        "alignment.error_within_factor_two": round(float(honest.mean()), 4),
        "alignment.mirrored_known": sum(p.truth["mirrored"] == p.mirrored for p in pairs),
        "alignment.seconds_median": round(float(np.median([p.seconds for p in pairs])), 2),
        "mismatch.n": len(pairs),
        "mismatch.recall": round(float(np.mean([Reason.MISMATCH in p.mix_up for p in pairs])), 4),
        "mismatch.false_alarm_rate": round(
            float(np.mean([Reason.MISMATCH in p.reasons for p in pairs])), 4
        ),
        "control.n": len(with_control),
        "control.leaked": sum(pair.leaked > 0 for pair in with_control),
    }


def _both(seeds: tuple[int, int], settings: Settings) -> list[MappedPair]:
    one, other = (synthesize_sections(seed, mpp=SECTIONS_MPP) for seed in seeds)
    return [
        map_pair(seeds[0], one, other.ihc, settings),
        map_pair(seeds[1], other, one.ihc, settings),
    ]


def _said(pairs: Sequence[MappedPair]) -> str:
    """Result of two pairs in a few words."""
    return ", ".join(
        "no place found" if np.isnan(pair.median_um) else f"error {pair.median_um:.1f} µm"
        for pair in pairs
    )


def _row(pair: MappedPair) -> dict[str, Any]:
    return {
        "seed": pair.seed,
        **pair.truth,
        "tre_um_median": None if np.isnan(pair.median_um) else round(pair.median_um, 2),
        "unplaced_share": round(float(np.isnan(pair.tre_um).mean()), 3),
        "reported_error_um": round(pair.said_um, 2) if np.isfinite(pair.said_um) else None,
        "agreement": round(pair.agreement, 3),
        "overlap": round(pair.overlap, 3),
        "review": list(pair.reasons),
        "mix_up_agreement": round(pair.mix_up_agreement, 3),
        "mix_up_review": list(pair.mix_up),
        "control_tiles_scored": pair.leaked,
        "seconds": round(pair.seconds, 2),
    }
