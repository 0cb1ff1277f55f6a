"""Presence of the scanners' folders: a share that is away takes its files with it, for a time.

A bare mount point is an empty folder. `KnownFolders` keeps which folder was seen under each path:
an empty folder that is another one than before is a mount point, and an empty one that is the same
was emptied. A marker file, which the site may require, tells it for certain.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from appliance.intake.listing import Identity, identity_of
from appliance.intake.path_names import folder_of, is_below
from appliance.settings.intake import Watch

KNOWN_FOLDERS = "watched_folders.json"
MOST_KNOWN = 5000
"""Most folders that are remembered over a restart, from the top: mount points lie near it."""


class KnownFolders:
    """Identity of each folder in which slides were seen; kept in a file of the state folder."""

    def __init__(self, state_dir: Path | None) -> None:
        self._file = None if state_dir is None else state_dir / KNOWN_FOLDERS
        self._kept: dict[str, Identity] = {}
        self._folders: dict[str, Identity] = {}
        try:
            loaded = {} if self._file is None else json.loads(self._file.read_bytes())
            self._kept = {os.fsdecode(path): (int(d), int(i)) for path, (d, i) in loaded.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._kept = {}  # a hint only
        self._folders.update(self._kept)
        self._changed = False

    def __contains__(self, path: str) -> bool:
        return path in self._folders

    def get(self, path: str) -> Identity | None:
        """Return the identity of a folder when slides were seen in it."""
        return self._folders.get(path)

    def update(self, seen: Mapping[str, Identity]) -> None:
        """Take in the folders in which slides were seen."""
        self._changed = self._changed or not seen.items() <= self._folders.items()
        self._folders.update(seen)

    def save(self) -> None:
        """Write those that are nearest to the top, where they changed."""
        if self._file is None or not self._changed:
            return
        self._changed = False
        near = sorted(self._folders, key=lambda path: (path.count("/"), path))[:MOST_KNOWN]
        kept = {path: self._folders[path] for path in near}
        if kept != self._kept:
            text = json.dumps(kept)  # surrogates of names that are no UTF-8 become escapes
            write_whole(self._file, text.encode())
            self._kept = kept


def why_root_is_away(
    root: str, marker: str, known: KnownFolders, *, unknown: bool = True
) -> str | None:
    """Return why a watched folder counts as away; None where it is there.

    ``missing``, ``marker``, ``empty``, or the system's text of another error. An empty folder
    without marker is away, unless slides were seen in this very folder; `unknown` is the answer for
    a folder of which nothing is known.
    """
    try:
        with os.scandir(root) as entries:
            empty = next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except OSError as err:
        return err.strerror or type(err).__name__
    if marker:
        return None if os.path.exists(f"{root}/{marker}") else "marker"  # noqa: PTH110  text
    return "empty" if empty and _is_another(root, known, unknown=unknown) else None


def is_away(path: str, watch: Watch, known: KnownFolders, *, unknown: bool = True) -> bool:
    """Return whether a file that is not in its place is away with its share or mounted folder.

    A file is gone for good when the folder in which it lay can be listed, and is the one that it
    was. `unknown` is the answer for an empty folder of which nothing is known. With it, an empty
    watched folder is away in any case. A file that lies in no watched folder is away with any. A
    link to a folder that leads nowhere stands for what is away: mount points may go with their
    mount. So does one to a file, but for `leads_away`.
    """
    root = root_of(path, watch)
    of_root = KnownFolders(None) if unknown else known
    roots = [str(one) for one in watch.roots] if root is None else [root]
    if any(why_root_is_away(r, watch.marker, of_root, unknown=unknown) for r in roots):
        return True
    if root is None:
        return False
    folder = folder_of(path)
    if leads_away(path):
        return True
    while folder != root:
        try:
            with os.scandir(folder) as entries:
                empty = next(entries, None) is None
            return empty and _is_another(folder, known, unknown=unknown)
        except (FileNotFoundError, NotADirectoryError):
            if is_broken_link(folder):
                return True
            folder = folder_of(folder)
        except OSError:
            return True
    return False


def is_broken_link(path: str) -> bool:
    """Return whether a path is a link to what is not there."""
    return os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114  text


def leads_away(path: str) -> bool:
    """Return whether a path is a link to a file that is away; one that was deleted is not.

    A file was deleted where the folder in which it lay can be listed, and holds others.
    """
    if not is_broken_link(path):
        return False
    try:
        with os.scandir(folder_of(os.path.realpath(path))) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def root_of(path: str, watch: Watch) -> str | None:
    """Return the watched folder that a file lies in; None where it lies in none."""
    return next((str(r) for r in watch.roots if is_below(path, str(r))), None)


def write_whole(path: Path, data: bytes) -> None:
    """Replace a small file of the state folder by another, never by a part of it."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def _is_another(folder: str, known: KnownFolders, *, unknown: bool) -> bool:
    """Return whether an empty folder is another one than that in which slides were seen."""
    before = known.get(folder)
    if before is None:
        return unknown
    try:
        return identity_of(folder) != before
    except OSError:
        return True
