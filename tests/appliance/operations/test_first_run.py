"""The first look at a site: a folder, its names, and settings that load."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.operations import first_run
from appliance.operations.first_run import first_settings, pacs_section, see_folder
from appliance.settings.destinations import FolderDestination
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings


def test_a_folder_is_counted_and_its_names_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "2026").mkdir()
    for name in ("S26-0000001_A1_HER2.svs", "2026/S26-0000001_A1_HE.svs", "label.svs", "a.czi"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no slide")
    seen = see_folder(f" {tmp_path} ", Settings())
    assert (seen.trouble, seen.slides, seen.counted_all) == ("", 3, True)
    assert seen.formats == {".czi": 1}
    outcomes = {Path(entry["path"]).name: entry["outcome"] for entry in seen.tried}
    assert outcomes["S26-0000001_A1_HER2.svs"] == "identified"
    assert outcomes["label.svs"] == "unidentified"
    monkeypatch.setattr(first_run, "MOST_COUNTED", 2)
    monkeypatch.setattr(first_run, "MOST_TRIED", 1)
    some = see_folder(str(tmp_path), Settings())
    assert (some.slides, some.counted_all, len(some.tried)) == (2, False, 1)
    assert "whole path" in see_folder("scans", Settings()).trouble
    assert "No such file" in see_folder(str(tmp_path / "nothing"), Settings()).trouble
    assert "whole path" in see_folder("/a\0b", Settings()).trouble


def test_the_settings_load_with_the_sites_values(tmp_path: Path) -> None:
    pacs = pacs_section("pacs.lab", 11112, "PACS", "TANDEM")
    config = tmp_path / "tandem.toml"
    config.write_text(first_settings('/mnt/a "b"', "/var/lib/tandem", "Lab Ä", pacs))
    loaded = load_settings(config)
    assert loaded.destinations == (pacs,) and loaded.organization == "Lab Ä"
    assert loaded.watch.folder == Path('/mnt/a "b"')
    config.write_text(first_settings("/mnt/a", "/var/lib/tandem", "", None))
    assert load_settings(config).destinations == (FolderDestination(),)
    for folder, name in (("mnt", ""), ("/mnt", "a\\b"), ("/mnt\n", "")):
        with pytest.raises(SettingsError):
            first_settings(folder, "/var/lib/tandem", name, None)
    with pytest.raises(SettingsError, match="host"):
        pacs_section(" ", 104, "PACS", "TANDEM")
    with pytest.raises(SettingsError, match="called_aet"):
        pacs_section("x", 104, "", "TANDEM")
