"""Secrets: who may read them, where they are read, and that they are never shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import typer
from pydantic import SecretStr

from appliance.cli.main import app
from appliance.delivery.destinations.network import web_address
from appliance.errors import SettingsError
from appliance.operations.start_checks import check_start
from appliance.settings.destinations import DestinationSection, DicomWebDestination
from appliance.settings.secrets import check_settings_file, credential_name, printable
from appliance.settings.settings import Settings


class Lis(DestinationSection):
    """Section of a site's own destination."""

    kind: Literal["lis"] = "lis"
    name: str = "lis"
    pin: SecretStr = SecretStr("")
    password: str = ""


@pytest.mark.parametrize(
    ("section", "written"),
    [
        (Lis(pin=SecretStr("4711")), 'pin = "4711"'),
        (Lis(password="4711"), 'password = "4711"'),  # noqa: S106  what the test is about
    ],
)
def test_a_file_with_a_secret_must_be_its_owners(
    tmp_path: Path, section: Lis, written: str
) -> None:
    file = tmp_path / "tandem.toml"
    file.write_text(f'[[destinations]]\nkind = "lis"\n{written}\n')
    settings = Settings(destinations=(section,))
    for mode, refused in ((0o644, True), (0o604, True), (0o640, False), (0o600, False)):
        file.chmod(mode)
        if refused:
            with pytest.raises(SettingsError, match=f"chmod 600 {file}") as caught:
                check_settings_file(file, settings)
            assert "4711" not in str(caught.value)
        else:
            check_settings_file(file, settings)
    file.chmod(0o644)
    file.write_text('[[destinations]]\nkind = "lis"\n')  # the secret is the environment's
    check_settings_file(file, settings)


def test_settings_are_printed_without_secrets() -> None:
    settings = Settings(
        destinations=(
            Lis(pin=SecretStr("4711"), password="4712"),  # noqa: S106
            DicomWebDestination(kind="dicomweb", url="https://p", secret_env="TOKEN"),  # noqa: S106
        )
    )
    text = json.dumps(printable(settings))
    assert "4711" not in text and "4712" not in text
    assert '"secret_env": "TOKEN"' in text  # the name of a variable is no secret


def test_a_secret_that_others_can_read_ends_the_start(tmp_path: Path) -> None:
    token, scans = tmp_path / "token", tmp_path / "scans"
    scans.mkdir()
    token.write_text("4711")
    token.chmod(0o644)
    web = DicomWebDestination(kind="dicomweb", url="https://pacs", secret_file=token)
    settings = Settings.model_validate(
        {"state_dir": tmp_path / "state", "watch": {"folder": scans}, "destinations": (web,)}
    )
    with pytest.raises(SettingsError, match=f"chmod 600 {token}") as caught:
        check_start(settings)
    assert "4711" not in str(caught.value)
    token.chmod(0o640)
    check_start(settings)


def test_the_credential_takes_the_place_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = DicomWebDestination(kind="dicomweb", url="https://p", secret_file=Path("/etc/t/a token"))

    def read() -> str:
        secret = web_address(web, web.url).secret
        assert secret is not None
        return secret.read()

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / credential_name(Path("/etc/t/a token"))).write_text("4711\n")
    assert read() == "4711"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(Exception, match="no secret in /etc/t/a token"):
        read()


def options(command: object, path: str = "tandem") -> Iterator[tuple[str, str]]:
    """Yield the commands' options that take a value: the command, and the option's name."""
    for each in getattr(command, "params", ()):
        if not getattr(each, "is_flag", False):
            yield from ((path, name) for name in each.opts)
    for name, each in getattr(command, "commands", {}).items():
        yield from options(each, f"{path} {name}")


def test_no_option_takes_a_secret() -> None:
    """What stands in a command line is seen by every user of the machine (ps)."""
    found = list(options(typer.main.get_command(app)))
    assert ("tandem correct", "--why") in found
    assert not [each for each in found if re.search("secret|pass|token|key", each[1])]
