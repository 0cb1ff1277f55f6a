"""Settings of delivery: retries."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settings.section import Section


class Delivery(Section):
    """Retries of delivery."""

    first_retry_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Wait after the first failure. It doubles with each failure, plus or minus a quarter."""
    last_retry_seconds: Annotated[float, Field(gt=0)] = 900.0
    """Longest wait between two attempts; ``inf``: each is twice the one before."""
    most_attempts: Annotated[int, Field(ge=1)] = 300
    """Attempts to send an object before it counts as refused (some three days). An unavailable
    destination costs no attempt."""
