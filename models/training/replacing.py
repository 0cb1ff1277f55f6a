"""Weights on disk that change as a whole: what ends with an error leaves those of before."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import DataSetError
from models.spec import MANIFEST_NAME

_PROBE = bytes(1 << 20)


def require_writable(out: Path) -> None:
    """Make a folder, and try before a long training that it can be written.

    Raises
    ------
    DataSetError
        If it cannot, as on a full disk.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(_PROBE)
    except OSError as err:
        raise DataSetError(f"{out}: {err.strerror}. Choose another folder.") from err


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Give a hidden folder to write into; its files become those of `out` if there is no error.

    `out` may hold other files, such as what was drawn for it. The manifest comes last: weights
    beside a manifest of before are refused by their checksum.

    Raises
    ------
    DataSetError
        If `out` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".training.", dir=out) as temporary:
            part = Path(temporary)
            yield part
            for path in sorted(part.iterdir(), key=lambda path: path.name == MANIFEST_NAME):
                path.replace(out / path.name)
    except OSError as err:
        raise DataSetError(f"{out}: {err.strerror}. Choose another folder.") from err
