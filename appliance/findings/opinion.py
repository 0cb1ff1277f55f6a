"""Opinion: the answer of one reader on a case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

About = Literal["tumor", "score", "interim", "status"]
"""Question that an opinion answers.

``tumor``: where the tumor is. ``score``: the score of the target slide. ``interim``: a hint before
the target slide is there, never a score. ``status``: positive or negative.
"""


OF_ANATOMY: tuple[About, ...] = ("tumor", "interim")
"""Questions whose answer is of the anatomy slide; the others are of the target slide."""
NOT_CALIBRATED = "not calibrated for this site"
NOT_JUDGED = "not judged"
NOTHING_JUDGED = "nothing to judge"
"""Words for the opinion of a reader that saw nothing to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReference:
    """Calibration of the site, made on `tiles` labeled tiles of `patients` patients.

    `fingerprint` is the hex SHA-256 of all that an answer depends on.
    """

    fingerprint: str
    tiles: int
    patients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReference:
    """Weights that gave an answer.

    `fingerprint` covers the manifest and `calibration`, the site's; None where there was none.
    `on_real` is what the network did on real images, in the manifest's words; empty where nobody
    looked.
    """

    task: str
    name: str
    version: str
    sha256: str
    fingerprint: str = ""
    calibration: CalibrationReference | None = None
    on_real: str = ""

    @property
    def real_words(self) -> str:
        """Words for reports on what the network did on real images."""
        return self.on_real or NOT_JUDGED

    @property
    def calibration_words(self) -> str:
        """Words for reports on the site's calibration, or that there was none."""
        made = self.calibration
        if made is None:
            return NOT_CALIBRATED
        return (
            f"calibrated for this site by {made.tiles} tiles of {made.patients} patients "
            f"({made.fingerprint[:12]}…)"
        )

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> ModelReference:
        """Read the facts that ``asdict`` gives; those of earlier builds lack the last two."""
        made = raw.get("calibration")
        return cls(
            **dict(raw) | {"calibration": None if made is None else CalibrationReference(**made)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Answer of one reader on a case.

    Attributes
    ----------
    reader, version
        Name and version under which the reader is registered.
    about
        Question that it answers.
    weights
        Weights that were used; None for a reader without a network.
    classes, probabilities
        Names of the classes and a share or probability (0-1) of each; they sum to 1, or are all 0
        where the reader saw nothing to judge.
    certainty
        Mean certainty (0-1) of the reader in its own answers; None where it states none.
    raster
        Field of `Rasters` that holds the answer place by place; empty for none.
    """

    reader: str
    version: int
    about: About
    weights: ModelReference | None
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    certainty: float | None = None
    raster: str = ""

    @property
    def said(self) -> str:
        """Class with the largest share or probability; empty where nothing was judged."""
        if not any(self.probabilities):
            return ""
        return max(zip(self.probabilities, self.classes, strict=True))[1]

    @property
    def words(self) -> str:
        """Words for reports: that class with its share."""
        share = f"{100 * max(self.probabilities, default=0):.0f} %"
        return f"{self.said} ({share})" if self.said else NOTHING_JUDGED

    def as_json(self) -> dict[str, Any]:
        """Facts ready for JSON."""
        return asdict(self) | {
            "classes": list(self.classes),
            "probabilities": list(self.probabilities),
        }

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Opinion:
        """Read `as_json`.

        A reader that is not installed here needs no class of its own: its opinion is facts alone.
        """
        weights = raw["weights"]
        return cls(
            **dict(raw)
            | {
                "weights": None if weights is None else ModelReference.of_json(weights),
                "classes": tuple(raw["classes"]),
                "probabilities": tuple(float(p) for p in raw["probabilities"]),
            }
        )


def shares(counts: Mapping[str, float]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Classes and their shares (0-1) of the sum of `counts`; all 0 where the sum is 0."""
    total = float(sum(counts.values()))
    return tuple(counts), tuple(float(n) / total if total > 0 else 0.0 for n in counts.values())
