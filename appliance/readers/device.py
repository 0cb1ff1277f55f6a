"""The device that runs the networks, as the runtime of a worker process names it, for pages.

One small file in the state folder. No decision depends on it; the dashboard starts without torch.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from appliance.settings.settings import Settings

NAME = "device.json"
"""File in the state folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSign:
    """A device: its name, its memory in bytes and what of it was in use at `at` (s since epoch).

    Memory is 0 for a CPU, which shares the machine's. `runtime`: the library and its version.
    """

    name: str
    runtime: str
    memory: int
    used: int
    at: float


def write_device(settings: Settings, sign: DeviceSign) -> None:
    """Keep the word of a runtime, where there is a state folder: a full disk stops no reading."""
    if not settings.state_dir.is_dir():
        return
    with suppress(OSError):
        (settings.state_dir / NAME).write_text(json.dumps(asdict(sign)))


def read_device(settings: Settings) -> DeviceSign | None:
    """Return the last word of a runtime; None before there is one, and while one is written."""
    try:
        return DeviceSign(**json.loads((settings.state_dir / NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None
