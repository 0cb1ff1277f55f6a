"""Documents name no file and no test that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.settings.read_service import ReadService

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"\btests/[\w/]+\.py\b")
NAMED = re.compile(r"\b(tests/[\w/]+\.py)::(test_\w+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_tests_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    missing += [name for name in TEST.findall(text) if not (ROOT / name).is_file()]
    for name, test in NAMED.findall(text):
        file = ROOT / name
        if file.is_file() and f"def {test}(" not in file.read_text():
            missing.append(f"{name}::{test}")
    assert missing == []


def test_the_pages_are_found() -> None:
    assert {"README.md", "software.md"} <= {page.name for page in PAGES}


def test_the_security_sheet_names_each_port_that_tandem_opens() -> None:
    """A site opens its firewall by this table."""
    table = (ROOT / "docs" / "security-sheet.md").read_text().partition("## Ports")[2]
    opened = ("8501", "`commitment_port`", "`[read_service]`", "`cluster.scheduler`")
    assert [name for name in opened if name not in table] == []
    assert str(ReadService.model_fields["port"].default) in table
