"""Commands of root on the state folder of a service that runs as another user."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from fixtures.daemon import tandem
from typer.testing import CliRunner

from appliance.cli import options
from appliance.cli.main import app
from appliance.errors import SettingsError
from appliance.ledger.ledger import Ledger
from appliance.settings import owner
from appliance.settings.settings import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
USER = 65534


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings file of a state folder with a ledger; both are another user's."""
    settings = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        tx.add_slide("/scans/a.svs", now=1.0)
    ledger.close()
    settings.state_dir.chmod(0o700)
    for path in (settings.state_dir, *settings.state_dir.iterdir()):
        os.chown(path, USER, USER)
    found = tmp_path / "tandem.toml"
    found.write_text(f'state_dir = "{settings.state_dir}"\n')
    return found


def owners(folder: Path) -> set[int]:
    """Users whose files lie in a folder."""
    return {path.stat().st_uid for path in (folder, *folder.rglob("*"))}


def test_root_is_told_whose_the_folder_is(config: Path) -> None:
    state = config.parent / "state"
    done = tandem("ledger", "backup", "--config", config, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: {state} is not root's" in done.stderr
    assert "sudo -u nobody tandem …" in done.stderr
    assert not (state / "backups").exists()


@pytest.mark.parametrize(
    "command",
    [
        "users add anna --role admin --password-stdin",
        "ledger backup",
        "ledger restore",
        "upgrade",
        "identify exclude slide-1 --by Ito^Bert --why label",
        "confirm case-1 --by Ito^Bert",
        "retain",
        "run",
        "weights use tumor reference",
        "calibrate --task tumor --remove",
    ],
)
def test_root_writes_nothing_that_the_service_cannot_read(config: Path, command: str) -> None:
    words = [*command.split(), "--config", str(config)]
    done = CliRunner().invoke(app, words, input="a long password 1\n")
    assert isinstance(done.exception, SettingsError) and "is not root's" in str(done.exception)
    assert owners(config.parent / "state") == {USER}


@pytest.mark.parametrize(
    "command",
    ["status", "metrics", "alerts", "config check", "doctor", "ledger verify", "upgrade --check"],
)
def test_root_may_read(config: Path, command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--config", str(config)])
    assert not isinstance(done.exception, SettingsError)
    assert owners(config.parent / "state") == {USER}


def test_the_doctor_says_that_root_asked_and_makes_no_folder(config: Path) -> None:
    (config.parent / "tandem-scans").mkdir()
    config.write_text(f"{config.read_text()}[watch]\nfolder = '{config.parent}/tandem-scans'\n")
    done = CliRunner().invoke(app, ["doctor", "--config", str(config)])
    assert "user: warning: these checks ran as root" in done.output
    assert "sudo -u nobody tandem doctor" in done.output
    assert not (config.parent / "state" / "archive").exists()


def test_where_all_is_roots_root_may_write(config: Path) -> None:
    """Root owns the ledger in a container, also in a folder that the host gave to somebody."""
    state = config.parent / "state"
    os.chown(state / "ledger.sqlite", 0, 0)
    assert CliRunner().invoke(app, ["ledger", "backup", "--config", str(config)]).exit_code == 0
    assert list((state / "backups").glob("*.sqlite"))


@pytest.mark.parametrize("there", [True, False])
def test_root_may_begin_in_a_container_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """The folder is empty, and the host gave it to somebody."""
    mark = tmp_path / "mark"
    if there:
        mark.touch()
    monkeypatch.setattr(owner, "CONTAINER_MARKS", (str(mark),))
    settings = Settings(state_dir=tmp_path / "state")
    settings.state_dir.mkdir()
    os.chown(settings.state_dir, USER, USER)
    with nullcontext() if there else pytest.raises(SettingsError, match="is not root's"):
        options.refuse_root(settings)
