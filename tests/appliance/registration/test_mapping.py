"""Properties of the mapping I: round trip, one to one, kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.geometry import Affine
from appliance.registration.mapping import LATTICE_UM, Piece, SlideMapping, gentle

SIZE_UM = 6000.0


def bent_piece(seed: int, degrees: float, strength_um: float, mirrored: bool) -> Piece:
    rng = np.random.default_rng(seed)
    nodes = int(SIZE_UM / LATTICE_UM) + 2
    lattice = (strength_um * rng.normal(size=(nodes, nodes, 2))).astype(np.float32)
    affine = Affine.rotation(degrees, (3000.0, 2500.0))
    if mirrored:
        affine = affine.after(Affine((-1.0, 0.0, 0.0, 1.0), (SIZE_UM, 0.0)))
    shift = rng.uniform(-4000, 4000, 2)
    affine = Affine((1.02, 0.01, -0.01, 0.98), (float(shift[0]), float(shift[1]))).after(affine)
    return Piece(affine=affine, lattice=gentle(lattice))


pieces = st.builds(
    bent_piece,
    st.integers(0, 2**16),
    st.floats(-180, 180),
    st.floats(0, 300),
    st.booleans(),
)


@settings(deadline=None, max_examples=50)
@given(pieces, st.integers(0, 2**16))
def test_there_and_back(piece: Piece, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(0, SIZE_UM, (200, 2))
    assert np.abs(piece.inverse(piece.forward(points)) - points).max() < 0.01
    assert np.abs(piece.forward(piece.inverse(points)) - points).max() < 0.01


@settings(deadline=None, max_examples=30)
@given(pieces, st.integers(0, 2**16))
def test_no_two_places_become_one(piece: Piece, seed: int) -> None:
    """Bijective: points apart on one slide are about as far apart on the other."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, SIZE_UM, (200, 2))
    others = points + rng.normal(0, 30, points.shape)
    before = np.linalg.norm(points - others, axis=1)
    after = np.linalg.norm(piece.forward(points) - piece.forward(others), axis=1)
    assert (after > 0.25 * before).all()


def in_two() -> SlideMapping:
    """Mapping with the left half 1 mm further right; the IHC slide lacks the right half."""
    labels = np.array([[1, 0]], dtype=np.uint8)
    piece = Piece.rigid(Affine((1.0, 0.0, 0.0, 1.0), (1000.0, 0.0)))
    return SlideMapping(pieces=(piece,), labels=labels, labels_mpp=3000.0)


def test_what_the_other_slide_lacks_has_no_place() -> None:
    mapping = in_two()
    there = mapping.forward(np.array([[100.0, 50.0], [3500.0, 50.0]]))
    assert there[0].tolist() == [1100.0, 50.0]
    assert np.isnan(there[1]).all()
    back = mapping.inverse(np.array([[1100.0, 50.0], [4500.0, 50.0]]))
    assert back[0].tolist() == [100.0, 50.0]
    assert np.isnan(back[1]).all()


def test_pieces_that_drifted_apart_go_their_own_ways_and_come_back() -> None:
    left = Piece.rigid(Affine((1.0, 0.0, 0.0, 1.0), (-500.0, 0.0)))
    right = Piece.rigid(Affine.rotation(20, (4500.0, 3000.0)))
    labels = np.array([[1, 2]], dtype=np.uint8)
    mapping = SlideMapping(pieces=(left, right), labels=labels, labels_mpp=3000.0)
    points = np.array([[200.0, 900.0], [4400.0, 2800.0], [5200.0, 3100.0]])
    there = mapping.forward(points)
    assert there[0].tolist() == [-300.0, 900.0]
    assert np.allclose(there[1:], right.affine.apply(points[1:]))
    assert np.allclose(mapping.inverse(there), points)


def test_disk_keeps_all_of_it(tmp_path: Path) -> None:
    mapping = SlideMapping(
        pieces=(bent_piece(1, 30, 100, False), bent_piece(2, 5, 0, True)),
        labels=np.array([[1, 2, 0]], dtype=np.uint8),
        labels_mpp=2000.0,
    )
    mapping.save(tmp_path / "mapping.npz")
    points = np.random.default_rng(0).uniform(0, SIZE_UM, (100, 2))
    again = SlideMapping.load(tmp_path / "mapping.npz")
    assert np.array_equal(again.forward(points), mapping.forward(points), equal_nan=True)
    assert again.main == mapping.main
