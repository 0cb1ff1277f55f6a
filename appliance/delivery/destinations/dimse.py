"""PACS over DIMSE: C-STORE sends; storage commitment, QIDO-RS or C-FIND prove."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    KindCheck,
    Proof,
    destination,
)
from appliance.delivery.destinations.network import (
    Ask,
    by_query,
    prove_by,
    tls_files,
    translated,
    web_address,
)
from appliance.settings.destinations import PacsDestination
from appliance.settings.objects import OBJECT_KINDS, ObjectKind
from appliance.settings.settings import Settings
from dicom import pacs
from dicom.association import Kind, PacsAddress, title_of
from dicom.commitment import Commitment
from dicom.errors import PacsRejectedError
from dicom.kinds import SENT_KINDS, sent_kinds
from dicom.status import NOBODY

OF_SCANNERS = KindCheck(
    "Slides as their scanner wrote them (dicom_slides = send)",
    None,
    "Their transfer syntaxes are the scanner's: the first slide that is sent shows it.",
)


@destination(PacsDestination)
class Pacs:
    """PACS over C-STORE, proven by storage commitment, else QIDO-RS, else C-FIND."""

    takes: ClassVar[frozenset[ObjectKind]] = OBJECT_KINDS

    def __init__(self, section: PacsDestination, kinds: Sequence[Kind] = SENT_KINDS) -> None:
        self.name = section.name
        self._kinds, self._slides_there = kinds, section.slides_there
        self.address = PacsAddress(
            host=section.host,
            port=section.port,
            called_aet=section.called_aet,
            calling_aet=section.calling_aet,
            timeout_s=section.timeout_seconds,
            tls=tls_files(section) if section.tls else None,
            mib_s=section.bandwidth_mib_s,
        )
        self._commitment: Commitment | None = None
        self._ways: dict[str, Ask] = {}
        if section.commitment_port is not None:
            self._commitment = Commitment(
                self.address, section.commitment_port, section.commitment_host
            )
            self._ways["storage commitment"] = self._commitment.ask
        if section.dicomweb_url is not None:
            self._ways["QIDO-RS"] = by_query(web_address(section, section.dicomweb_url))
        else:
            self._ways["C-FIND"] = partial(pacs.find_instances, self.address)

    @classmethod
    def open(cls, section: PacsDestination, settings: Settings) -> Self:
        """Make the destination of a section; `kinds` asks for the objects that settings write."""
        written = settings.objects
        kinds = sent_kinds(
            labelmap=written.segmentation == "labelmap", notes=written.rejection_note != "none"
        )
        return cls(section, kinds)

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Send over as few associations as the objects' kinds allow."""
        by_path = {instance.path: instance for instance in instances}

        def begin(path: Path) -> None:
            before(by_path[path])
            if self._commitment is not None:
                self._commitment.forget(by_path[path].ref.sop_instance_uid)

        with translated(self.name):
            pacs.store(
                self.address,
                list(by_path),
                before=begin,
                after=lambda path, outcome: after(by_path[path], outcome),
            )

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Ask the ways of proof in order, each for what those before gave no answer on."""
        answers = prove_by(self._ways, self.name, instances)
        if self._commitment is not None:
            # One that is found absent may be sent again, or a late report may prove it.
            for uid, answer in answers.items():
                if answer.proof is Proof.THERE:
                    self._commitment.forget(uid)
        return answers

    def check(self) -> str:
        """Send a C-ECHO, and try each way of proof."""
        with translated(self.name):
            pacs.echo(self.address)
            ways = self._check_ways()
        return (
            f"C-ECHO answered at {self.address.host}:{self.address.port}"
            f"{', TLS' if self.address.tls else ''}, proof by {', else '.join(ways)}{self._deaf()}"
        )

    def _deaf(self) -> str:
        """Return a warning where no report can come by a connection to our port."""
        tls = self.address.tls
        if self._commitment is None or tls is None or tls.certificate is not None:
            return ""
        return (
            "; warning: over TLS no report can come to commitment_port, as Tandem has no "
            "certificate to show there: set certificate and key"
        )

    def _check_ways(self) -> list[str]:
        """Return the ways that work.

        C-FIND is the default and not a choice of the site: it may fail if there is commitment.
        """
        ways = list(self._ways)
        if self._commitment is not None:
            self._commitment.check()
        try:
            for said in self._ways[ways[-1]]([NOBODY]).values():
                if isinstance(said, str):
                    raise PacsRejectedError(said)
        except PacsRejectedError:
            if ways != ["storage commitment", "C-FIND"]:
                raise
            ways.pop()
        return ways

    def kinds(self) -> list[KindCheck]:
        """Propose all kinds in an association; nothing is sent."""
        with translated(self.name):
            taken = pacs.probe(self.address, self._kinds)
        remedy = (
            f"Allow it in the PACS for {self.address.calling_aet}, or leave it out by `objects`."
        )
        checks = [
            KindCheck(_title(kind if way is None else way), way is not None, "" if way else remedy)
            for kind, way in taken.items()
        ]
        return checks if self._slides_there != "send" else [*checks, OF_SCANNERS]

    def close(self) -> None:
        """Close the port of the commitment reports."""
        if self._commitment is not None:
            self._commitment.close()


def _title(kind: Kind) -> str:
    sop_class, syntax = kind
    return f"{title_of(sop_class)} as {title_of(str(syntax))}"
