"""Doctor: the limit of free disk space is the setting's."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.operations.doctor import Examined, examine
from appliance.settings.settings import Settings


@pytest.mark.parametrize(("limit_gib", "ok"), [(0, True), (1e9, False)])
def test_too_little_disk_is_trouble(tmp_path: Path, limit_gib: float, ok: bool) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f"state_dir = '{tmp_path}'\nlow_disk_gib = {limit_gib}\n")
    (found,) = [line for line in examine(config) if line.what == "state folder"]
    assert found.ok is ok
    assert ("make room" in found.text) is not ok


def test_the_ledger_and_its_backup_are_told(tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    settings = Settings(state_dir=tmp_path / "state")
    config.write_text(f"state_dir = '{settings.state_dir}'\n")

    def line() -> Examined:
        (found,) = [line for line in examine(config) if line.what == "ledger"]
        return found

    assert (line().ok, line().text) == (True, "none yet: tandem run makes it")
    assert not settings.ledger_file.exists()
    Ledger(settings.ledger_url).close()
    assert line().text == "0 cases, no backup yet"
    made = backup_ledger(settings)
    assert made.made in line().text
    settings.ledger_file.write_bytes(b"")
    assert (line().ok, "tandem ledger restore" in line().text) == (False, True)
