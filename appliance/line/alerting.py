"""Thread of the alerts: a mail server that hangs holds up this thread, and no lane."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing

from appliance.line.pulse import Turns
from appliance.operations.alerts import AlertWatch
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
"""Period of the looks; a STAT result is told within it."""
SLOW_LOOK_SECONDS = 600.0
"""Time after which a look counts as held up: it may wait for several channels."""


class Alerting(threading.Thread):
    """Looks for causes and sends messages until `stop` is set."""

    def __init__(
        self, settings: Settings, stop: threading.Event, period_s: float = LOOK_SECONDS
    ) -> None:
        super().__init__(name="alerts", daemon=True)
        self._settings, self._stop_event, self._period_s = settings, stop, period_s
        self.turns = Turns("the alerts take very long", SLOW_LOOK_SECONDS)

    def run(self) -> None:
        """Look until stopped."""
        with closing(AlertWatch(self._settings)) as watch:
            while not self._stop_event.wait(self._period_s):
                try:
                    with self.turns:
                        watch.look(time.time())
                except Exception as err:  # boundary of the thread: alerts go on
                    log.error("the alerts failed: %s; they look again", type(err).__name__)
                    log.debug("details", exc_info=err)
