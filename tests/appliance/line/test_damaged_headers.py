"""A DICOM header that says no place on the glass sets the slide aside with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.line.analyze_slide import identify_slide
from appliance.settings.settings import Settings

DIRECTIONS = b"0.0\\-1.0\\0.0\\-1.0\\0.0\\0.0 "


@pytest.mark.parametrize(
    ("stated", "damaged"),
    [
        (DIRECTIONS, b"\xff.0" + DIRECTIONS[3:]),
        (DIRECTIONS, b"nan" + DIRECTIONS[3:]),
        (DIRECTIONS, b"0.0\\-1.0\\0.0\\-1.0\\0.0 0.0 "),
        (DIRECTIONS, b"0.0\\-1.0\\0.0\\-1.0\\0.000000"),
        (b"23.449873", b"23.44\xef\xbf\xbd3"),
        (b"23.449873", b"infinity "),
    ],
)
def test_a_place_that_is_not_of_numbers(
    real: Path, tmp_path: Path, stated: bytes, damaged: bytes
) -> None:
    data = (real / "slides" / "sm_image.dcm").read_bytes()
    assert stated in data and len(stated) == len(damaged)
    path = tmp_path / "S26-1_A1_HE.dcm"
    path.write_bytes(data.replace(stated, damaged))
    with pytest.raises(SlideError) as told:
        identify_slide(path, Settings(state_dir=tmp_path / "state"))
    assert told.value.reason is QuarantineReason.MISSING_TAGS
