"""`docs/papers.md`: no item of a paper without a row, no row that names what is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "papers.md"
MAIN_JOB = "arXiv 2512.22335"
NOT_BUILT = "Not built"


def numbered(kind: str, last: int) -> set[str]:
    return {f"{kind} {number}" for number in range(1, last + 1)}


ITEMS = {
    MAIN_JOB: numbered("Eq.", 9)
    | numbered("Table", 4)
    | numbered("Fig.", 14)
    | {"Algorithm 1", "Module C", "Module L", "Module M", "Mean IoU"},
    "arXiv 2503.22069": numbered("Table", 6) | numbered("Fig.", 5) | numbered("Approach", 3),
    "IHC-prompted H&E": numbered("Eq.", 7) | numbered("Table", 2) | numbered("Fig.", 3),
}
"""Items that each paper numbers or names, counted in its text."""


@cache
def rows(paper: str) -> list[list[str]]:
    """Cells of the rows of a paper's table, without its head."""
    (section,) = (
        part for part in DOCUMENT.read_text().split("\n## ")[1:] if part.startswith(paper)
    )
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


EACH_ROW = [pytest.param(row, id=f"{p}-{row[0]}") for p in ITEMS for row in rows(p)]


@pytest.mark.parametrize("paper", ITEMS)
def test_every_item_of_the_paper_has_one_row(paper: str) -> None:
    names = [row[0] for row in rows(paper)]
    assert ITEMS[paper] <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", EACH_ROW)
def test_a_row_names_what_is_there(row: list[str]) -> None:
    item, of_the_paper, where, shown_by, deviation = row
    assert item and of_the_paper and deviation
    if where == NOT_BUILT:
        assert shown_by == "–" and deviation != "–"
        return
    files, tests = (re.findall(r"`([^`]+)`", cell) for cell in (where, shown_by))
    assert files and tests
    for file in files:
        assert (ROOT / file).is_file(), file
    for test in tests:
        file, _, name = test.partition("::")
        assert name in functions(file), test


def test_nothing_of_the_main_job_is_missing() -> None:
    assert all(row[2] != NOT_BUILT for row in rows(MAIN_JOB))


@cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
