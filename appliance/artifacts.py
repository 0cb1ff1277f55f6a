"""Content-addressed results on disk: written whole, and checked by checksums when they are used.

A crash leaves no half of an artifact. Its folder holds ``SHA256SUMS``, which ``sha256sum --check``
reads too. An artifact that is not what was written is removed and made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ArtifactDamagedError, StateFolderError

SUMS_NAME = "SHA256SUMS"
"""File with the SHA-256 of every other file of an artifact."""
ASIDE = ".retired."
"""Beginning of the name of a result that retention is about to delete; the ledger says whether it
goes (`operations/retention.py`)."""
_KEY = re.compile(r"([a-z]+)/([0-9a-z]{1,64})")
_STEP, _DIGEST = re.compile(r"[a-z][a-z0-9_-]*"), re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ArtifactKey:
    """Name of a result: the step, and a hash of everything that the result depends on."""

    step: str
    digest: str

    def __str__(self) -> str:
        return f"{self.step}/{self.digest}"

    @classmethod
    def parse(cls, text: str) -> ArtifactKey:
        """Parse a key that was written as ``step/digest``.

        Raises
        ------
        ValueError
            If the text is no key: a path is built from it.
        """
        found = _KEY.fullmatch(text)
        if found is None:
            raise ValueError("not the key of an artifact")
        return cls(*found.groups())

    @classmethod
    def of(cls, step: str, **depends_on: object) -> ArtifactKey:
        """Key of a step's result from JSON-serializable facts (fingerprints, checksums, …)."""
        text = json.dumps([step, depends_on], sort_keys=True, default=str)
        return cls(step, hashlib.sha256(text.encode()).hexdigest()[:32])


class ArtifactStore:
    """Store of results in ``root/step/digest/``; a folder that exists is complete."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: ArtifactKey) -> Path:
        """Folder of the result, whether it exists or not."""
        return self.root / key.step / key.digest

    def has(self, key: ArtifactKey) -> bool:
        """Return whether the result is there and is what was written; all of it is read.

        Raises
        ------
        ArtifactDamagedError
            If it is there and is not what was written. It is removed, so that it is made again.
        """
        folder = self.path(key)
        if not folder.is_dir():
            return False
        if is_as_written(folder):
            return True
        self.discard(key)
        raise ArtifactDamagedError(
            f"The stored result '{key.step}' was not what was written. It is made again."
        )

    def discard(self, key: ArtifactKey) -> None:
        """Remove a result that is not what was written; one that is stays."""
        folder = self.path(key)
        aside = folder.parent / f".{folder.name}.{uuid.uuid4().hex}"
        try:
            folder.rename(aside)
        except FileNotFoundError:
            return
        # Another process may have removed it, and made it again, since it was read.
        if is_as_written(aside):
            with suppress(OSError):
                aside.rename(folder)
        shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def writing(self, key: ArtifactKey) -> Iterator[Path]:
        """Yield a temporary folder, which becomes the artifact if the block ends without error.

        Another process may write the same key at the same time: equal keys mean equal content, and
        the first to finish stays.
        """
        with writing_folder(self.path(key)) as folder:
            yield folder
            (folder / SUMS_NAME).write_text(_sums(folder))

    def sweep(self) -> int:
        """Delete what crashed writers left, return the number; a running command's work stays.

        So does what retention set aside: the ledger says whether it goes.
        """
        found = list(self.root.glob("*/.*")) if self.root.is_dir() else []
        left = [path for path in found if not path.name.startswith(ASIDE) and not _is_held(path)]
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        return len(left)


def nearest_there(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that is there.

    Raises
    ------
    OSError
        If a link on the way leads nowhere: its disk or share is away, and nothing is to be made.
    """
    for each in (folder, *folder.absolute().parents):
        with suppress(OSError):  # one that may not be looked into is not there for this user
            if each.exists():
                return each
            if each.is_symlink():
                break
    else:
        return Path("/")
    raise OSError(f"{each} links to {each.readlink()}, which is not there. Mount or create it.")


def require_usable(root: Path) -> None:
    """Check that results can be stored, by a nameless file in each step's folder.

    Folders of others, such as lost+found, do not matter.

    Raises
    ------
    StateFolderError
        If they cannot: a file system that is read-only or fails, or other rights.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for folder in (root, *(path for path in root.iterdir() if _is_of_a_step(path))):
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"x")
                probe.flush()
                os.fsync(probe.fileno())
    except OSError as err:
        why = err.strerror or type(err).__name__
        raise StateFolderError(
            f"Results cannot be stored in {root} ({why}). See to the disk and the rights of the "
            "state folder; the step is tried again by itself."
        ) from err


def _is_of_a_step(folder: Path) -> bool:
    """Return whether a folder is a step's: by its name, and it is ours or holds results.

    The owner alone does not tell: a command that an administrator ran may have made it.
    """
    if not _STEP.fullmatch(folder.name) or not folder.is_dir():
        return False
    if folder.stat().st_uid == os.geteuid():
        return True
    try:
        return any(_DIGEST.fullmatch(entry.name) for entry in folder.iterdir())
    except PermissionError:
        return False


def is_as_written(folder: Path) -> bool:
    """Return whether an artifact's folder holds the files of its checksums, and no other bytes.

    An artifact without checksums is not: nothing says what was written.
    """
    sums = read_sums(folder)
    try:
        found = {str(file.relative_to(folder)): file_sha256(file) for file in _files(folder)}
    except FileNotFoundError:  # another process removes it just now
        return False
    return bool(sums) and found == sums


def is_unchecked(folder: Path) -> bool:
    """Return whether an artifact has no checksums: it is of an edition that wrote none."""
    return not (folder / SUMS_NAME).exists()


def adopt(folder: Path) -> None:
    """Give checksums to an artifact that has none and that cannot be made again."""
    write_whole(folder / SUMS_NAME, _sums(folder).encode())


def sha256_as_written(file: Path) -> str:
    """SHA-256 (hex) of a file of an artifact as it was written; empty where it is not known."""
    return read_sums(file.parent).get(file.name, "")


def file_is_as_written(file: Path) -> bool:
    """Return whether a file of an artifact is there and is what was written."""
    try:
        return file_sha256(file) == sha256_as_written(file)
    except FileNotFoundError:
        return False


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of the files of an artifact by name; empty where there are no checksums."""
    try:
        lines = (folder / SUMS_NAME).read_text().splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return {}
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sums(folder: Path) -> str:
    files = _files(folder)
    return "".join(f"{file_sha256(file)}  {file.relative_to(folder)}\n" for file in files)


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path != folder / SUMS_NAME)


@contextmanager
def writing_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `final` if the block ends without error.

    An existing `final` stays as it is.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}.{uuid.uuid4().hex}"
    temporary.mkdir()
    handle = os.open(temporary, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield temporary
        sync_tree(temporary)
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise
        _fsync(final.parent)
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


def sync_tree(folder: Path) -> None:
    """Put a folder with all that is in it on disk: rename it only then.

    Files and folders, the deepest first: a folder's entries are its own to sync.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        _fsync(path)
    _fsync(folder)


def _is_held(folder: Path) -> bool:
    """Return whether the writer of a temporary folder lives: the kernel frees a dead one's lock."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it was renamed or removed just now
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file; it gets its final name only when all of it is on disk.

    Its folders are made. `mode`: its permissions, which it has before there is anything in it.
    None: those of the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with becoming(path) as temporary:
        if mode is not None:
            temporary.touch(mode=mode)
        temporary.write_bytes(data)


def copy_whole(path: Path, source: Path) -> None:
    """Copy a file; it gets its final name only when all of it is on disk.

    Its folder is there: one that is not may be a share that went away just now.
    """
    with becoming(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def becoming(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which becomes `path` if the block ends without error.

    The folder of `path` is there, see `copy_whole`.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        _fsync(temporary)
        temporary.rename(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
