"""Attention of a hint as a raster: places in µm, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.findings.attention import ATTENTION_NAME, AttentionMap

PLACES = np.array([[1, 0], [3, 0], [0, 2]], dtype=np.int32)


def made() -> AttentionMap:
    share = np.array([0.2, 0.5, 0.3])
    return AttentionMap.of_tiles(PLACES, share, cell_um=100.0, slide="abc")


def test_heat_lies_in_the_cells_of_its_tiles() -> None:
    y_um, x_um = np.array([50.0, 99.0, 150.0, 250.0, 950.0]), np.array([1.0, 150.0, 399.0, 401.0])
    nan = np.nan
    wanted = [
        [nan, 0.4, 1.0, nan],
        [nan, 0.4, 1.0, nan],
        [nan, nan, nan, nan],
        [0.6, nan, nan, nan],
        [nan, nan, nan, nan],  # beyond the last tile
    ]
    np.testing.assert_allclose(made().heat_at(y_um, x_um), wanted, rtol=1e-6)


def test_a_map_is_read_as_it_was_written_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    assert AttentionMap.load(tmp_path) is None
    made().save(tmp_path)
    kept = AttentionMap.load(tmp_path)
    assert kept is not None and (kept.cell_um, kept.slide) == (100.0, "abc")
    np.testing.assert_array_equal(kept.share, made().share)
    assert np.nansum(kept.share) == pytest.approx(1)
    file = tmp_path / ATTENTION_NAME
    whole = file.read_bytes()
    central = whole.index(b"PK\x01\x02")  # flags at 8, method at 10
    damaged = [b"", whole[:100]]
    for place, bit in ((central + 8, 0x01), (central + 8, 0x20), (central + 10, 0x08)):
        flipped = bytearray(whole)
        flipped[place] ^= bit  # encrypted, patched, deflated
        damaged.append(bytes(flipped))
    for data in damaged:
        file.write_bytes(data)
        assert AttentionMap.load(tmp_path) is None
