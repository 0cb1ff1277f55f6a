"""Words of sidecars on a case, such as its organ, against those that a guideline knows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from appliance.findings.reasons import Reason, ReviewReason

SHOWN_WORD = 40
"""Most characters of a sidecar's word that a reason for review repeats."""


def stated(
    what: str, words: Sequence[object], known: Collection[str], default: str
) -> tuple[str, tuple[ReviewReason, ...]]:
    """Return the first word if it is known, else the site's default, and reasons for review."""
    # People write sidecars: a number or a list in place of a word must not stop the line.
    said = [word for word in (str(raw).strip().casefold() for raw in words) if word]
    if not said:
        return default.strip().casefold(), ()
    reasons = []
    if len(set(said)) > 1:
        reasons.append(
            ReviewReason(
                code=Reason(f"{what}-contradicted"),
                params={"what": what},
            )
        )
    if said[0] in known:
        return said[0], tuple(reasons)
    reasons.append(
        ReviewReason(
            code=Reason(f"{what}-unknown"),
            params={
                "what": what,
                "word": said[0][:SHOWN_WORD],
                "known": sorted(known),
                "default": default,
            },
        )
    )
    return default.strip().casefold(), tuple(reasons)
