"""Vulnerabilities that a dated copy of a database knows of the pinned packages, without a network.

The copy is that of OSV for PyPI (``PyPI/all.zip`` of osv.dev, or a folder of its JSON records),
fetched where there is a network. Without it nothing is checked, and this is said.

Usage: python -m supply.vulnerabilities [COPY]

Exit status: 0 nothing is known, 1 something is, 2 it could not be checked.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from supply.components import pins, plain

OLD = timedelta(days=30)
"""Age of the copy from which what it says is called old."""
NOT_CHECKED = (
    "NOT CHECKED for known vulnerabilities: no copy of a database was named. Fetch "
    "https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip where there is a network, and "
    "run: python -m supply.vulnerabilities all.zip"
)


def records_of(copy: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a copy: a ZIP file, or a folder of JSON files.

    Raises
    ------
    OSError, zipfile.BadZipFile, ValueError
        If it cannot be read.
    """
    if copy.is_dir():
        for path in sorted(copy.rglob("*.json")):
            yield json.loads(path.read_bytes())
        return
    with zipfile.ZipFile(copy) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                yield json.loads(archive.read(name))


def known_against(record: Mapping[str, Any], locked: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each pinned package that a record concerns."""
    if record.get("withdrawn"):
        return
    for affected in record.get("affected", ()):
        package = affected.get("package", {})
        name = plain(str(package.get("name", "")))
        if package.get("ecosystem") != "PyPI" or name not in locked:
            continue
        if _is_affected(locked[name], affected):
            words = str(record.get("summary") or record.get("details", "")).split("\n")[0]
            yield f"{name} {locked[name]}: {record['id']} {words}".rstrip()


def _is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    here = Version(version)
    if any(_version(text) == here for text in affected.get("versions", ())):
        return True
    ranges = (each for each in affected.get("ranges", ()) if each.get("type") == "ECOSYSTEM")
    return any(_lies_in(here, each.get("events", ())) for each in ranges)


def _lies_in(here: Version, events: Any) -> bool:
    """Return whether a version lies in a range of OSV: events in order of versions."""
    inside = False
    for event in events:
        if "introduced" in event:
            begins = event["introduced"] == "0" or _version(event["introduced"]) <= here
            inside = inside or begins
            continue
        fixed, last = event.get("fixed"), event.get("last_affected")
        if (fixed and _version(fixed) <= here) or (last and _version(last) < here):
            inside = False
    return inside


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:  # a tag that no release has
        return Version("0.dev0")


def main() -> None:
    """Check, and say of which day the copy is."""
    if len(sys.argv) < 2:
        print(NOT_CHECKED)
        raise SystemExit(2)
    try:
        records = list(records_of(Path(sys.argv[1])))
        newest = max(datetime.fromisoformat(str(each["modified"])) for each in records)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        print(f"NOT CHECKED for known vulnerabilities: {sys.argv[1]} cannot be read ({err}).")
        raise SystemExit(2) from None
    locked = pins()
    found = [line for record in records for line in known_against(record, locked)]
    newest = newest if newest.tzinfo else newest.replace(tzinfo=UTC)
    aged = " That is old: fetch a new one." if datetime.now(tz=UTC) - newest > OLD else ""
    print(f"{len(locked)} packages against {len(records)} records; the newest is of", end=" ")
    print(f"{newest:%Y-%m-%d}.{aged}")
    for line in found:
        print(line)
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
