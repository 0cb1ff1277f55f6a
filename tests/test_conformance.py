"""`docs/dicom-conformance.md`, section 9: each row names tests that are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CASES, EXCHANGES = 20, 9
"""Rows of the two tables."""


def rows() -> list[list[str]]:
    """Cells of the rows of the section's tables, without their heads."""
    (section,) = (
        part
        for part in (ROOT / "docs" / "dicom-conformance.md").read_text().split("\n## ")
        if part.startswith("9 ")
    )
    lines = [line.strip("|") for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [
        row
        for row, after in zip(cells, [*cells[1:], [""]], strict=True)
        if "---" not in row[0] + after[0]
    ]


def test_no_row_is_missing() -> None:
    found = rows()
    assert [len(row) for row in found] == [3] * CASES + [2] * EXCHANGES
    assert len({row[0] for row in found}) == len(found)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_names_in_a_row_are_there(row: list[str]) -> None:
    named = re.findall(r"`(tests/[^`]+)`", row[-1])
    assert named
    for test in named:
        file, *names = test.split("::")
        assert "::".join(names) in names_in(file), test


@cache
def names_in(file: str) -> set[str]:
    """Names of a file's tests, those of a class with its name before."""
    found = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return found
