"""Sleep that works under libfaketime, by which chaos moves the clock.

From Python 3.11 on ``time.sleep`` waits for an absolute monotonic time, which libfaketime refuses
with EINVAL. Waiting for an event that never comes takes the same time.
"""

from __future__ import annotations

import os
import threading
import time
from typing import SupportsIndex

CLOCK_VARIABLE = "FAKETIME_TIMESTAMP_FILE"


def _sleep(seconds: float | SupportsIndex) -> None:
    threading.Event().wait(float(seconds))


if CLOCK_VARIABLE in os.environ:
    time.sleep = _sleep
