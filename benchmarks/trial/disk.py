"""The small disk of a trial: a file system of its own for the state folder, which can lose power.

As root it is an ext4 image on a loop device; where loop devices cannot be had, a tmpfs, which can
be full and keeps all that was written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SIZE_BYTES = 512 << 20
SHUTDOWN = 0x8004587D
"""``EXT4_IOC_SHUTDOWN`` of the kernel's ``fs/ext4/ext4.h``, which takes a 32-bit flag."""
WITHOUT_LOG = 2
"""``EXT4_GOING_FLAGS_NOLOGFLUSH``: what waits to be written, the journal included, is dropped."""
BUSY_S = 180.0
"""Longest wait until nobody holds a file of the disk any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDisk:
    """A mounted file system: `place` is its mount point, `image` its file; None for a tmpfs."""

    place: Path
    image: Path | None = None

    def fill(self) -> Path:
        """Take all room by one file and return it; the caller removes it."""
        ballast = self.place / "ballast"
        with suppress(OSError), ballast.open("ab", buffering=0) as stream:
            size, step = 0, SIZE_BYTES
            while step >= os.statvfs(self.place).f_frsize:
                try:
                    os.posix_fallocate(stream.fileno(), size, step)
                    size += step
                except OSError as err:
                    if err.errno != errno.ENOSPC:
                        raise
                    step //= 2
        return ballast

    def cut_power(self) -> None:
        """Drop all that has not reached the image; from now on each write fails with EIO.

        Raises
        ------
        OSError
            If the file system cannot be shut down.
        """
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", WITHOUT_LOG))
        finally:
            os.close(handle)

    def mount_again(self) -> None:
        """Unmount the image and mount a copy of it in its place, which replays the journal.

        The image itself may still be mounted in another namespace, which was made meanwhile: it
        would be mounted as it stands there, without its power.

        Raises
        ------
        RuntimeError
            If a process holds a file of it for longer than `BUSY_S`, or it cannot be mounted.
        """
        end = time.monotonic() + BUSY_S
        while not _runs(["umount", str(self.place)]):
            if time.monotonic() > end:
                raise RuntimeError(f"{self.place}: a process holds the disk")
            time.sleep(0.1)
        if self.image is None:
            raise RuntimeError(f"{self.place}: a tmpfs has no image")
        copy = self.image.with_name("copy")
        copied = _runs(["cp", "--sparse=always", str(self.image), str(copy)])
        if not copied or not _mounted(copy.replace(self.image), self.place):
            raise RuntimeError(f"{self.place}: the disk cannot be mounted again")


@contextmanager
def small_disk(place: Path) -> Iterator[SmallDisk | None]:
    """Mount a small disk at `place`; yield None where that is not allowed.

    The image lies in memory where there is room, so that other work's writes do not hold it up.
    """
    place.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        yield None
        return
    with tempfile.TemporaryDirectory(dir=_image_folder(), prefix="tandem-disk-") as folder:
        image = Path(folder) / "image"
        disk: SmallDisk | None = None
        if _formatted(image) and _mounted(image, place):
            disk = SmallDisk(place=place, image=image)
        elif _runs(["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(place)]):
            disk = SmallDisk(place=place)
        try:
            yield disk
        finally:
            if disk is not None:
                _runs(["umount", "-l", str(place)])


def _image_folder() -> Path | None:
    memory = Path("/dev/shm")  # noqa: S108  a private folder is made in it
    with suppress(OSError):
        if shutil.disk_usage(memory).free > 4 * SIZE_BYTES:
            return memory
    return None


def _formatted(image: Path) -> bool:
    with image.open("wb") as stream:
        stream.truncate(SIZE_BYTES)
    return _runs(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)])


def _mounted(image: Path, place: Path) -> bool:
    return _runs(["mount", "-t", "ext4", "-o", "loop", str(image), str(place)])


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
