"""Bandwidth cap for a sender that sends in pieces."""

from __future__ import annotations

import time

BURST_S = 0.1
"""Longest time whose bytes may be sent at once after a pause: pieces are small, sleeps coarse."""


class Pace:
    """Limit of a sender to `mib_s` MiB per second on average."""

    def __init__(self, mib_s: float | None) -> None:
        self._bytes_s = None if mib_s is None else mib_s * 2**20
        self._free_at = time.monotonic()

    def spend(self, size_bytes: int) -> None:
        """Wait until `size_bytes` more may be sent."""
        if self._bytes_s is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - BURST_S) + size_bytes / self._bytes_s
        if self._free_at > now:
            time.sleep(self._free_at - now)
