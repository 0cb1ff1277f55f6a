"""Thread of the audit trail: a repository that hangs holds up this thread, and no lane."""

from __future__ import annotations

import logging
import threading
from contextlib import closing

from appliance.line.pulse import Turns
from appliance.operations.audit import AuditTrail
from appliance.settings.audit import Audit
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Period of the looks into the ledger."""
SLOW_LOOK_SECONDS = 600.0
"""Time after which a look counts as held up: one may tell of many events."""


class Auditing(threading.Thread):
    """Tells the repository of new events until `stop` is set."""

    def __init__(
        self,
        settings: Settings,
        audit: Audit,
        stop: threading.Event,
        period_s: float = LOOK_SECONDS,
    ) -> None:
        super().__init__(name="audit", daemon=True)
        self._settings, self._audit, self._stop_event = settings, audit, stop
        self._period_s = period_s
        self.turns = Turns("the audit trail takes very long", SLOW_LOOK_SECONDS)

    def run(self) -> None:
        """Tell until stopped."""
        with closing(AuditTrail(self._settings, self._audit)) as trail:
            trail.started()
            while True:
                try:
                    with self.turns:
                        trail.tell()
                except Exception as err:  # boundary of the thread: the trail goes on
                    log.error("the audit trail failed: %s; it goes on", type(err).__name__)
                    log.debug("details", exc_info=err)
                if self._stop_event.wait(self._period_s):
                    return
