"""Measurements of a case of a nuclear receptor: outputs of the steps to tiles, nuclei, controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from appliance.assays.assay import StepOutputs
from appliance.assays.nuclear.scores import DIGITS, interval
from appliance.findings.classes import CLASS_NAMES, NUCLEAR_CLASSES
from appliance.findings.measured import AnnotatedTile, ControlFacts, TileFinding
from appliance.geometry import TILE_UM, TileIndex
from appliance.readers.control import judge_control
from appliance.readers.nuclei import NucleiReading
from appliance.readers.tumor import TumorReading
from appliance.settings.nuclear import Nuclear

PROOF_NUCLEI, PROOF_PERCENT = 5, 0.2
"""Least number of stained nuclei, and least share of the nuclei of the same place, that show that
the slide is stained for nuclei. Single ones may be pigment, or membranes on top of each other.
Tumor, tissue outside it, both together and control tissue count each by itself: a large negative
tumor has so many nuclei that the stained ones elsewhere are hardly a share of all, and of a small
biopsy neither place may have enough."""
WIDE_PERCENT = 45.0
"""Least share of the brown px near nuclei that lie in pieces as wide as a nucleus. Fields of drawn
ER slides with most nuclei positive have 61 % and more, those of drawn HER2 slides 37 % and
less."""
MOST_PIGMENT = 0.5
"""Share of the stained nuclei of a place that look like pigment from which all of them may be. The
signs of pigment are seen on most of it, and on few of the nuclei that took the stain."""
LEAST_BROWN = 0.02
"""Least brown px, per px of nuclei, from which their place counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Measurements of a case.

    `tiles` have a tumor partner, `annotated` have none. `nuclei` int64 (4,): tumor nuclei per
    class. `unscored` counts tumor tiles without a partner, or with one that the file does not give.
    `outside`, `control_nuclei`: nuclei per class on tissue outside the tumor, and on control
    tissue. `wide_percent` (0-100): share of the brown px near nuclei in pieces as wide as a
    nucleus; None where hardly any px is brown.
    `unseen_percent` (0-100): share of the scored tiles on which no blue nucleus stands out.
    `blurred_percent`: of those that are out of focus. `pigment`, `outside_pigment` and
    `control_pigment` are the stained nuclei of each place whose brown looks like pigment.
    """

    tiles: tuple[TileFinding, ...]
    annotated: tuple[AnnotatedTile, ...]
    nuclei: NDArray[np.int64]
    unscored: int
    outside: tuple[int, ...]
    control: ControlFacts | None
    control_nuclei: tuple[int, ...]
    wide_percent: float | None
    unseen_percent: float = 0.0
    blurred_percent: float = 0.0
    pigment: int = 0
    outside_pigment: int = 0
    control_pigment: int = 0

    @property
    def percent(self) -> tuple[float, ...]:
        """Share (0-100) of the tumor nuclei in each class; zeros without nuclei."""
        total = max(1, int(self.nuclei.sum()))
        return tuple((100.0 * self.nuclei / total).tolist())

    @property
    def tumor_area_mm2(self) -> float:
        """Area of the scored tiles in mm²."""
        return len(self.tiles) * TILE_UM**2 / 1e6

    @property
    def unscored_percent(self) -> float:
        """Share (0-100) of the tumor tiles that are not scored."""
        return 100 * self.unscored / max(1, self.unscored + len(self.tiles))

    @property
    def least_positive_percent(self) -> float:
        """Percentage (0-100) of positive tumor nuclei without those that may be pigment."""
        nuclei = self.nuclei.tolist()
        percent: float = 100 * _without_pigment(nuclei, self.pigment) / max(1, sum(nuclei))
        return round(percent, DIGITS)

    @property
    def stained_outside(self) -> int:
        """Stained nuclei outside the tumor."""
        return sum(self.outside[1:])

    @property
    def is_nuclear(self) -> bool:
        """Return whether the brown, where there is some, has the width of nuclei."""
        return _is_wide(self.wide_percent)

    @property
    def is_proven(self) -> bool:
        """Return whether something on the slide shows that it is stained for nuclei."""
        return any(_shows_stain(*place) for place in self._places())

    @property
    def is_hardly_proven(self) -> bool:
        """Return whether nuclei outside the tumor alone show the stain, and may be pigment.

        So few of many may be drawn where the share of such places is below `PROOF_PERCENT`.
        """
        outside, *others = self._places()
        if any(_shows_stain(*place) for place in others) or not _shows_stain(*outside):
            return False
        return interval(*outside)[0] < PROOF_PERCENT

    @property
    def is_proven_by_pigment(self) -> bool:
        """Return whether nothing would show the stain without the nuclei that may be pigment."""
        without = self._places(pigment=False)
        return self.is_proven and not any(_shows_stain(*place) for place in without)

    def _places(self, *, pigment: bool = True) -> list[tuple[int, int]]:
        """Stained nuclei and all of each place, the one outside the tumor first."""
        counted = (
            (self.outside, self.outside_pigment),
            (self.nuclei.tolist(), self.pigment),
            (self.control_nuclei, self.control_pigment),
        )
        outside, tumor, control = (
            (sum(each[1:]) if pigment else _without_pigment(each, marked), sum(each))
            for each, marked in counted
        )
        together = [(tumor[0] + outside[0], tumor[1] + outside[1])] if tumor[0] else []
        return [outside, tumor, control, *together]


def _without_pigment(counts: Sequence[int], pigment: int) -> int:
    """Stained nuclei of a place without those that may be pigment: all where half look like it."""
    stained = sum(counts[1:])
    return 0 if pigment >= MOST_PIGMENT * stained else stained - pigment


def _shows_stain(stained: int, nuclei: int) -> bool:
    return stained >= max(PROOF_NUCLEI, PROOF_PERCENT / 100 * nuclei)


def measure(outputs: StepOutputs, settings: Nuclear) -> Measured:
    """Measure a case; the readings of C and of the reader of nuclei must be there."""
    tumor = outputs.reading("tumor", TumorReading)
    found = outputs.reading("nuclei", NucleiReading)
    # A tile at the rim of the section may hold control tissue, too, which is never scored.
    judged = found.judged & ~found.on_control
    seen = [_seen(number, found) for number in range(len(judged))]
    tiles = tuple(
        _scored(tile, outputs, tumor) for tile, scored in zip(seen, judged, strict=True) if scored
    )
    plan = outputs.plan
    control_nuclei = _nuclei_of_control(found)
    return Measured(
        tiles=tiles,
        annotated=tuple(t for t, scored in zip(seen, judged, strict=True) if not scored),
        nuclei=found.counts[judged].sum(axis=0),
        unscored=len(plan.unscored_he) + len(plan.ihc_tiles) - len(tiles),
        outside=found.outside.counts,
        control=_control(found, control_nuclei, settings),
        control_nuclei=tuple(control_nuclei.sum(axis=0).tolist()),
        wide_percent=_wide(found, judged),
        unseen_percent=_percent_of(found.unseen[judged]),
        blurred_percent=_percent_of(found.blurred[judged]),
        pigment=int(found.pigment[judged].sum()),
        outside_pigment=found.outside.pigment,
        control_pigment=int(found.control_pigment.sum()),
    )


def _percent_of(tiles: NDArray[np.bool_]) -> float:
    return 100 * float(tiles.mean()) if tiles.size else 0.0


def _seen(number: int, found: NucleiReading) -> AnnotatedTile:
    """Tile with its nuclei, in the fields that L and M fill of a HER2 tile.

    `percent` is the share of the tile's px in nuclei of each class, `intensity` the average
    intensity of positive nuclei, and `intensity_probability` the share (0-1) of nuclei that are
    positive. `grade` and `label` are negative, or that intensity where half of the nuclei are
    positive.
    """
    column, row = found.places[number].tolist()
    counts, px = found.counts[number], found.label_px[number]
    stained, total = int(counts[1:].sum()), int(counts.sum())
    mean = round(float(np.arange(4) @ counts) / max(1, stained))
    grade = mean if 2 * stained >= total else 0
    return AnnotatedTile(
        column=column,
        row=row,
        intensity=mean,
        intensity_probability=stained / max(1, total),
        percent=tuple((100.0 * px[1:] / px.sum()).tolist()),
        grade=grade,
        label=NUCLEAR_CLASSES[grade],
    )


def _scored(tile: AnnotatedTile, outputs: StepOutputs, tumor: TumorReading) -> TileFinding:
    partner = outputs.plan.partner[TileIndex(tile.column, tile.row)]
    return TileFinding(
        **asdict(tile),
        he_column=partner.column,
        he_row=partner.row,
        tumor_probability=float(tumor.probability[partner.row, partner.column]),
    )


def _nuclei_of_control(found: NucleiReading) -> NDArray[np.int64]:
    """Nuclei per class of each tile of control tissue, int64 (n, 4).

    All are negative where the brown is not as wide as nuclei: of the control of a HER2 slide, which
    may be strong beside a tumor of 0, membranes on top of each other pass for every fifth nucleus.
    """
    nuclei = found.control_nuclei.copy()
    px = sum(sum(tile[1:]) for tile in found.control.counts)
    brown, wide = found.control_brown_px.sum(axis=0).tolist()
    if not _is_wide(_wide_percent(brown, wide, px)):
        nuclei[:, 0] = nuclei.sum(axis=1)
        nuclei[:, 1:] = 0
    return nuclei


def _control(
    found: NucleiReading, nuclei: NDArray[np.int64], settings: Nuclear
) -> ControlFacts | None:
    """Control tissue by its nuclei, in the words of nuclear classes."""
    # A tile without nuclei is an unstained one, as of other assays: its px stand for them.
    px = (sum(tile) for tile in found.control.counts)
    counts = [
        np.array([0 if tile.any() else area, *tile], dtype=np.int64)
        for tile, area in zip(nuclei, px, strict=True)
    ]
    names = dict(zip(CLASS_NAMES, NUCLEAR_CLASSES, strict=True))
    expected = NUCLEAR_CLASSES.index(settings.control_strongest)
    facts = judge_control(found.control.area_mm2, counts, expected, least=PROOF_NUCLEI)
    if facts is None:
        return None
    return replace(
        facts,
        strongest=names[facts.strongest],
        percent={names[name]: share for name, share in facts.percent.items()},
    )


def _wide(found: NucleiReading, judged: NDArray[np.bool_]) -> float | None:
    px = found.brown_px[judged].sum(axis=0)
    brown = int(px[0]) + found.outside.brown_px
    wide = int(px[1]) + found.outside.wide_px
    return _wide_percent(brown, wide, int(found.label_px[judged][:, 1:].sum()))


def _wide_percent(brown_px: int, wide_px: int, nuclei_px: int) -> float | None:
    """Share (0-100) of brown px in pieces as wide as a nucleus; None where hardly any is brown."""
    return None if brown_px < LEAST_BROWN * max(1, nuclei_px) else 100.0 * wide_px / brown_px


def _is_wide(percent: float | None) -> bool:
    """Return whether brown, where there is some, has the width of nuclei."""
    return percent is None or percent >= WIDE_PERCENT
