"""PACS over DICOMweb: STOW-RS sends, QIDO-RS proves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    KindCheck,
    destination,
)
from appliance.delivery.destinations.network import by_query, prove_by, translated, web_address
from appliance.settings.destinations import DicomWebDestination
from appliance.settings.objects import OBJECT_KINDS, ObjectKind
from appliance.settings.settings import Settings
from dicom import dicomweb


@destination(DicomWebDestination)
class DicomWeb:
    """PACS over STOW-RS, proven by QIDO-RS at the same url."""

    takes: ClassVar[frozenset[ObjectKind]] = OBJECT_KINDS

    def __init__(self, section: DicomWebDestination) -> None:
        self.name = section.name
        self.address = web_address(section, section.url)
        self._ways = {"QIDO-RS": by_query(self.address)}

    @classmethod
    def open(cls, section: DicomWebDestination, settings: Settings) -> Self:
        """Make the destination of a section; of `settings` nothing is used."""
        return cls(section)

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Send one request per object."""
        by_path = {instance.path: instance for instance in instances}
        with translated(self.name):
            dicomweb.stow(
                self.address,
                [(instance.ref, instance.path) for instance in instances],
                before=lambda path: before(by_path[path]),
                after=lambda path, outcome: after(by_path[path], outcome),
            )

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Query QIDO-RS for each instance."""
        return prove_by(self._ways, self.name, instances)

    def check(self) -> str:
        """Query at most one study."""
        with translated(self.name):
            dicomweb.check_query(self.address)
        return f"QIDO-RS answered at {self.address.url}"

    def kinds(self) -> list[KindCheck]:
        """Check that STOW-RS is there and accepts the secret; it negotiates no kinds."""
        with translated(self.name):
            text = dicomweb.check_stow(self.address)
        return [KindCheck("any object", True, text)]

    def close(self) -> None:
        """Do nothing: no connection stays open between requests."""
