"""The deformation of a piece: an affine map and a smooth displacement, fitted to votes of patches.

Half of the patches take no part in a fit; they measure its error.
"""

from __future__ import annotations

import numpy as np

from appliance.registration.mapping import LATTICE_UM, Piece, Points, gentle
from appliance.registration.votes import (
    FEWEST,
    ON_A_LINE,
    Votes,
    across_um,
    common_affine,
    distances,
)

SMOOTHING = 1.0
"""Smoothing of the splines: votes are wrong by some µm."""


def fitted(votes: Votes, size_um: tuple[float, float]) -> Piece:
    """The piece that takes `votes` to their places; `size_um` is that of the H&E slide.

    Where votes are few the piece stays at its start pose; they only measure.
    """
    if votes.few or len(votes) < FEWEST:
        return Piece.rigid(votes.start)
    affine, _ = common_affine(votes)
    if affine is None:
        return Piece.rigid(votes.start)
    piece = Piece.rigid(affine)
    if len(votes) < 2 * FEWEST:
        return piece
    places, rest = votes.he_um, votes.ihc_um - affine.apply(votes.he_um)
    across, spread = across_um(places)
    if spread < ON_A_LINE * votes.reach_um:
        # A spline needs places off the line, and there is nothing better than the line's own.
        aside = across * LATTICE_UM / 2
        places, rest = np.concatenate([places - aside, places + aside]), np.tile(rest, (2, 1))
    columns, rows = (int(np.ceil(s / LATTICE_UM)) + 2 for s in size_um)
    x, y = np.meshgrid(np.arange(columns) * LATTICE_UM, np.arange(rows) * LATTICE_UM)
    nodes = np.stack([x.ravel(), y.ravel()], axis=1)
    # Away from the tissue take the displacement of the nearest votes: splines would diverge.
    from scipy.interpolate import RBFInterpolator  # slow to load; the daemon does not need them
    from scipy.spatial import cKDTree

    far = np.asarray(cKDTree(places).query(nodes)[0])
    spline = RBFInterpolator(
        places / LATTICE_UM,
        rest,
        neighbors=min(40, len(places)),
        smoothing=SMOOTHING,
        kernel="thin_plate_spline",
        degree=1,
    )
    within = far < 2 * LATTICE_UM
    values = np.zeros((len(nodes), 2))
    values[within] = spline(nodes[within] / LATTICE_UM)
    if (~within).any() and within.any():
        nearest = cKDTree(nodes[within]).query(nodes[~within])[1]
        values[~within] = values[within][nearest]
    lattice = gentle(values.reshape(rows, columns, 2).astype(np.float32))
    return Piece(affine=affine, lattice=lattice)


def held_out_errors(votes: Votes, size_um: tuple[float, float]) -> Points:
    """Distances (µm) of the odd patches from where a fit to the even ones puts them, and of the
    even from a fit to the odd ones."""
    if votes.few:
        return distances(votes.ihc_um, votes.start.apply(votes.he_um))
    errors = []
    for half in (votes.odd, ~votes.odd):
        if half.sum() < 3 or (~half).sum() < FEWEST:
            continue
        piece = fitted(votes.where(~half), size_um)
        errors.append(distances(piece.forward(votes.he_um[half]), votes.ihc_um[half]))
    return np.concatenate(errors) if errors else np.zeros(0)
