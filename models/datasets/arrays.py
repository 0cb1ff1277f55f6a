"""Arrays of tiles on disk: with all their room from the start, and read whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from models.errors import DataSetError


def new_array(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a new array uint8 that is written through its file.

    Raises
    ------
    OSError
        If there is no room for all of it: a map into a full disk would end the process.
    """
    array = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def kept_array(path: Path) -> NDArray[np.uint8]:
    """Return an array that `new_array` made, read through its file.

    Raises
    ------
    DataSetError
        If the file is cut off, as a power cut can leave it.
    """
    try:
        array: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except (ValueError, EOFError) as err:
        raise DataSetError(
            f"{path}: damaged ({err}). Remove {path.parent}: it is made again."
        ) from err
