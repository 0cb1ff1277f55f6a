"""Sidecars: what a person wrote beside a slide."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SlideError
from appliance.intake.identify import Sidecar, read_sidecar, sidecar_path


def test_sidecar_is_the_last_word(tmp_path: Path) -> None:
    slide = tmp_path / "anything.svs"
    (tmp_path / "anything.tandem.toml").write_text(
        'accession = "S24-3"\nblock = "C1"\nstain = "HER2"\nmpp = 0.25\n'
    )
    sidecar = read_sidecar(slide)
    assert (sidecar.accession, sidecar.block, sidecar.stain) == ("S24-3", "C1", "HER2")
    assert sidecar.mpp == 0.25
    (tmp_path / "anything.tandem.toml").write_text("mmp = 0.25\n")
    with pytest.raises(SlideError, match=r"anything\.tandem\.toml"):
        read_sidecar(slide)


@pytest.mark.parametrize("suffix", [".svs", ".mrxs", ".dcm"])
def test_a_name_that_leaves_no_room_for_a_sidecar_has_none(tmp_path: Path, suffix: str) -> None:
    slide = tmp_path / ("x" * (255 - len(suffix)) + suffix)
    slide.touch()
    assert read_sidecar(slide) == Sidecar()


def test_a_huge_sidecar_is_refused_and_not_read(tmp_path: Path) -> None:
    slide = tmp_path / "S26-1_A1_HE.svs"
    with sidecar_path(slide).open("wb") as stream:
        stream.truncate(300 << 20)
    with pytest.raises(SlideError, match="larger than any sidecar"):
        read_sidecar(slide)
