"""The mapping I of arXiv 2512.22335 (Eq. 3-4) between two sections without a common index.

Sections lie differently on their slides and are bent, torn and in pieces. The mapping takes each
piece of H&E tissue to its place on the IHC slide, and back, by an affine map and a smooth
displacement. Tissue whose counterpart the IHC slide lacks has no place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.geometry import Affine

LATTICE_UM = 400.0
"""Spacing of the stored displacements on the H&E slide; they are linear between."""
STEEPEST = 0.4
"""Largest slope of the displacement (µm per µm): the map stays one to one."""
ROUNDS = 24
"""Iterations of the inverse; each removes more than half of the remaining error."""

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """The place of one piece: ``ihc_um = affine(he_um) + displacement(he_um)``.

    `lattice` is float32 (rows, columns, 2): displacement (x, y) in µm of the IHC slide, at the H&E
    places (column, row) · `LATTICE_UM`.
    """

    affine: Affine
    lattice: NDArray[np.float32]

    @classmethod
    def rigid(cls, affine: Affine) -> Piece:
        """A piece without displacement."""
        return cls(affine=affine, lattice=np.zeros((2, 2, 2), dtype=np.float32))

    def forward(self, he_um: Points) -> Points:
        """IHC µm (n, 2) of H&E µm (n, 2)."""
        placed: Points = self.affine.apply(he_um) + self._displacement(he_um)
        return placed

    def inverse(self, ihc_um: Points) -> Points:
        """H&E µm (n, 2) of IHC µm (n, 2)."""
        back = self.affine.inverse()
        found = back.apply(ihc_um)
        if self.lattice.any():
            for _ in range(ROUNDS):
                found = back.apply(ihc_um - self._displacement(found))
        return found

    def _displacement(self, he_um: Points) -> Points:
        return _bilinear(self.lattice, he_um / LATTICE_UM)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideMapping:
    """The pieces of a section, and the piece of each place.

    The first piece is the largest. `labels` is uint8 (rows, columns) at `labels_mpp` over the H&E
    slide: the number of the nearest piece, counted from 1, and 0 nearest to tissue that the IHC
    slide lacks.
    """

    pieces: tuple[Piece, ...]
    labels: NDArray[np.uint8]
    labels_mpp: float

    @classmethod
    def of(cls, affine: Affine) -> SlideMapping:
        """The mapping of one piece without displacement."""
        labels = np.ones((1, 1), dtype=np.uint8)
        return cls(pieces=(Piece.rigid(affine),), labels=labels, labels_mpp=1.0)

    @property
    def main(self) -> Affine:
        """Affine part of the largest piece; `labels` would count the glass around each, too."""
        return self.pieces[0].affine

    def forward(self, he_um: Points) -> Points:
        """IHC µm (n, 2) of H&E µm (n, 2); NaN where the IHC slide has no such tissue."""
        placed = np.full(he_um.shape, np.nan)
        label = self.piece_at(he_um)
        for number, piece in enumerate(self.pieces, start=1):
            mine = label == number
            if mine.any():
                placed[mine] = piece.forward(he_um[mine])
        return placed

    def inverse(self, ihc_um: Points) -> Points:
        """H&E µm (n, 2) of IHC µm (n, 2); NaN where no piece lies.

        Where two pieces overlap on the IHC slide, the one with the lower number is returned.
        """
        found = np.full(ihc_um.shape, np.nan)
        for number, piece in reversed(list(enumerate(self.pieces, start=1))):
            back = piece.inverse(ihc_um)
            mine = self.piece_at(back) == number
            found[mine] = back[mine]
        return found

    def save(self, path: Path) -> None:
        """Write an ``.npz``."""
        arrays: dict[str, Any] = {f"lattice_{k}": p.lattice for k, p in enumerate(self.pieces)}
        arrays |= {
            "matrices": np.array([p.affine.matrix for p in self.pieces], dtype=np.float64),
            "shifts_um": np.array([p.affine.shift_um for p in self.pieces], dtype=np.float64),
            "labels": self.labels,
            "labels_mpp": self.labels_mpp,
        }
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> SlideMapping:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as raw:
            pieces = []
            for k, (matrix, shift) in enumerate(
                zip(raw["matrices"], raw["shifts_um"], strict=True)
            ):
                shift = raw["shifts_um"][k].tolist()
                affine = Affine(tuple(matrix), tuple(shift))
                pieces.append(Piece(affine=affine, lattice=raw[f"lattice_{k}"]))
            return cls(
                pieces=tuple(pieces), labels=raw["labels"], labels_mpp=float(raw["labels_mpp"])
            )

    def piece_at(self, he_um: Points) -> NDArray[np.uint8]:
        """Number of the piece at each place, as `labels`; outside the slide that of its edge."""
        rows, columns = self.labels.shape
        place = np.floor(he_um / self.labels_mpp)
        column = np.clip(place[:, 0], 0, columns - 1).astype(int)
        row = np.clip(place[:, 1], 0, rows - 1).astype(int)
        label: NDArray[np.uint8] = self.labels[row, column]
        return label


def gentle(lattice: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lattice, scaled down until no displacement changes faster than `STEEPEST`."""
    steps = [np.abs(np.diff(lattice, axis=axis)) for axis in (0, 1) if lattice.shape[axis] > 1]
    steepest = max((float(s.max()) for s in steps), default=0.0) / LATTICE_UM
    # Both axes and both components may add up.
    limit = STEEPEST / 2
    weakened: NDArray[np.float32] = lattice * np.float32(min(1.0, limit / max(steepest, 1e-9)))
    return weakened


def _bilinear(lattice: NDArray[np.float32], place: Points) -> Points:
    """Values at fractional (column, row); outside the lattice those of its edge.

    OpenCV's remap would round places to 1/32 px, which is 12 µm here.
    """
    rows, columns = lattice.shape[:2]
    x = np.clip(place[:, 0], 0, columns - 1)
    y = np.clip(place[:, 1], 0, rows - 1)
    left, top = np.minimum(x.astype(int), columns - 2), np.minimum(y.astype(int), rows - 2)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    values: Points = (
        lattice[top, left] * (1 - fx) * (1 - fy)
        + lattice[top, left + 1] * fx * (1 - fy)
        + lattice[top + 1, left] * (1 - fx) * fy
        + lattice[top + 1, left + 1] * fx * fy
    )
    return values
