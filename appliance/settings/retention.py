"""Settings of retention: how long working data of finished cases stay on disk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settings.section import Section


class Retention(Section):
    """Removal of working data of finished cases: overviews, readings, maps, converted slides.

    A case is finished when each of its objects is proven at its destination. Its findings, its
    DICOM results and the headers of its slides stay, so that it can be corrected and proven.
    """

    keep_days: Annotated[float, Field(ge=1)] = 30.0
    """Days after the last change of a finished case for which its working data stay. A rescan or a
    rerun within them reads no slide that did not change."""
    hour: Annotated[int, Field(ge=0, le=23)] = 3
    """Hour of the day, by the machine's local time, from which the daemon removes what is over.
    It comes after ``ledger.backup_hour``."""
    free_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 20.0
    """Free space in GiB of the state folder below which working data go before their days are over,
    the oldest first, until so much is free; those of the last day stay. 0: never."""
    only_signed: bool = False
    """Whether a case counts as finished only after a person corrected or confirmed it."""
