"""Placing of the pieces of an H&E section on the IHC slide, coarse to fine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from appliance.geometry import TILE_UM, Affine
from appliance.registration.deformation import fitted
from appliance.registration.mapping import Piece
from appliance.registration.patches import vote
from appliance.registration.picture import Picture, shortest_um, size_um
from appliance.registration.pieces import Part
from appliance.registration.rigid import find_poses, refined
from appliance.registration.rotation_search import pose_by_nuclei, shows_nuclei
from appliance.registration.strays import (
    lies_elsewhere,
    near,
    share_a_place,
    split,
    torn_regions,
)
from appliance.registration.votes import FEWEST, Votes, agreeing, fitting_start

WIDE_UM, WIDE_REACH_UM = 400.0, 260.0
"""Size and search radius of the first patches: the width of a lobule, the shift of a bent
section."""
NARROW_UM, NARROW_REACH_UM = 280.0, 60.0
"""Size and search radius of the second patches, at full resolution."""
NUCLEI_UM = 0.8
"""Width of a nucleus's rim and of chromatin, which the next section shows only in part."""
NUCLEI_PATCH_UM, NUCLEI_REACH_UM = 150.0, 15.0
"""Size and search radius of patches of a field that was placed by its nuclei alone."""
WIDE_MPP = 9.0
PLACED = 0.25
"""Share of a piece's patches that must agree for the piece to count as found."""
SURE = 0.5
"""Share of the fine patches of a small piece that must agree, where other pieces are found too; and
of those compared without the outline, for slides of small tissue alone to be surely of one block
(`docs/alignment.md`)."""
INSIDE = 0.25
"""Share of the patches of a piece of up to `OUTLINE_MM2` that must agree without the outline, where
other pieces are found too: a round crumb has the outline of a round core of control tissue."""
OUTLINE_MM2 = 8.0
"""Area of a piece up to which its outline may make a quarter of its patches agree."""
MOST_SEARCHED = 4
"""Torn regions of a slide that are searched for; each takes some seconds."""
LIKENESS_UM = 12.0
"""Smoothing of the pictures whose correlation ranks poses."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece of tissue (`part`, H&E px) and its place; `piece` None: the IHC slide lacks it."""

    part: Part
    piece: Piece | None
    votes: Votes
    inside: float = 1.0
    """Share (0-1) of the patches that agree where the outline is not compared; 1 for a piece of
    more than `OUTLINE_MM2`."""
    refused: bool = False
    """Coarse patches side by side gave it a place, and the fine ones rejected it."""

    @property
    def agreement(self) -> float:
        """Share (0-1) of the patches that agree."""
        return len(self.votes) / max(1, self.votes.tried)


def place_pieces(moving: Picture, fixed: Picture, parts: list[Part]) -> list[Placed]:
    """Place each piece where the section as a whole lies, else where it lies on its own."""
    step = max(1, round(WIDE_MPP / moving.mpp))
    pair = moving.shrunk(step), fixed.shrunk(step)
    small = [part.shrunk(step) for part in parts]
    best = _best(*pair, small)
    placed = [p if p.agreement >= PLACED else replace(p, piece=None) for p in best]
    if not any(p.piece for p in placed):
        # Keep the best pose there is; its agreement reports how poor it is.
        placed = best
    for k, lost in enumerate(placed):
        if lost.piece is None:
            alone = _alone(*pair, small[k])
            if alone.agreement >= PLACED:
                placed[k] = alone
    return [replace(p, part=part) for p, part in zip(placed, parts, strict=True)]


def bend_all(moving: Picture, fixed: Picture, placed: list[Placed]) -> list[Placed]:
    """The pieces with their fine displacement; those that it does not find are given up.

    A quarter of the fine patches has to agree, and a quarter without the outline, unless no piece
    would be left. Patches of a small piece overlap, so that a quarter of them may agree at a wrong
    place by chance: half of them have to. Parts of a found piece that are found elsewhere become
    pieces of their own (`strays`).
    """
    done, sure = [], []
    for coarse in placed:
        bent, ok = _bent(moving, fixed, coarse)
        done.append(bent)
        sure.append(ok)
    found = any(sure)
    if not found:
        # The larger pieces stay where they are; their agreement reports how poor that is.
        sure = [p.refused for p in done]
    if not any(sure):
        return done
    done = [p if ok else replace(p, piece=None) for p, ok in zip(done, sure, strict=True)]
    if not found:
        return done
    return _without_strays(moving, fixed, done, [p.votes for p in placed])


def _bent(moving: Picture, fixed: Picture, coarse: Placed) -> tuple[Placed, bool]:
    """A piece with its fine displacement, and whether the fine patches found it."""
    if coarse.piece is None:
        return coarse, False
    votes, inside = _fine(moving, fixed, coarse, coarse.piece)
    # A piece with too few patches for a displacement stays where it was placed.
    bends = votes.few or len(votes) >= 2 * FEWEST
    piece = fitted(votes, size_um(moving)) if bends else coarse.piece
    # Coarse patches lie at the rim of a piece of 2 to 3 mm: its outline alone makes them agree.
    least = SURE if coarse.votes.few else PLACED
    sure = len(votes) >= least * max(1, votes.tried) and inside >= INSIDE
    refused = not sure and not coarse.votes.few
    return replace(coarse, piece=piece, votes=votes, inside=inside, refused=refused), sure


def _without_strays(
    moving: Picture, fixed: Picture, placed: list[Placed], coarse: list[Votes]
) -> list[Placed]:
    """The pieces without their parts that are found elsewhere, and these parts; the largest first.

    A torn region is searched for on its own, as a lost piece is. One that is not found stays with
    its piece: in sections of different depth many patches find nothing where the map is right. So
    does one that is found on the place of other tissue, such as its like on the block's next level.
    """
    done = [[each] for each in placed]
    searched = 0
    for group, wide in zip(done, coarse, strict=True):
        for region in _torn(moving, group[0], wide):
            if searched == MOST_SEARCHED:
                break
            searched += 1
            remaining, lost = _apart(group[0], region, moving)
            found = _elsewhere(moving, fixed, lost)
            if found.piece is None or group[0].piece is None:
                continue
            beside = [other for other in done if other is not group]
            others = _places([remaining, *group[1:]]) + _beside(moving, group[0], beside)
            if lies_elsewhere(moving, region, group[0].piece, found.piece, others, TILE_UM):
                group[:] = [remaining, *group[1:], found]
    return sorted(chain(*done), key=lambda each: -int(each.part.inside.sum()))


def _beside(moving: Picture, own: Placed, groups: list[list[Placed]]) -> list[tuple[Part, Piece]]:
    """The places of other pieces with their torn parts; without those that share the place of
    `own`, such as a level of the block that the IHC slide does not show on its own."""
    found = []
    for group in groups:
        places = _places(group)
        if not share_a_place(moving, _places([own]), places[:1]):
            found += places
    return found


def _places(placed: list[Placed]) -> list[tuple[Part, Piece]]:
    return [(each.part, each.piece) for each in placed if each.piece is not None]


def _torn(moving: Picture, placed: Placed, coarse: Votes) -> list[NDArray[np.bool_]]:
    """The masks of the torn regions of a piece; one too small for patches side by side has none."""
    if placed.votes.few or placed.piece is None:
        return []
    return torn_regions(moving, placed.part, placed.votes, near(coarse, placed.piece))


def _apart(placed: Placed, away: NDArray[np.bool_], moving: Picture) -> tuple[Placed, Placed]:
    """A piece without the part `away`, fitted to its own votes; and that part, without a place."""
    rest, lost = split(placed.votes, away, moving.mpp)
    piece = fitted(rest, size_um(moving)) if len(rest) >= 2 * FEWEST else placed.piece
    return (
        replace(placed, part=Part.of(placed.part.mask() & ~away), piece=piece, votes=rest),
        Placed(Part.of(away), None, lost, refused=True),
    )


def _elsewhere(moving: Picture, fixed: Picture, lost: Placed) -> Placed:
    """The part with the place that is found for it alone, or as it is."""
    step = max(1, round(WIDE_MPP / moving.mpp))
    alone = _alone(moving.shrunk(step), fixed.shrunk(step), lost.part.shrunk(step))
    if alone.agreement < PLACED:
        return lost
    bent, sure = _bent(moving, fixed, replace(alone, part=lost.part))
    return bent if sure else lost


def _alone(moving: Picture, fixed: Picture, part: Part) -> Placed:
    return _best(moving.within(part.mask()), fixed, [part])[0]


def _fine(moving: Picture, fixed: Picture, placed: Placed, piece: Piece) -> tuple[Votes, float]:
    """The fine patches of a piece that agree, and the share without its outline (`inside`)."""
    mask = placed.part.mask()
    outlined = mask.sum() * moving.mpp**2 / 1e6 <= OUTLINE_MM2
    if placed.votes.few:
        piece = Piece.rigid(refined(moving.within(mask), fixed, piece.affine))
    patch, reach = _narrow(moving, fixed)
    both = [
        agreeing(vote(moving, fixed, mask, piece, patch_um=patch, reach_um=reach, inner=inner))
        for inner in ((False, True) if outlined else (False,))
    ]
    inside = len(both[1]) / max(1, both[1].tried) if outlined else 1.0
    return both[0], inside


def _narrow(moving: Picture, fixed: Picture) -> tuple[float, float]:
    """Size and search radius of the fine patches, µm."""
    patch = min(NARROW_UM, shortest_um(moving, fixed) / 2)
    return patch, min(NARROW_REACH_UM, patch / 3)


def place_by_nuclei(moving: Picture, fixed: Picture) -> Placed | None:
    """All the tissue placed by its nuclei; None where their correlation is not clear.

    Pictures that lie on each other already need no search: if they do, patches stay where they are.
    By chance one in twenty does.
    """
    if not shows_nuclei(moving, fixed):
        return None
    moving, fixed = (replace(picture, detail_um=NUCLEI_UM) for picture in (moving, fixed))
    votes = fitting_start(_nuclei(moving, fixed, Affine.identity()))
    if len(votes) < max(FEWEST, PLACED * votes.tried):
        pose = pose_by_nuclei(moving, fixed)
        if pose is None:
            return None
        votes = agreeing(_nuclei(moving, fixed, pose))
    return Placed(Part.of(moving.mask), fitted(votes, size_um(moving)), votes)


def _nuclei(moving: Picture, fixed: Picture, pose: Affine) -> Votes:
    return vote(
        moving,
        fixed,
        moving.mask,
        Piece.rigid(pose),
        patch_um=NUCLEI_PATCH_UM,
        reach_um=NUCLEI_REACH_UM,
        least_like=0.0,
    )


def _best(moving: Picture, fixed: Picture, parts: list[Part]) -> list[Placed]:
    """All pieces at the pose that patches and the whole picture support best."""
    best: list[Placed] = []
    most = -np.inf
    for pose in find_poses(moving, fixed):
        votes = [_wide(moving, fixed, part.mask(), Piece.rigid(pose)) for part in parts]
        placed = [
            Placed(part, fitted(v, size_um(moving)), v)
            for part, v in zip(parts, votes, strict=True)
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
    patch = min(WIDE_UM, shortest_um(moving, fixed) / 2)
    reach = min(WIDE_REACH_UM, patch / 2)
    return agreeing(vote(moving, fixed, mask, piece, patch_um=patch, reach_um=reach))
