"""The assays of this installation, as the pairing of slides needs them."""

from __future__ import annotations

from appliance.domain import HE, HER2, Pairing
from appliance.settings.settings import Settings


def pairings(settings: Settings) -> tuple[Pairing, ...]:
    """Return the pairings of all installed assays, the site's main assay first."""
    del settings  # every installation has HER2
    return (Pairing(assay="her2", anatomy=HE, target=HER2, expected=True),)
