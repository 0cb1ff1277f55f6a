"""Sentences about the watched folders: from the last scan, and from a look at them now."""

from __future__ import annotations

import os

from appliance.intake.presence import KnownFolders, why_root_is_away
from appliance.intake.report import read_report
from appliance.settings.settings import Settings
from appliance.words.say import say


def folder_lines(settings: Settings) -> list[str]:
    """Return a line for each trouble of the last scan, and one for formats that cannot be read."""
    report = read_report(settings.state_dir)
    lines = away_lines(settings)
    if report.unreadable_folders:
        lines.append(say("folder", "unreadable-folders", {"count": report.unreadable_folders}))
    if report.formats:
        lines.append(say("folder", "formats", {"formats": report.formats}))
    return lines


def away_lines(settings: Settings) -> list[str]:
    """Return a line for each watched folder that was away at the last scan."""
    away = read_report(settings.state_dir).away
    return [_away(root, why, settings) for root, why in away.items()]


def check_folders(settings: Settings) -> str:
    """Look at the watched folders, and return what was found.

    Raises
    ------
    OSError
        With a line for each folder that is away or cannot be read.
    """
    known = KnownFolders(settings.state_dir)
    trouble = []
    for root in settings.watch.roots:
        why = why_root_is_away(str(root), settings.watch.marker, known, unknown=False)
        if why is None and not os.access(root, os.R_OK | os.X_OK):
            why = "Permission denied"
        if why is not None:
            trouble.append(_away(str(root), why, settings))
    report = read_report(settings.state_dir)
    if report.unreadable_folders:
        trouble.append(say("folder", "unreadable-folders", {"count": report.unreadable_folders}))
    if trouble:
        raise OSError(" ".join(trouble))
    told = ", ".join(str(root) for root in settings.watch.roots) + " (read)"
    if report.formats:
        told += "; " + say("folder", "formats", {"formats": report.formats})
    return told


def _away(root: str, why: str, settings: Settings) -> str:
    return say("folder", why, {"folder": root, "marker": settings.watch.marker})
