"""Rooms of the appliance: sizes, arrows between them, and sizes of files and functions."""

from __future__ import annotations

import ast
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APPLIANCE = ROOT / "appliance"
MOST_ARROWS = 95
LARGEST_SHARE = 0.20
MEDIAN_LINES, P90_LINES = 130, 320
FUNCTION_LINES = 60


def room_of(path: Path) -> str:
    """Room of a file: the folder below ``appliance``, or the file itself."""
    return path.relative_to(APPLIANCE).parts[0].removesuffix(".py")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(APPLIANCE.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def imported_rooms(tree: ast.Module) -> Iterator[str]:
    """Rooms that a file imports from, imports inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "appliance":
            dotted = [node.module or ""]
            if node.module == "appliance":
                dotted = [f"appliance.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            dotted = [name.name for name in node.names if name.name.startswith("appliance.")]
        else:
            continue
        for name in dotted:
            yield name.split(".")[1]


def arrows() -> dict[str, set[str]]:
    """Rooms that each room imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, tree in sources():
        room = room_of(path)
        found[room] |= {other for other in imported_rooms(tree) if other != room}
    return found


def test_few_arrows_join_the_rooms_and_none_runs_in_a_circle() -> None:
    found = arrows()
    assert sum(len(others) for others in found.values()) <= MOST_ARROWS
    # Raises CycleError for a circle.
    assert list(TopologicalSorter(found).static_order())


def test_no_room_is_large() -> None:
    lines: Counter[str] = Counter()
    for path, _ in sources():
        lines[room_of(path)] += len(path.read_text().splitlines())
    room, largest = lines.most_common(1)[0]
    assert largest < LARGEST_SHARE * lines.total(), room


def test_files_are_short() -> None:
    lengths = [len(path.read_text().splitlines()) for path, _ in sources()]
    lengths = [length for length in lengths if length > 1]
    assert statistics.median(lengths) <= MEDIAN_LINES
    assert statistics.quantiles(lengths, n=10)[-1] <= P90_LINES


def test_functions_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for folder in ("appliance", "dashboard", "dicom", "models")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert not long


def test_nothing_outside_an_assay_names_its_stain_or_score() -> None:
    """Pairing, expiry, doctor, weights, objects and page ask the assay."""
    asking = ("intake", "ledger", "line", "operations", "delivery", "findings")
    named = [
        f"{path.relative_to(ROOT)} imports {alias.name}"
        for path, tree in sources()
        if room_of(path) in asking
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in ("HER2", "Her2Score")
        or (node.module or "").startswith("appliance.assays.her2")
    ]
    assert not named
