"""Settings of work items: cases that a PACS asks for (UPS-RS), whose slides it holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from appliance.settings.network import Network, Url
from appliance.settings.section import SomePath


class WorkItems(Network):
    """DICOM web work list: items are claimed, their slides fetched, their outcome reported.

    The secret, if there is one, is sent to `url` and `retrieve_url` alone.
    """

    url: Url
    """Base of UPS-RS: work items lie at ``<url>/workitems``."""
    retrieve_url: Url | None = None
    """Base of WADO-RS, from which slides are fetched. None: `url`. A work item may name another
    path on one of these two servers, and no other server."""
    folder: SomePath
    """Folder for the fetched slides, which Tandem writes. Name it among ``watch.folders`` too:
    slides are taken up from there as from a scanner's folder."""
    station: Annotated[str, Field(min_length=1, max_length=16)] = "TANDEM"
    """Own code as a station. Items that are scheduled for other stations are left alone."""
    codes: tuple[str, ...] = ()
    """Code values of work items that are taken. Empty: all."""
    poll_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Period at which the server is asked."""
    patience_hours: Annotated[float, Field(gt=0)] = 72.0
    """Time after the claim at which an item that did not end is canceled. The slides stay, and a
    result that comes later is delivered as any other."""

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs that the secret is sent to."""
        return (self.url,) if self.retrieve_url is None else (self.url, self.retrieve_url)
