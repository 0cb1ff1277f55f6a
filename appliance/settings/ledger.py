"""Settings of the ledger: its backups."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settings.section import Section


class LedgerSettings(Section):
    """Backups of the ledger, in ``backups/`` of the state folder."""

    backup_hours: Annotated[float, Field(gt=0)] = 24.0
    """Age of the newest backup at which the daemon makes another one. What people corrected since
    then is what a damaged disk can cost."""
    backup_hour: Annotated[int, Field(ge=0, le=23)] = 2
    """Hour of the day, by the machine's local time, from which the day's backup is due: when nobody
    works. A machine that was off then makes it after its start."""
    keep_backups: Annotated[int, Field(ge=1)] = 7
    """Number of backups that are kept, the newest ones. Each is as large as the ledger: some 5 kB
    for a case. The newest one of an earlier schema stays beside them."""
