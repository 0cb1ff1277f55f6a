"""Content-addressed results on disk: written whole or not at all, so a crash leaves no half."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ArtifactKey:
    """Name of a result: the step, and a hash of everything that the result depends on."""

    step: str
    digest: str

    def __str__(self) -> str:
        return f"{self.step}/{self.digest}"

    @classmethod
    def parse(cls, text: str) -> ArtifactKey:
        """Parse a key that was written as ``step/digest``."""
        step, digest = text.split("/")
        return cls(step, digest)

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

    def exists(self, key: ArtifactKey) -> bool:
        """Return whether the result exists; what exists is complete."""
        return self.path(key).is_dir()

    @contextmanager
    def writing(self, key: ArtifactKey) -> Iterator[Path]:
        """Yield a temporary folder, which becomes the artifact if the block ends without error.

        Another process may write the same key at the same time: equal keys mean equal content, and
        the first to finish stays.
        """
        with writing_folder(self.path(key)) as folder:
            yield folder

    def sweep(self) -> int:
        """Delete what crashed writers left, return the number; call only while no step runs."""
        left = list(self.root.glob("*/.*")) if self.root.is_dir() else []
        for folder in left:
            shutil.rmtree(folder, ignore_errors=True)
        return len(left)


@contextmanager
def writing_folder(final: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `final` if the block ends without error.

    An existing `final` stays as it is.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f".{final.name}.{uuid.uuid4().hex}"
    temporary.mkdir()
    try:
        yield temporary
        # Files and folders, the deepest first: a folder's entries are its own to sync.
        for path in sorted(temporary.rglob("*"), reverse=True):
            _fsync(path)
        _fsync(temporary)
        try:
            temporary.rename(final)
        except OSError:
            if not final.is_dir():
                raise
        _fsync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file; it gets its final name only when all of it is on disk."""
    with _becoming(path) as temporary:
        temporary.write_bytes(data)


def copy_whole(path: Path, source: Path) -> None:
    """Copy a file; it gets its final name only when all of it is on disk."""
    with _becoming(path) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def _becoming(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which becomes `path` if the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        _fsync(temporary)
        temporary.rename(path)
        _fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)
