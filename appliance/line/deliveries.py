"""Threads of the delivery: one for each destination, so that one that hangs holds up no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from appliance.delivery.destinations.contract import Destination, open_destination
from appliance.delivery.outbox import Outbox
from appliance.errors import StoppedError
from appliance.ledger.heartbeat import LaneSign
from appliance.ledger.ledger import Ledger
from appliance.line.pulse import Turns
from appliance.settings.settings import Settings

log = logging.getLogger(__name__)

SLOW_MIB_S = 1.0
"""Rate in MiB/s below which the sending or reading of a large object counts as held up."""
DELIVERY_SECONDS = 1.0
"""Period of a delivery loop; an empty outbox costs one query."""


class Deliveries:
    """Delivery loops, which end when `stop` is set; the caller starts and joins `threads`.

    A further loop without a destination takes what concerns none: deliveries to destinations that
    the settings do not have any more, and cases to be ended after a crash.
    """

    def __init__(self, ledger: Ledger, settings: Settings, stop: threading.Event) -> None:
        """Open all destinations.

        Raises
        ------
        SettingsError
            If a destination cannot hold the objects that its settings name.
        """
        self._ledger, self._settings, self._stop = ledger, settings, stop
        opened = [open_destination(settings, section) for section in settings.destinations]
        self._turns = {"delivery": Turns("the delivery takes very long")}
        self.threads = [self._thread("delivery", None)]
        for destination in opened:
            name = f"delivery to {destination.name}"
            self._turns[name] = Turns("the destination takes very long")
            self.threads.append(self._thread(name, destination))

    def signs(self) -> Mapping[str, LaneSign]:
        """Return what each thread does."""
        return {name: turns.sign() for name, turns in self._turns.items()}

    def _thread(self, name: str, destination: Destination | None) -> threading.Thread:
        return threading.Thread(
            target=self._run, args=(destination, self._turns[name]), name=name, daemon=True
        )

    def _run(self, destination: Destination | None, turns: Turns) -> None:
        name = "" if destination is None else destination.name
        rate = _slow_mib_s(self._settings, name)
        outbox = Outbox(
            self._ledger,
            self._settings,
            {} if destination is None else {name: destination},
            strays=destination is None,
            stop=self._stop,
            step=lambda size_bytes: turns.step(size_bytes / 2**20 / rate),
        )
        while not self._stop.is_set():
            try:
                with turns:
                    outbox.run()
            except StoppedError:
                break
            except Exception as err:  # per-step boundary: the delivery loop goes on
                log.error("the outbox failed: %s; it is tried again", type(err).__name__)
                log.debug("details", exc_info=err)
                self._stop.wait(10 * DELIVERY_SECONDS)
            self._stop.wait(DELIVERY_SECONDS)
        if destination is not None:
            destination.close()


def _slow_mib_s(settings: Settings, name: str) -> float:
    """Return the rate for a destination: half of its `bandwidth_mib_s` where that is less."""
    sections = [each for each in settings.destinations if each.name == name]
    limits: list[float | None] = [getattr(each, "bandwidth_mib_s", None) for each in sections]
    return min([SLOW_MIB_S, *(limit / 2 for limit in limits if limit is not None)])
