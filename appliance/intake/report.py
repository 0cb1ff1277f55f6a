"""Report of the last full scan: what is away, what cannot be read. Status and doctor show it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from appliance.intake.presence import write_whole

REPORT = "scan_report.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """Facts of a scan. `away`: watched folders by path, with the reason.

    `presence.why_root_is_away` gives the reasons. `formats`: number of files, by suffix, of formats
    that cannot be read here.
    """

    away: Mapping[str, str] = field(default_factory=dict)
    unreadable_folders: int = 0
    formats: Mapping[str, int] = field(default_factory=dict)


def read_report(state_dir: Path) -> ScanReport:
    """Return the report of the last full scan; an empty one where there is none."""
    try:
        return ScanReport(**json.loads((state_dir / REPORT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return ScanReport()


def write_report(state_dir: Path, report: ScanReport) -> None:
    """Replace the report."""
    write_whole(state_dir / REPORT, json.dumps(asdict(report)).encode())
