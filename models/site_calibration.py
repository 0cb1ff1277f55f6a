"""Calibration of a network on tiles of one site's own slides: a scale and an offset per class.

It lies beside the weights and belongs to one set of them. `models.training.site_fit` makes it.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from models.errors import CalibrationError


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCalibration:
    """Affine change of a network's logits, fitted on labeled tiles of one site.

    Calibrated logits are ``scale * logits + offsets``, where `logits` are already divided by the
    temperature of the manifest; the softmax is taken afterwards. For two classes this is Platt
    scaling: a threshold and a temperature.

    Attributes
    ----------
    task, weights
        Task of the network, and the fingerprint (`ModelSpec.fingerprint`) of the weights that the
        calibration belongs to.
    scale, offsets
        Factor (> 0) of all logits, and a summand per class, in the order of the classes.
    tiles, patients
        Number of labeled tiles that it was fitted on, and of the patients that they are of.
    made
        Time of the fit, UTC, ISO 8601.
    figures
        Figures before and after on patients that the fit did not see; for people.

    Raises
    ------
    CalibrationError
        If a number is not finite, or the scale not positive.
    """

    task: str
    weights: str
    scale: float
    offsets: tuple[float, ...]
    tiles: int
    patients: int
    made: str
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise CalibrationError(f"scale {self.scale}: must be a positive number")
        if not self.offsets or not all(math.isfinite(value) for value in self.offsets):
            raise CalibrationError(f"offsets {self.offsets}: must be finite numbers")

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that an answer depends on: weights, scale and offsets."""
        facts = {"weights": self.weights, "scale": self.scale, "offsets": list(self.offsets)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Return the text of the file."""
        facts = asdict(self) | {"fingerprint": self.fingerprint}
        return json.dumps(facts, indent=2, sort_keys=True, allow_nan=False) + "\n"

    @classmethod
    def of_json(cls, text: str) -> SiteCalibration:
        """Read the text that `to_json` returned.

        Raises
        ------
        CalibrationError
            If it is not JSON, has unknown or missing keys or unusable values, or was changed by
            hand: its own fingerprint differs.
        """
        try:
            raw = json.loads(text)
            stated = raw.pop("fingerprint")
            found = cls(**raw | {"offsets": tuple(float(value) for value in raw["offsets"])})
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise CalibrationError(f"not a usable calibration ({err})") from err
        if found.fingerprint != stated:
            raise CalibrationError("its numbers are not those that were fitted")
        return found
