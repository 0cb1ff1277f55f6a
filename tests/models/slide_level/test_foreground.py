"""Foreground of overviews that were not scanned everywhere."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from fixtures.painted_slides import paint_slides

from models.errors import DataSetError
from models.slide_level.foreground import foreground, read_section
from models.slide_level.unscanned import on_glass


def test_what_is_transparent_is_glass(tmp_path: Path) -> None:
    """Slide libraries give unscanned areas as transparent black."""
    slide = paint_slides(tmp_path, 4)[3]
    scanned = cv2.imread(str(slide.overview))
    rgba = np.zeros((140, 200, 4), dtype=np.uint8)
    rgba[20:116, 40:160, :3] = scanned
    rgba[20:116, 40:160, 3] = 255
    cv2.imwrite(str(tmp_path / "rgba.png"), rgba)
    found = read_section(tmp_path / "rgba.png", 64).astype(int)
    expected = read_section(slide.overview, 64)
    assert np.abs(found - expected).mean() < 4
    assert (found.max(axis=2) < 40).sum() == 0


def test_an_overview_that_was_scanned_everywhere_is_left_as_it_is() -> None:
    """The weights that ship learned from such overviews."""
    rng = np.random.default_rng(1)
    overview = rng.normal(240, 1.5, (300, 400, 3)).clip(0, 255).astype(np.uint8)
    cv2.ellipse(overview, (200, 150), (120, 90), 0, 0, 360, (120, 75, 50), -1)
    cv2.line(overview, (150, 60), (260, 90), (10, 10, 10), 12)  # pen, away from the edge
    assert on_glass(overview) is overview
    assert foreground(overview)[150, 200]


def test_a_jpeg_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    """OpenCV fills what is missing with gray."""
    rng = np.random.default_rng(1)
    seen = rng.integers(60, 250, (96, 128, 3)).astype(np.uint8)
    thumbnail = cv2.imencode(".jpg", seen[::4, ::4])[1].tobytes()
    exif = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    data = cv2.imencode(".jpg", seen)[1].tobytes()
    data = data[:2] + exif + data[2:]
    path = tmp_path / "whole.jpg"
    path.write_bytes(data + b"what some programs add")
    read_section(path, 64)
    for name, whole in (
        ("end", data[:-2]),
        ("more", data + b"\xff\xda\0\1"),
        ("zeros", data + bytes(99)),
    ):
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(whole)  # no end, as of some encoders, or more behind it
        read_section(path, 64)
    for length in (len(data) // 2 + len(exif) // 2, len(data) - 200):
        path = tmp_path / f"cut-{length}.jpg"
        path.write_bytes(data[:length])
        with pytest.raises(DataSetError, match="not a readable picture"):
            read_section(path, 64)
