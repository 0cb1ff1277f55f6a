"""Settings of the service that reads one slide at a time for programs on this machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settings.section import Section, SomePath


class ReadService(Section):
    """Service of ``tandem read-service`` on 127.0.0.1; without this section it does not start."""

    token_file: SomePath
    """File that holds the token which each request has to show (``Authorization: Bearer …``)."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8502
    """Port on 127.0.0.1. No other machine reaches it."""
    largest_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 4.0
    """Largest slide that is taken by upload, in GiB."""
    waiting: Annotated[int, Field(ge=0)] = 8
    """Requests that wait while a slide is read; a further one is told to come back."""
