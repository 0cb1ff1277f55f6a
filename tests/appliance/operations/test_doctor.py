"""Doctor: the limit of free disk space is the setting's."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.operations.doctor import examine


@pytest.mark.parametrize(("limit_gib", "ok"), [(0, True), (1e9, False)])
def test_too_little_disk_is_trouble(tmp_path: Path, limit_gib: float, ok: bool) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f"state_dir = '{tmp_path}'\nlow_disk_gib = {limit_gib}\n")
    (found,) = [line for line in examine(config) if line.what == "state folder"]
    assert found.ok is ok
    assert ("make room" in found.text) is not ok
