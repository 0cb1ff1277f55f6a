"""Picture of what spoke for the class that the second reader gave the whole target slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appliance.delivery.pictures.attention import STRONGEST
from appliance.delivery.pictures.case import PicturedCase
from appliance.errors import SettingsError
from appliance.readers.low_resolution import LowResolutionReader, heat_on, low_resolution_weights
from appliance.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class SecondView:
    """Class of the second reader, and its heat on the overview, 0-1 (rows, columns)."""

    word: str
    heat: NDArray[np.float32]


def second_view(
    case: PicturedCase, overview: NDArray[np.uint8], settings: Settings
) -> SecondView | None:
    """Return the view of the target slide's overview; None where the second reader said nothing, or
    its network has no such map.

    Raises
    ------
    SettingsError
        If other weights are in use now.
    WeightsError, models.errors.ManifestError
        If the weights cannot be used.
    """
    opinion = next(
        (o for o in case.findings.opinions if o.reader == LowResolutionReader.name), None
    )
    if opinion is None or opinion.weights is None or not any(opinion.probabilities):
        return None
    known = low_resolution_weights(settings)
    now = None if known is None else known[1]
    if now is None or now.fingerprint != opinion.weights.fingerprint:
        raise SettingsError(
            f"{case.name} was read by other weights of the second reader ({opinion.weights.name}) "
            f"than those in use ({'none' if now is None else now.name}). Name those in "
            "models.low_resolution, or have it read again (tandem rerun, tandem process); "
            "--no-attention leaves heat maps out."
        )
    number = int(np.argmax(opinion.probabilities))
    heat = heat_on(overview, number, settings)
    if heat is None:
        return None
    high = float(np.percentile(heat[heat > 0], STRONGEST)) if (heat > 0).any() else 1.0
    return SecondView(opinion.classes[number], np.clip(heat / high, 0, 1).astype(np.float32))
