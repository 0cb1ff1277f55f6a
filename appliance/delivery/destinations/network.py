"""Destinations on the network: a PACS over DIMSE, and one over DICOMweb."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Destination,
    FolderArchive,
    Instance,
    KindCheck,
    Proof,
)
from appliance.delivery.destinations.fileset import FileSetArchive
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.settings.settings import Destination as Section
from appliance.settings.settings import (
    DicomWebDestination,
    FolderDestination,
    OverTls,
    PacsDestination,
    Settings,
)
from dicom import dicomweb, pacs
from dicom.association import Kind, PacsAddress, title_of
from dicom.commitment import Commitment
from dicom.dicomweb import Secret, WebAddress
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.kinds import SENT_KINDS, sent_kinds
from dicom.status import InstanceRef
from dicom.tls import TlsFiles

NOBODY = InstanceRef(
    study_uid="2.25.1", series_uid="2.25.1", sop_instance_uid="2.25.1", sop_class_uid=""
)
"""An instance that is nowhere, for the doctor to ask for."""

Ask = Callable[[Sequence[InstanceRef]], dict[str, bool]]
"""A way of asking: what it knows to be there, and what not; on the rest it has no word."""


def open_destination(settings: Settings, section: Section) -> Destination:
    """The destination of a section of the settings."""
    match section:
        case FolderDestination():
            folder = settings.archive_dir(section)
            archive = FileSetArchive if section.dicomdir else FolderArchive
            return archive(section.name, folder, ours=section.folder is None)
        case PacsDestination():
            return Pacs(section, sent_kinds(labelmap=settings.objects.segmentation == "labelmap"))
        case DicomWebDestination():
            return DicomWeb(section)


class Pacs:
    """A PACS over C-STORE, proven by storage commitment, else QIDO-RS, else C-FIND."""

    def __init__(self, section: PacsDestination, kinds: Sequence[Kind] = SENT_KINDS) -> None:
        self.name = section.name
        self._kinds = kinds
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
            self._ways["QIDO-RS"] = _by_query(_web(section, section.dicomweb_url))
        else:
            self._ways["C-FIND"] = self._find

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """As few associations as the objects' kinds allow."""
        by_path = {instance.path: instance for instance in instances}
        with _translated(self.name):
            pacs.store(
                self.address,
                list(by_path),
                before=lambda path: before(by_path[path]),
                after=lambda path, outcome: after(by_path[path], outcome),
            )

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Asks the ways in order, each for what those before it had no word on."""
        return _prove(self.name, instances, self._ways)

    def check(self) -> str:
        """C-ECHO, and each way of proof."""
        with _translated(self.name):
            pacs.echo(self.address)
            ways = self._check_ways()
        return (
            f"C-ECHO answered at {self.address.host}:{self.address.port}"
            f"{', TLS' if self.address.tls else ''}, proof by {', else '.join(ways)}"
        )

    def _check_ways(self) -> list[str]:
        """Those that work. C-FIND, which nobody has set, may fail where there is commitment."""
        ways = list(self._ways)
        if self._commitment is not None:
            self._commitment.check()
        try:
            self._ways[ways[-1]]([NOBODY])
        except PacsRejectedError:
            if ways != ["storage commitment", "C-FIND"]:
                raise
            ways.pop()
        return ways

    def kinds(self) -> list[KindCheck]:
        """Proposed in an association; nothing is sent."""
        with _translated(self.name):
            taken = pacs.probe(self.address, self._kinds)
        remedy = (
            f"Allow it in the PACS for {self.address.calling_aet}, or leave it out by `objects`."
        )
        return [KindCheck(_title(kind), ok, "" if ok else remedy) for kind, ok in taken.items()]

    def close(self) -> None:
        """Close the port of the commitment reports."""
        if self._commitment is not None:
            self._commitment.close()

    def _find(self, refs: Sequence[InstanceRef]) -> dict[str, bool]:
        found = pacs.find_instances(self.address, refs)
        return {ref.sop_instance_uid: ref.sop_instance_uid in found for ref in refs}


class DicomWeb:
    """A PACS over STOW-RS, proven by QIDO-RS."""

    def __init__(self, section: DicomWebDestination) -> None:
        self.name = section.name
        self.address = _web(section, section.url)
        self._ways = {"QIDO-RS": _by_query(self.address)}

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """One request per object."""
        by_path = {instance.path: instance for instance in instances}
        with _translated(self.name):
            dicomweb.stow(
                self.address,
                [(instance.ref, instance.path) for instance in instances],
                before=lambda path: before(by_path[path]),
                after=lambda path, outcome: after(by_path[path], outcome),
            )

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """QIDO-RS at the same url."""
        return _prove(self.name, instances, self._ways)

    def check(self) -> str:
        """A query of at most one study."""
        with _translated(self.name):
            dicomweb.check_query(self.address)
        return f"QIDO-RS answered at {self.address.url}"

    def kinds(self) -> list[KindCheck]:
        """STOW-RS negotiates nothing: only whether the service and the secret are right."""
        with _translated(self.name):
            text = dicomweb.check_stow(self.address)
        return [KindCheck("any object", True, text)]

    def close(self) -> None:
        """Nothing is open."""


def _prove(name: str, instances: Sequence[Instance], ways: dict[str, Ask]) -> dict[str, Answer]:
    left = [instance.ref for instance in instances]
    answers: dict[str, Answer] = {}
    troubles: list[str] = []
    unavailable = False
    for way, ask in ways.items():
        try:
            said = ask(left)
        except (PacsUnavailableError, PacsRejectedError) as err:
            unavailable |= isinstance(err, PacsUnavailableError)
            troubles.append(str(err))
            continue
        for uid, there in said.items():
            answers[uid] = Answer(Proof.THERE if there else Proof.ABSENT, f"by {way}")
        left = [ref for ref in left if ref.sop_instance_uid not in said]
        if not left:
            return answers
        troubles.append(f"no word yet by {way}")
    if unavailable and not answers:
        raise DestinationUnavailableError(f"'{name}': {'; '.join(troubles)}")
    why = f"{'; '.join(troubles)}. It is asked again."
    return answers | {ref.sop_instance_uid: Answer(Proof.UNKNOWN, why) for ref in left}


def _by_query(address: WebAddress) -> Ask:
    def ask(refs: Sequence[InstanceRef]) -> dict[str, bool]:
        found = dicomweb.find_instances(address, refs)
        return {ref.sop_instance_uid: ref.sop_instance_uid in found for ref in refs}

    return ask


def tls_files(section: OverTls) -> TlsFiles:
    """The TLS files of a section of the settings."""
    return TlsFiles(ca=section.ca_file, certificate=section.certificate, key=section.key)


def _web(section: PacsDestination | DicomWebDestination, url: str) -> WebAddress:
    named = section.secret_file is not None or section.secret_env is not None
    return WebAddress(
        url=url,
        timeout_s=section.timeout_seconds,
        tls=tls_files(section),
        user=section.user,
        secret=Secret(file=section.secret_file, variable=section.secret_env) if named else None,
        mib_s=section.bandwidth_mib_s,
    )


def _title(kind: Kind) -> str:
    sop_class, syntax = kind
    return f"{title_of(sop_class)} as {title_of(str(syntax))}"


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except PacsUnavailableError as err:
        raise DestinationUnavailableError(f"'{name}': {err}") from err
    except PacsRejectedError as err:
        raise DestinationRejectedError(f"'{name}': {err}") from err
