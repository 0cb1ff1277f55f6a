"""The salt of an installation: drawn once, equal for all, and kept with the backups."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.settings.installation import SALT_NAME, installation_salt
from appliance.settings.settings import Settings


def test_the_salt_is_drawn_once_and_differs_between_installations(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        salts = set(pool.map(installation_salt, [tmp_path / "one"] * 32))
    (salt,) = salts
    assert len(salt) == 64
    assert installation_salt(tmp_path / "one") == salt
    assert installation_salt(tmp_path / "two") != salt
    assert [path.name for path in (tmp_path / "one").iterdir()] == [SALT_NAME]


def test_a_backup_of_the_ledger_brings_the_salt_along(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    Ledger(settings.ledger_url).close()
    salt = installation_salt(settings.state_dir)
    backup_ledger(settings)
    (settings.state_dir / SALT_NAME).unlink()
    assert installation_salt(settings.state_dir) == salt


@pytest.mark.parametrize("content", ["", "abc", "g" * 64, "\xff"])
def test_a_damaged_salt_is_told_and_not_drawn_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / SALT_NAME).write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match="not the salt of an installation"):
        installation_salt(tmp_path)
