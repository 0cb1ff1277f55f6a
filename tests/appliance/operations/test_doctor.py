"""Doctor: the limit of free disk space is the setting's; the watched folders are told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fixtures.daemon import TANDEM, tandem
from fixtures.oidc import oidc_provider

from appliance.intake.scan import FolderScan
from appliance.ledger.daily import backup_ledger
from appliance.ledger.ledger import Ledger
from appliance.operations.doctor import Examined, examine
from appliance.operations.scanner_folders import folder_lines
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings


@pytest.mark.parametrize(("limit_gib", "ok"), [(0, True), (1e9, False)])
def test_too_little_disk_is_trouble(tmp_path: Path, limit_gib: float, ok: bool) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f"state_dir = '{tmp_path}'\nlow_disk_gib = {limit_gib}\n")
    (found,) = [line for line in examine(config) if line.what == "state folder"]
    assert found.ok is ok
    assert ("make room" in found.text) is not ok


def test_a_check_that_fails_in_its_own_way_hides_no_other(tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f"state_dir = '{tmp_path}'\n[orders]\ncsv = \"/a\\u0000b\"\n")
    done = tandem("doctor", "--config", config, check=False)
    assert done.returncode == 1 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert "TROUBLE orders.csv: embedded null byte" in lines
    assert lines[-1].startswith("ok      destination archive")


def test_the_watched_folders_and_formats_are_told(tmp_path: Path) -> None:
    scans, state = tmp_path / "scans", tmp_path / "state"
    scans.mkdir()
    (scans / "a.isyntax").touch()
    (scans / "b.CZI").touch()
    config = tmp_path / "tandem.toml"
    config.write_text(
        f"state_dir = '{state}'\n[watch]\nfolder = '{scans}'\nfolders = ['{tmp_path / 'none'}']\n"
    )

    def told() -> Examined:
        return next(line for line in examine(config) if line.what == "scanner's folder")

    away = f"{tmp_path / 'none'} is not there. Create it, or mount it."
    assert not told().ok and told().text == away
    (tmp_path / "none").mkdir()
    settings = load_settings(config)
    ledger = Ledger(settings.ledger_url)
    FolderScan(ledger, settings.watch, state).run()
    line = "2 files of formats that cannot be read here: .czi 1, .isyntax 1."
    assert told().ok and told().text == f"{scans}, {tmp_path / 'none'} (read); {line}"
    assert tandem("status", "--config", config).stdout.splitlines()[-1] == line
    (tmp_path / "none").rmdir()
    FolderScan(ledger, settings.watch, state).run()
    ledger.close()
    assert folder_lines(settings) == [away, line]


def as_another_user(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command without the rights of root, who does not own the state folder."""
    less = ("--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")
    command = ["setpriv", *less, str(TANDEM), *(str(each) for each in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)
def test_another_user_gets_one_line_and_the_doctor_all_of_its_own(tmp_path: Path) -> None:
    config, state = tmp_path / "tandem.toml", tmp_path / "state"
    config.write_text(f"state_dir = '{state}'\n")
    Ledger(load_settings(config).ledger_url).close()
    state.chmod(0o700)
    os.chown(state, 65534, 65534)
    done = as_another_user("status", "--config", config)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {state}/ledger.sqlite: Permission denied. Run this as the service's user: sudo -u "
        "tandem tandem …\n"
    )
    told = as_another_user("doctor", "--config", config)
    assert told.returncode == 1 and told.stderr == ""
    lines = told.stdout.splitlines()
    (daemon,) = [line for line in lines if line.startswith("TROUBLE daemon:")]
    assert "Permission denied" in daemon
    assert lines[0].startswith("ok      settings") and any("patients" in line for line in lines)


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv"
)
def test_an_archive_that_another_user_made_is_trouble(tmp_path: Path) -> None:
    config, archive = tmp_path / "tandem.toml", tmp_path / "state" / "archive"
    config.write_text(f"state_dir = '{tmp_path / 'state'}'\n")
    archive.mkdir(parents=True, mode=0o700)
    os.chown(archive, 65534, 65534)
    told = as_another_user("doctor", "--config", config).stdout.splitlines()[-1]
    assert told.startswith("TROUBLE destination archive") and "cannot be written" in told


@pytest.mark.parametrize("linked", ["", "archive", "artifacts", "artifacts/wsm", "backups"])
def test_a_link_whose_disk_is_away_is_trouble(tmp_path: Path, linked: str) -> None:
    config, state = tmp_path / "tandem.toml", tmp_path / "state"
    config.write_text(f"state_dir = '{state}'\n")
    link = state / linked
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "nas" / "tandem")
    told = f"{link} links to {tmp_path}/nas/tandem, which is not there"
    assert any(told in line.text for line in examine(config) if not line.ok)
    if linked in ("", "archive"):
        (line,) = [each for each in examine(config) if each.what == "destination archive"]
        assert not line.ok and told in line.text
    assert not (tmp_path / "nas").exists()


def test_before_the_first_start_nothing_is_made(tmp_path: Path) -> None:
    config, state = tmp_path / "tandem.toml", tmp_path / "var" / "state"
    config.write_text(f"state_dir = '{state}'\n")
    found = {line.what: line for line in examine(config)}
    assert found["state folder"].text == f"{state}: none yet, tandem run makes it"
    assert found["state folder"].ok and found["destination archive"].ok
    assert not state.parent.exists()


def test_the_provider_of_the_sign_in_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    with oidc_provider() as provider:
        config.write_text(
            f"state_dir = '{tmp_path / 'state'}'\n[dashboard]\nlogin = 'always'\n[dashboard.oidc]\n"
            f"issuer = '{provider.issuer}'\nclient_id = 'tandem'\nroles = {{staff = 'viewer'}}\n"
        )

        def told() -> Examined:
            return next(line for line in examine(config) if line.what == "dashboard.oidc")

        assert told() == Examined("dashboard.oidc", True, f"{provider.issuer} answers, with 3 keys")
        provider.published = {"keys": []}
        assert not told().ok and "has no key" in told().text
        provider.issuer += "/"
        assert not told().ok and "calls itself another name" in told().text
    assert not told().ok and "cannot be asked" in told().text


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


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("none", "archive may take all"),
        ("stand-in", "a stand-in Patient ID"),
        ("hold", "set aside"),
    ],
)
def test_slides_without_patient_are_told(tmp_path: Path, value: str, says: str) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f"state_dir = '{tmp_path}'\n[identify]\nwithout_patient = '{value}'\n")
    (line,) = [line for line in examine(config) if line.what == "patients"]
    assert line.ok and says in line.text


def test_a_state_folder_that_others_can_enter_is_told(tmp_path: Path) -> None:
    config, state = tmp_path / "tandem.toml", tmp_path / "state"
    config.write_text(f"state_dir = '{state}'\n")

    def line() -> Examined:
        (found,) = [line for line in examine(config) if line.what == "rights"]
        return found

    state.mkdir()
    for mode, ok in ((0o755, False), (0o750, False), (0o700, True)):
        state.chmod(mode)
        assert (line().ok, f"chmod -R go= {state}" in line().text) == (ok, not ok)


def test_a_gpu_that_hangs_is_one_failed_line_of_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nexec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("appliance.operations.doctor.NVIDIA_SECONDS", 0.2)
    config = tmp_path / "tandem.toml"
    config.write_text(f"state_dir = '{tmp_path}'\n")
    lines = examine(config)
    device = next(line for line in lines if line.what == "device")
    assert not device.ok and "nvidia-smi does not answer" in device.text
    assert lines[-1].what != "device"  # it goes on
