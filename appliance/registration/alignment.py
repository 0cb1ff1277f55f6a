"""Brings the H&E slide onto the IHC slide of the same block.

Serial sections lie differently on their slides and are stained differently. What both show is
tissue and nuclei: the red channel's optical density, because haematoxylin absorbs red in both
stains, eosin hardly does, and DAB does less. The whole section is placed first (`registration`);
pieces that lie elsewhere are placed on their own; then patches of fine structure bend each piece
into place (`displacement`), and those kept out of the fit say how well it lies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.errors import AlignmentError
from appliance.geometry import Affine
from appliance.registration.deformation import (
    FEWEST,
    Votes,
    agreeing,
    fitted,
    held_out_errors,
    vote,
)
from appliance.registration.mapping import Piece, SlideMapping
from appliance.registration.rigid import (
    NUCLEI_UM,
    Array,
    Picture,
    find_poses,
    pose_by_nuclei,
    refined,
)
from appliance.slides.overview import LONGEST_PX
from appliance.slides.tissue import Tissue

ALIGNMENT_MPP_RANGE = (1.0, 4.5)
"""Glands and single nuclei show at 4.5 µm, which every scanner's pyramid has nearly ready."""
WIDE_UM, WIDE_REACH_UM = 400.0, 260.0
"""First patches: as wide as a lobule, looked for as far as a bent section may be off."""
NARROW_UM, NARROW_REACH_UM = 280.0, 60.0
"""Second patches, at the full resolution."""
NUCLEI_PATCH_UM, NUCLEI_REACH_UM = 150.0, 15.0
"""Patches of a field that its nuclei alone could place."""
WIDE_MPP = 9.0
LEAST_PIECE_MM2 = 0.3
"""Smaller crumbs go with their nearest piece."""
JOIN_UM = 150.0
"""Tissue closer than this is one piece."""
PLACED = 0.25
"""Share of a piece's patches that must agree for the piece to count as found."""
UNKNOWN_ERROR_UM = 320.0
"""Reported where too few patches found their counterpart."""
LABELS_UM = 64.0
LIKENESS_UM = 12.0
SOLID_DENSITY = 0.3
"""Summed over red, green and blue: so dense is all that is tissue; lumens and clefts are less."""
METHOD = "similarity by mutual information; affine and displacement by patches"
METHOD_NUCLEI = "similarity by correlation of nuclei over all angles"
_DENSITY = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """`mapping` takes H&E µm to IHC µm. `error_um`: median distance, over patches that had no part
    in the fit, between where their structure is and where the fit puts it. `agreement`: share
    (0-1) of the patches of placed tissue that were found where their neighbours say. `overlap`:
    share of the H&E tissue that lies on IHC tissue. `lost_mm2`: H&E tissue without a place.
    `mirrored`: one section lies face down."""

    mapping: SlideMapping
    error_um: float
    overlap: float
    agreement: float
    lost_mm2: float = 0.0
    mirrored: bool = False
    method: str = METHOD

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


@dataclass(frozen=True, slots=True)
class _Placed:
    """A piece of tissue (`mask`, H&E px) and where it lies; none: the IHC slide has it nowhere."""

    mask: NDArray[np.bool_]
    piece: Piece | None
    votes: Votes

    @property
    def agreement(self) -> float:
        return len(self.votes) / max(1, self.votes.tried)


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
    """Align two overviews, uint8 RGB (rows, cols, 3) at `mpp`; tissue may be of another one.

    Raises
    ------
    AlignmentError
        If one slide has no tissue, or the two cannot be laid over each other at all.
    """
    moving, fixed = _picture(he, he_tissue, mpp), _picture(ihc, ihc_tissue, mpp)
    if not moving.mask.any() or not fixed.mask.any():
        raise AlignmentError("a slide without tissue cannot be aligned; look at the slide")
    size_um = _size_um(moving)
    placed = [_bent(moving, fixed, p) for p in _placed(moving, fixed, _pieces(moving))]
    method = METHOD
    if len(placed) == 1 and placed[0].agreement < PLACED:
        by_nuclei = _by_nuclei(moving, fixed)
        if by_nuclei is not None:
            placed, method = [by_nuclei], METHOD_NUCLEI
    found = [p for p in placed if p.piece is not None]
    if not found:
        raise AlignmentError("no position was found in which the slides overlap")
    errors = np.concatenate([held_out_errors(p.votes, size_um) for p in found])
    mapping = _mapping(placed, mpp)
    lost_px = sum(int(p.mask.sum()) for p in placed if p.piece is None)
    return Alignment(
        mapping=mapping,
        error_um=float(np.median(errors)) if len(errors) >= FEWEST else UNKNOWN_ERROR_UM,
        overlap=_overlap(mapping, moving, fixed),
        agreement=sum(len(p.votes) for p in found) / max(1, sum(p.votes.tried for p in found)),
        lost_mm2=lost_px * mpp**2 / 1e6,
        mirrored=mapping.main.mirrors,
        method=method,
    )


def _picture(image: NDArray[np.uint8], tissue: Tissue, mpp: float) -> Picture:
    """Both layers of an overview, uint8 RGB (rows, cols, 3) at `mpp`."""
    rows, columns = image.shape[:2]
    scale = mpp / tissue.mpp
    to_tissue = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    mask = cv2.warpAffine(tissue.mask.astype(np.uint8), to_tissue, (columns, rows), flags=flags) > 0
    red, green, blue = (
        np.maximum(_DENSITY[image[..., k]] - _DENSITY[tissue.white_rgb[k]], 0) for k in range(3)
    )
    there = np.clip((red + green + blue) / SOLID_DENSITY, 0, 1)
    seen = red[mask]
    top = float(np.quantile(seen[:: max(1, seen.size // 100_000)], 0.99)) if seen.size else 0.0
    layers: Array = np.dstack([np.clip(red / (top or 1.0), 0, 1), there]) * mask[..., None]
    return Picture(layers=layers.astype(np.float32), mask=mask, mpp=mpp)


def _size_um(picture: Picture) -> tuple[float, float]:
    rows, columns = picture.mask.shape
    return columns * picture.mpp, rows * picture.mpp


def _pieces(moving: Picture) -> list[NDArray[np.bool_]]:
    """The section's pieces, largest first; crumbs are part of their nearest piece."""
    step = max(1, round(JOIN_UM / 8 / moving.mpp))
    small = moving.shrunk(step)
    reach = max(1, round(JOIN_UM / 2 / small.mpp))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    joined = cv2.morphologyEx(small.mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(joined)
    area = np.bincount(labels[small.mask], minlength=count) * small.mpp**2 / 1e6
    order = [int(k) for k in np.argsort(-area) if k > 0]
    large = [k for k in order if area[k] >= LEAST_PIECE_MM2]
    if len(large) <= 1:
        return [moving.mask]
    nearest = _nearest([labels == k for k in large]).astype(np.uint8)
    rows, columns = moving.mask.shape
    fine = nearest.repeat(step, axis=0).repeat(step, axis=1)[:rows, :columns]
    return [moving.mask & (fine == k) for k in range(len(large))]


def _nearest(masks: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """Index of the mask nearest to each px."""
    distances = [cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3) for mask in masks]
    nearest: NDArray[np.int64] = np.argmin(distances, axis=0)
    return nearest


def _placed(moving: Picture, fixed: Picture, masks: list[NDArray[np.bool_]]) -> list[_Placed]:
    """Each piece where the section as a whole lies, else where it lies on its own."""
    step = max(1, round(WIDE_MPP / moving.mpp))
    pair = moving.shrunk(step), fixed.shrunk(step)
    small = [_shrunk(mask, step) for mask in masks]
    best = _best(*pair, small)
    placed = [p if p.agreement >= PLACED else replace(p, piece=None) for p in best]
    if not any(p.piece for p in placed):
        # Poor as it may be, it is the best there is, and its agreement says how poor.
        placed = best
    for k, lost in enumerate(placed):
        if lost.piece is None:
            alone = _best(pair[0].within(small[k]), pair[1], [small[k]])[0]
            if alone.agreement >= PLACED:
                placed[k] = alone
    return [replace(p, mask=mask) for p, mask in zip(placed, masks, strict=True)]


def _best(moving: Picture, fixed: Picture, masks: list[NDArray[np.bool_]]) -> list[_Placed]:
    """All pieces at the pose that patches and the picture as a whole bear out best."""
    best: list[_Placed] = []
    most = -np.inf
    for pose in find_poses(moving, fixed):
        votes = [_wide(moving, fixed, mask, Piece.rigid(pose)) for mask in masks]
        placed = [
            _Placed(mask, fitted(v, _size_um(moving)), v)
            for mask, v in zip(masks, votes, strict=True)
        ]
        agreement = sum(len(v) for v in votes) / max(1, sum(v.tried for v in votes))
        quality = agreement + _likeness(moving, fixed, pose)
        if quality > most:
            most, best = quality, placed
    return best


def _likeness(moving: Picture, fixed: Picture, pose: Affine) -> float:
    """Correlation coefficient over both tissues, smoothed to `LIKENESS_UM`."""
    rows, columns = moving.mask.shape
    sigma = max(0.5, LIKENESS_UM / moving.mpp)
    to_fixed = pose.to_raster(moving.mpp, fixed.mpp)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    a = cv2.GaussianBlur(moving.structure, (0, 0), sigma)
    b = cv2.GaussianBlur(
        cv2.warpAffine(fixed.structure, to_fixed, (columns, rows), flags=flags), (0, 0), sigma
    )
    both = (a > 0.02) | (b > 0.02)
    if both.sum() < 100 or not (b > 0.02).any():
        return -1.0
    return float(np.corrcoef(a[both], b[both])[0, 1])


def _wide(moving: Picture, fixed: Picture, mask: NDArray[np.bool_], piece: Piece) -> Votes:
    patch = min(WIDE_UM, _least_um(moving, fixed) / 2)
    reach = min(WIDE_REACH_UM, patch / 2)
    return agreeing(vote(moving, fixed, mask, piece, patch_um=patch, reach_um=reach))


def _bent(moving: Picture, fixed: Picture, placed: _Placed) -> _Placed:
    """The piece with its fine displacement."""
    if placed.piece is None:
        return placed
    piece = placed.piece
    if placed.votes.few:
        piece = Piece.rigid(refined(moving.within(placed.mask), fixed, piece.affine))
    patch = min(NARROW_UM, _least_um(moving, fixed) / 2)
    reach = min(NARROW_REACH_UM, patch / 3)
    votes = agreeing(vote(moving, fixed, placed.mask, piece, patch_um=patch, reach_um=reach))
    if len(votes) < 2 * FEWEST and not votes.few:
        return placed
    return replace(placed, piece=fitted(votes, _size_um(moving)), votes=votes)


def _by_nuclei(moving: Picture, fixed: Picture) -> _Placed | None:
    """All the tissue where its nuclei lie, if they say so clearly."""
    moving, fixed = (replace(picture, detail_um=NUCLEI_UM) for picture in (moving, fixed))
    pose = pose_by_nuclei(moving, fixed)
    if pose is None:
        return None
    patches = vote(
        moving,
        fixed,
        moving.mask,
        Piece.rigid(pose),
        patch_um=NUCLEI_PATCH_UM,
        reach_um=NUCLEI_REACH_UM,
        least_like=0.0,
    )
    votes = agreeing(patches)
    return _Placed(moving.mask, fitted(votes, _size_um(moving)), votes)


def _least_um(moving: Picture, fixed: Picture) -> float:
    least: int = min(*moving.mask.shape, *fixed.mask.shape)
    return least * moving.mpp


def _mapping(placed: list[_Placed], mpp: float) -> SlideMapping:
    step = max(1, round(LABELS_UM / mpp))
    nearest = _nearest([_shrunk(p.mask, step) for p in placed])
    numbers = np.cumsum([p.piece is not None for p in placed])
    table = np.array(
        [n if p.piece is not None else 0 for n, p in zip(numbers, placed, strict=True)]
    )
    return SlideMapping(
        pieces=tuple(p.piece for p in placed if p.piece is not None),
        labels=table[nearest].astype(np.uint8),
        labels_mpp=mpp * step,
    )


def _shrunk(mask: NDArray[np.bool_], step: int) -> NDArray[np.bool_]:
    layers = np.zeros((*mask.shape, 2), dtype=np.float32)
    return Picture(layers=layers, mask=mask, mpp=1.0).shrunk(step).mask


def _overlap(mapping: SlideMapping, moving: Picture, fixed: Picture) -> float:
    rows, columns = np.nonzero(moving.mask[::4, ::4])
    places = mapping.forward(np.stack([4 * columns + 0.5, 4 * rows + 0.5], axis=1) * moving.mpp)
    px = np.floor(np.nan_to_num(places, nan=-1.0) / fixed.mpp).astype(int)
    on = ((px >= 0) & (px < fixed.mask.shape[::-1])).all(axis=1)
    return float(fixed.mask[px[on, 1], px[on, 0]].sum()) / max(1, len(px))
