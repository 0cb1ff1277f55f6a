"""Settings of the hospital's audit record repository."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settings.tls import Host, OverTls


class Audit(OverTls):
    """Audit record repository of the hospital (IHE ATNA), by syslog over TLS. Off without
    ``[audit]``.

    It is told who signed in, who opened, changed or confirmed which case, and what was delivered
    where. Messages name patients by their ID: this is the hospital's own record of access.
    """

    host: Host
    """Name or address of the repository; its certificate must be for it."""
    port: Annotated[int, Field(gt=0, lt=65536)] = 6514
    """Port of syslog over TLS (RFC 5425)."""
    source: Annotated[str, Field(min_length=1, max_length=64)] = "tandem"
    """Name of this installation in the messages (AuditSourceID)."""
