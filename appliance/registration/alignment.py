"""Alignment of the H&E slide with an IHC slide of the same block.

The whole section is placed first (`rigid`), from the structure that both stains show (`picture`).
Pieces that lie elsewhere are placed on their own (`placing`). Patches of fine structure then bend
each piece into place (`deformation`); the patches kept out of the fit measure its error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.errors import AlignmentError
from appliance.registration.deformation import held_out_errors
from appliance.registration.likeness import likeness
from appliance.registration.mapping import SlideMapping
from appliance.registration.picture import Picture, picture_of, size_um
from appliance.registration.pieces import mapping_of, pieces_of
from appliance.registration.placing import PLACED, Placed, bend_all, place_by_nuclei, place_pieces
from appliance.registration.votes import FEWEST
from appliance.slides.overview import LONGEST_PX
from appliance.slides.tissue import Tissue

ALIGNMENT_MPP_RANGE = (1.0, 4.5)
"""Resolutions of alignment. At 4.5 µm glands and single nuclei show, and every scanner's pyramid
has a level near it."""
UNKNOWN_ERROR_UM = 320.0
"""Error that is reported where too few patches found their counterpart."""
METHOD = "similarity by mutual information; affine and displacement by patches"
METHOD_NUCLEI = "similarity by correlation of nuclei over all angles"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Mapping of H&E µm to IHC µm, and its quality.

    `error_um`: median distance, over patches that took no part in the fit, between the place of
    their structure and where the fit puts it. `agreement`: share (0-1) of the patches of placed
    tissue that were found where their neighbors indicate; tissue whose place the fine patches
    rejected counts as not found. `overlap`: share of the H&E tissue that lies on IHC tissue.
    `lost_mm2`: area of H&E tissue without a place. `mirrored`: one section, or a piece of it, lies
    face down. `likeness`: that of the pixels (`likeness.likeness`), near 1 for one section twice.
    `inside`: as `agreement`, without the outline of the tissue, where all pieces are so small that
    it may mislead; 1 where one is larger (`placing.OUTLINE_MM2`).
    """

    mapping: SlideMapping
    error_um: float
    overlap: float
    agreement: float
    lost_mm2: float = 0.0
    mirrored: bool = False
    method: str = METHOD
    likeness: float = 0.0
    inside: float = 1.0

    def save(self, folder: Path) -> None:
        """Write ``mapping.npz`` and ``alignment.json``."""
        self.mapping.save(folder / "mapping.npz")
        facts = {name: getattr(self, name) for name in self.__slots__ if name != "mapping"}
        (folder / "alignment.json").write_text(json.dumps(facts))

    @classmethod
    def load(cls, folder: Path) -> Alignment:
        """Read what `save` wrote."""
        facts = json.loads((folder / "alignment.json").read_text())
        return cls(mapping=SlideMapping.load(folder / "mapping.npz"), **facts)


def alignment_mpp(width_um: float, height_um: float) -> float:
    """Resolution at which slides of that size are aligned, µm per px."""
    low, high = ALIGNMENT_MPP_RANGE
    return min(max(max(width_um, height_um) / LONGEST_PX, low), high)


def align(
    he: NDArray[np.uint8],
    he_tissue: Tissue,
    ihc: NDArray[np.uint8],
    ihc_tissue: Tissue,
    mpp: float,
) -> Alignment:
    """Align two overviews, uint8 RGB (rows, cols, 3) at `mpp`; the tissue may have another mpp.

    Raises
    ------
    AlignmentError
        If one slide has no tissue, no pose makes the slides overlap, or the H&E slide has more
        pieces than `pieces.MOST_PIECES`.
    """
    moving, fixed = picture_of(he, he_tissue, mpp), picture_of(ihc, ihc_tissue, mpp)
    if not moving.mask.any() or not fixed.mask.any():
        raise AlignmentError("a slide without tissue cannot be aligned; look at the slide")
    placed = bend_all(moving, fixed, place_pieces(moving, fixed, pieces_of(moving)))
    method = METHOD
    if len(placed) == 1 and placed[0].agreement < PLACED:
        by_nuclei = place_by_nuclei(moving, fixed)
        if by_nuclei is not None:
            placed, method = [by_nuclei], METHOD_NUCLEI
    found = measured(placed, moving, fixed, method)
    return replace(found, likeness=likeness(he, ihc, moving.mask, found.mapping, mpp))


def measured(placed: list[Placed], moving: Picture, fixed: Picture, method: str) -> Alignment:
    """The alignment of placed pieces, with its measures of quality."""
    found = [p for p in placed if p.piece is not None]
    if not found:
        raise AlignmentError("no position was found in which the slides overlap")
    tried = sum(p.votes.tried for p in placed if p.piece is not None or p.refused)
    errors = np.concatenate([held_out_errors(p.votes, size_um(moving)) for p in found])
    mapping = mapping_of([p.part for p in placed], [p.piece for p in placed], moving.mpp)
    lost_px = sum(int(p.part.inside.sum()) for p in placed if p.piece is None)
    return Alignment(
        mapping=mapping,
        error_um=float(np.median(errors)) if len(errors) >= FEWEST else UNKNOWN_ERROR_UM,
        overlap=_overlap(mapping, moving, fixed),
        agreement=sum(len(p.votes) for p in found) / max(1, tried),
        lost_mm2=lost_px * moving.mpp**2 / 1e6,
        mirrored=any(piece.affine.mirrors for piece in mapping.pieces),
        method=method,
        inside=max(p.inside for p in found),
    )


def _overlap(mapping: SlideMapping, moving: Picture, fixed: Picture) -> float:
    """Share (0-1) of the H&E tissue that the mapping takes onto IHC tissue."""
    rows, columns = np.nonzero(moving.mask[::4, ::4])
    places = mapping.forward(np.stack([4 * columns + 0.5, 4 * rows + 0.5], axis=1) * moving.mpp)
    px = np.floor(np.nan_to_num(places, nan=-1.0) / fixed.mpp).astype(int)
    on = ((px >= 0) & (px < fixed.mask.shape[::-1])).all(axis=1)
    return float(fixed.mask[px[on, 1], px[on, 0]].sum()) / max(1, len(px))
