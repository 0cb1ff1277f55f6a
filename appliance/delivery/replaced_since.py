"""Results that a later one replaced before the ledger was restored from a backup.

A laboratory's system keeps the last result that it gets, and cannot be asked which one that is. A
restored ledger knows the former result alone; the artifacts, which no restore touches, know both.
"""

from __future__ import annotations

import json
from contextlib import suppress

from appliance.delivery.index import INDEX_NAME
from appliance.ledger.ledger import Ledger
from appliance.ledger.tables import DeliveryRow
from appliance.settings.destinations import ResultDestination
from appliance.settings.settings import Settings

REPLACED_SINCE = "replaced-since"
"""Code of the trouble of such a result; words of kind ``delivery``."""


class ReplacedSince:
    """Results that were replaced, as the artifacts say; they are listed once, at the first ask."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger, self._settings = ledger, settings
        self._results = {
            each.name for each in settings.destinations if isinstance(each, ResultDestination)
        }
        self._known: frozenset[str] | None = None

    def holds(self, row: DeliveryRow) -> bool:
        """Return whether a laboratory's system may have a later result than this one."""
        if row.destination not in self._results:
            return False
        if self._known is None:
            self._known = self._listed()
        return row.sop_instance_uid in self._known

    def _listed(self) -> frozenset[str]:
        with self._ledger.transaction() as tx:
            if not tx.was_restored():
                return frozenset()
        found: set[str] = set()
        for index in (self._settings.artifacts_dir / "objects").glob(f"*/{INDEX_NAME}"):
            with suppress(OSError, ValueError):  # damaged ones are told where they are used
                found |= set(json.loads(index.read_text()).get("retired", ()))
        return frozenset(found)
