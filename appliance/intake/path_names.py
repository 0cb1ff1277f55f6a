"""Parts of paths that are text: a scan handles 100,000, and a `Path` of each takes its time."""

from __future__ import annotations


def name_of(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition("/")[2]


def folder_of(path: str) -> str:
    """Return the folder that a path lies in; an empty text where it names none."""
    return path.rpartition("/")[0]


def suffix_of(path: str) -> str:
    """Return the suffix of a path in lower case, with its dot; empty where it has none."""
    stem, dot, suffix = name_of(path).rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def is_below(path: str, folder: str) -> bool:
    """Return whether a path lies below a folder."""
    return path.startswith(folder.rstrip("/") + "/")
