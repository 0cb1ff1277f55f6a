"""Users of the dashboard: their file, and the commands that change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest
from argon2 import PasswordHasher
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.errors import SettingsError
from appliance.operations.users import Role, Users
from appliance.settings.settings import Settings

GOOD = "several words are good"


def command(tmp_path: Path, *words: str, password: str = f"{GOOD}\n") -> tuple[int, str]:
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    done = CliRunner().invoke(app, ["users", *words, "--config", str(config)], input=password)
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")


def test_a_user_is_added_changed_and_removed(tmp_path: Path) -> None:
    users = Users(Settings(state_dir=tmp_path / "state"))
    added = ("add", "A.Meyer", "--role", "pathologist", "--person", "Meyer^Anna")
    assert command(tmp_path, *added, "--password-stdin") == (
        0,
        "a.meyer: pathologist, Meyer^Anna.\n",
    )
    assert users.file.stat().st_mode & 0o777 == 0o600
    assert GOOD not in users.file.read_text() and "$argon2id$" in users.file.read_text()
    known = users.checked("a.meyer", GOOD)
    assert known is not None and known.role is Role.PATHOLOGIST
    assert users.checked("a.meyer", GOOD + "x") is None and users.checked("nobody", GOOD) is None
    assert command(tmp_path, "role", "a.meyer", "viewer")[0] == 0
    assert command(tmp_path, "list")[1] == "a.meyer\tviewer\tMeyer^Anna\n"
    # Typed at a terminal, twice.
    other = "other words are good too"
    assert command(tmp_path, "password", "a.meyer", password=f"{other}\n{other}\n")[0] == 0
    assert users.checked("a.meyer", GOOD) is None and users.checked("A.MEYER", other) is not None
    assert command(tmp_path, "remove", "a.meyer")[0] == 0
    assert users.all() == {}


@pytest.mark.parametrize(
    ("words", "password", "told"),
    [
        (("add", "a", "--role", "king"), GOOD, "'king' is no role. Roles: viewer, operator"),
        (("add", "a", "--role", "viewer"), "short", "12 to 256 characters"),
        (("add", "a b", "--role", "viewer"), GOOD, "names have letters a-z"),
        (("role", "b", "viewer"), "", "b: there is no such user"),
        (("remove", "b"), "", "b: there is no such user"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, words: tuple[str, ...], password: str, told: str
) -> None:
    stdin = ("--password-stdin",) if words[0] == "add" else ()
    code, output = command(tmp_path, *words, *stdin, password=f"{password}\n")
    assert code == 1 and told in output and "\n" not in output
    assert not (tmp_path / "state" / "users.json").exists()


def test_a_password_that_is_not_in_utf_8_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    words = ["users", "add", "a", "--role", "viewer", "--password-stdin", "--config", str(config)]
    done = CliRunner().invoke(app, words, input="Wörter sind gut genug\n".encode("latin-1"))
    assert isinstance(done.exception, SettingsError) and "not in UTF-8" in str(done.exception)
    assert Users(Settings(state_dir=tmp_path / "state")).checked("a", "\udcf6") is None


@pytest.mark.parametrize("kept", ["NFC", "NFD"])
@pytest.mark.parametrize("typed", ["NFC", "NFD"])
def test_an_accented_password_fits_however_a_machine_composes_it(
    tmp_path: Path, kept: Literal["NFC", "NFD"], typed: Literal["NFC", "NFD"]
) -> None:
    users = Users(Settings(state_dir=tmp_path / "state"))
    words = "Wörter sind gut genug"
    users.add("new", "viewer", "New", normalize(kept, words))
    users.add("old", "viewer", "Old", words)
    text = json.loads(users.file.read_text())
    text["users"][1]["password"] = PasswordHasher().hash(normalize(kept, words))  # as it was typed
    users.file.write_text(json.dumps(text))
    for name in ("new", "old"):
        assert users.checked(name, normalize(typed, words)) is not None
        assert users.checked(name, normalize(typed, f"{words}ö")) is None


def test_two_users_are_not_one_person_and_a_broken_file_opens_nothing(tmp_path: Path) -> None:
    users = Users(Settings(state_dir=tmp_path))
    users.add("one", "viewer", "Müller^Anna", GOOD)
    with pytest.raises(SettingsError, match="there is such a user"):
        users.add("one", "admin", "", GOOD)
    for person in ("Müller^Anna", "MÜLLER^Anna", "Mu\u0308ller^Anna", "Müller^ Anna^"):
        with pytest.raises(SettingsError, match="another user has this person"):
            users.add("two", "admin", person, GOOD)
    for broken in ("{", "[]", json.dumps({"users": [{"name": "x", "role": "king"}]})):
        users.file.write_text(broken)
        with pytest.raises(SettingsError, match="the users cannot be read"):
            users.checked("one", GOOD)
