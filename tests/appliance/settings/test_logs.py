"""Form and levels of the log, in this process and in a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from appliance.settings.logs import LogSettings
from appliance.settings.settings import Settings

SAID = """
import logging, sys
from appliance.settings.logs import Logging, configure_logging
configure_logging(Logging(**eval(sys.argv[1])))
logging.getLogger("appliance.line").info("slide-%d is read", 3)
logging.getLogger("appliance.delivery.outbox").debug("details")
logging.getLogger("pydicom").warning("S26-1_A1_HER2.dcm: odd value")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("models").exception("it\\nfailed")
"""


def logged(**wanted: object) -> list[str]:
    """Lines on standard error of a process that logs as wanted."""
    done = subprocess.run(
        [sys.executable, "-c", SAID, repr(wanted)], capture_output=True, text=True, check=True
    )
    return done.stderr.splitlines()


def test_json_is_one_object_per_line() -> None:
    lines = [json.loads(line) for line in logged(format="json")]
    assert [line["message"] for line in lines] == ["slide-3 is read", "it\nfailed"]
    assert lines[0]["level"] == "INFO" and lines[0]["logger"] == "appliance.line"
    assert lines[0]["time"].endswith("Z") and lines[0]["process"] > 0
    assert "ZeroDivisionError" in lines[1]["exc_info"]


def test_a_part_has_a_level_of_its_own() -> None:
    lines = logged(level="ERROR", levels={"appliance.delivery": "DEBUG"})
    assert sum("details" in line for line in lines) == 1
    assert not any("slide-3" in line or "S26-1" in line for line in lines)


@pytest.mark.parametrize("name", ["pynetdicom", "appliance.", "appliance.line;x", ""])
def test_only_tandems_own_parts_have_levels(name: str) -> None:
    with pytest.raises(ValidationError):
        LogSettings(levels={name: "DEBUG"})


def test_the_settings_file_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_LOGS__FORMAT", "json")
    settings = Settings(logs={"levels": {"appliance.line": "DEBUG"}}, state_dir=tmp_path)
    assert settings.logging.levels == {"appliance.line": "DEBUG"}
    assert settings.logging.format == "json"
