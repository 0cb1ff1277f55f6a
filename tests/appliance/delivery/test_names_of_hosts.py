"""Names that no machine answers to: the other side is away, and no slide or object is to blame."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from appliance.delivery.orders import ask_orders
from appliance.errors import DestinationUnavailableError, WorklistUnavailableError
from appliance.operations.doctor import check_destination
from appliance.settings.destinations import Hl7Destination, PacsDestination
from appliance.settings.settings import Settings
from appliance.settings.tls import Worklist
from dicom.association import PacsAddress
from dicom.audit import AuditServer
from dicom.errors import PacsUnavailableError
from dicom.pacs import echo
from dicom.tls import TlsFiles

NO_ADDRESS = ".".join(["x" * 60] * 6)
"""Well-formed name that resolvers refuse without a query, as all names while DNS is away."""
NO_NAME = "ris..lab"


def test_a_worklist_without_address_holds_the_slide(tmp_path: Path) -> None:
    worklist = Worklist(host=NO_ADDRESS, port=104, called_aet="RIS")
    with pytest.raises(WorklistUnavailableError, match="cannot be reached"):
        ask_orders("S26-1", Settings(state_dir=tmp_path, worklist=worklist))


def test_a_pacs_without_address_is_away() -> None:
    pacs = PacsDestination(kind="dicom", host=NO_ADDRESS, port=104, called_aet="PACS")
    with pytest.raises(DestinationUnavailableError, match=r"'pacs'.*check host"):
        check_destination(Settings(), pacs)


@pytest.mark.parametrize(
    ("host", "title"), [(NO_NAME, "PACS"), ("127.0.0.1", "PÄCS"), ("127.0.0.1", "A\\B")]
)
def test_a_name_that_settings_would_refuse_is_away_on_the_wire(host: str, title: str) -> None:
    with pytest.raises(PacsUnavailableError, match="cannot be reached"):
        echo(PacsAddress(host=host, port=104, called_aet=title))
    section = Hl7Destination(kind="hl7", host="lis", port=1).model_copy(update={"host": NO_NAME})
    with pytest.raises(DestinationUnavailableError, match="cannot be reached"):
        check_destination(Settings(), section)
    with (
        closing(AuditServer(NO_NAME, 6514, TlsFiles(), 1.0)) as server,
        pytest.raises(PacsUnavailableError, match="audit server"),
    ):
        server.connect()
