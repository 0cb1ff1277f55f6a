"""Help pages of all commands."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import typer.main
from typer.testing import CliRunner

from appliance.cli.main import app

_BRACKETS = re.compile(r"\[[a-z_.]+\]")


def commands(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each command with all texts of its help."""
    texts = [getattr(command, "help", None) or ""]
    texts += [getattr(each, "help", None) or "" for each in getattr(command, "params", ())]
    yield path, " ".join(texts)
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize(
    ("path", "texts"), [pytest.param(*each, id=" ".join(each[0]) or "tandem") for each in ALL]
)
def test_a_help_page_has_each_bracket_of_its_texts(path: tuple[str, ...], texts: str) -> None:
    page = CliRunner().invoke(app, [*path, "--help"])
    assert page.exit_code == 0
    assert [name for name in _BRACKETS.findall(texts) if name not in page.output] == []
    assert "\\[" not in page.output


def test_pages_name_the_sections_of_the_settings() -> None:
    texts = {path: _BRACKETS.findall(text) for path, text in ALL}
    assert texts["alerts",] == ["[alerts]"] and texts["retain",] == ["[retention]"]
    assert texts["read-service",] == ["[read_service]"]
