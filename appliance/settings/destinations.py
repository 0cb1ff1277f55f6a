"""Settings of destinations: one section type per kind, and the registry of these types."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    model_validator,
)

from appliance.settings.network import Network, Url
from appliance.settings.objects import ObjectKind
from appliance.settings.section import Section, SomePath
from appliance.settings.tls import AeTitle, Host, OverTls, check_host

RESULT_SYSTEM = "urn:tandem:result"
"""System of a result's identifiers where the settings name none."""
DicomSlides = Literal["verify", "send", "trust"]
"""Choices of what a destination is asked about slides that the scanner wrote as DICOM."""


class DestinationSection(Section):
    """Base of the sections of all kinds. A kind narrows `kind` to a Literal of one word."""

    objects: Annotated[tuple[ObjectKind, ...], Field(min_length=1)] | None = None
    """Kinds of objects that are sent there. None: all."""
    kind: str
    """Registered word for the kind of destination."""
    name: str
    """Name of this destination in the ledger, in commands and on the page."""

    @property
    def own_port(self) -> int | None:
        """TCP port that this destination listens on here, if any."""
        return None

    @property
    def signed_only(self) -> bool:
        """Whether nothing is sent there before a person has signed the result."""
        return False

    @property
    def slides_there(self) -> DicomSlides:
        """Return what is done so that the slides that the scanner wrote as DICOM are there."""
        return "trust"

    @model_validator(mode="after")
    def _may_send_slides(self) -> Self:
        if self.slides_there == "send" and "WSM" not in (self.objects or ("WSM",)):
            raise ValueError('dicom_slides = "send" sends slides: add WSM to objects')
        return self


class FolderDestination(DestinationSection):
    """Folder archive with one folder per study."""

    kind: Literal["folder"] = "folder"
    name: str = "archive"
    folder: SomePath | None = None
    """Existing folder for the objects. None: ``archive`` in the state folder, which is made."""
    dicomdir: bool = False
    """Make each study's folder a DICOM file-set: a DICOMDIR, and file names by PS3.10 8.5."""
    geojson: bool = False
    """Beside each structured report its areas as GeoJSON, for QuPath."""
    label_map: bool = False
    """Beside each structured report its label maps as OME-TIFF."""
    only_signed: bool = False
    """Put nothing of a case there before a person has corrected or confirmed its result."""
    dicom_slides: Literal["send", "trust"] = "trust"
    """Slides that the scanner wrote as DICOM. send: copy them into the folder. trust: do not, they
    lie in the scanner's folder."""

    @property
    def signed_only(self) -> bool:
        """The setting `only_signed`."""
        return self.only_signed

    @property
    def slides_there(self) -> DicomSlides:
        """The setting `dicom_slides`."""
        return self.dicom_slides

    @model_validator(mode="after")
    def _has_reports(self) -> Self:
        if (self.geojson or self.label_map) and "SR" not in (self.objects or ("SR",)):
            raise ValueError("geojson and label_map lie beside the report: add SR to objects")
        return self


class NetworkDestination(DestinationSection, Network):
    """Settings that the destinations on the network share."""


class ArchiveDestination(NetworkDestination):
    """Settings that the archives of slides on the network share."""

    dicom_slides: DicomSlides = "verify"
    """Slides that the scanner wrote as DICOM. verify: ask whether they are there, and say so where
    they are not. send: send the scanner's files as they are. trust: neither."""
    only_signed: bool = False
    """Send nothing of a case there before a person has corrected or confirmed its result."""

    @property
    def signed_only(self) -> bool:
        """The setting `only_signed`."""
        return self.only_signed

    @property
    def slides_there(self) -> DicomSlides:
        """The setting `dicom_slides`."""
        return self.dicom_slides


class PacsDestination(ArchiveDestination):
    """PACS that takes C-STORE."""

    kind: Literal["dicom"]
    name: str = "pacs"
    host: Host
    """Name or address of the PACS's machine."""
    port: Annotated[int, Field(gt=0, lt=65536)]
    """TCP port of the PACS."""
    called_aet: AeTitle
    """Application entity title of the PACS."""
    calling_aet: AeTitle = "TANDEM"
    """Own application entity title, as the PACS knows it."""
    tls: bool = False
    """DICOM over TLS; the PACS's certificate must be for `host`."""
    commitment_port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    """Own port for the PACS's storage commitment reports. None: no commitment is requested."""
    commitment_host: Annotated[str, AfterValidator(lambda host: host and check_host(host))] = ""
    """Address that the port is opened on. Empty: all addresses of this machine."""
    dicomweb_url: Url | None = None
    """Base of QIDO-RS, queried where commitment gives no answer. None: C-FIND is used."""

    @property
    def own_port(self) -> int | None:
        """Port of the commitment reports."""
        return self.commitment_port

    @property
    def urls(self) -> tuple[str, ...]:
        """URL of QIDO-RS."""
        return () if self.dicomweb_url is None else (self.dicomweb_url,)


class DicomWebDestination(ArchiveDestination):
    """PACS that takes STOW-RS; QIDO-RS proves."""

    kind: Literal["dicomweb"]
    name: str = "dicomweb"
    url: Url
    """Base of the DICOMweb service."""

    @property
    def urls(self) -> tuple[str, ...]:
        """URL of the service."""
        return (self.url,)


class ResultDestination(DestinationSection):
    """Settings that the laboratory's systems share: they get the result and no DICOM object."""

    before_sign_off: bool = False
    """Send results that no person has signed, too; they are marked as preliminary."""
    contents: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Codes of the structured report's items that are sent, in this order, such as ``85319-2``.
    None: all of the whole slide, in the order of the report."""

    @property
    def signed_only(self) -> bool:
        """Whether nothing is sent there before a person has signed the result."""
        return not self.before_sign_off


class Hl7Destination(ResultDestination, OverTls):
    """Laboratory's system that takes HL7 v2.5.1 over MLLP."""

    kind: Literal["hl7"]
    name: str = "lis"
    host: Host
    """Name or address of the system."""
    port: Annotated[int, Field(gt=0, lt=65536)]
    """Port of its MLLP listener."""
    tls: bool = False
    """MLLP over TLS; the certificate of the system must be for `host`."""
    sending_application: str = "TANDEM"
    """MSH-3 (HD): a name, or ``NAME^UNIVERSAL ID^TYPE``."""
    sending_facility: str = ""
    """MSH-4, as MSH-3."""
    receiving_application: str = ""
    """MSH-5, as MSH-3."""
    receiving_facility: str = ""
    """MSH-6, as MSH-3."""
    processing_id: Literal["P", "T", "D"] = "P"
    """MSH-11: production, training or debugging."""
    message: Literal["ORU^R01", "OUL^R21", "OUL^R22"] = "ORU^R01"
    """Message that a result is sent as: by order, by container or by specimen."""
    filler_number: Literal["result", "order"] = "result"
    """Filler order number of a result (OBR-3, ORC-3): ``result`` is accession, assay and block, so
    that each result has one of its own; ``order`` is that of the order, where it has one."""
    template: SomePath | None = None
    """File with the segments of the message, one a line (docs/lis.md). None: those of `message`."""

    @model_validator(mode="after")
    def _message_is_of_one_place(self) -> Self:
        if self.template is not None and "message" in self.model_fields_set:
            raise ValueError("a template has its own MSH-9: leave out message or template")
        return self


class FhirDestination(ResultDestination, NetworkDestination):
    """Laboratory's system that takes FHIR R4 over HTTP."""

    kind: Literal["fhir"]
    name: str = "fhir"
    url: Url
    """Base of the FHIR service."""
    identifier_system: str = RESULT_SYSTEM
    """System of the identifiers that name a case's result there: one for each installation."""

    @property
    def urls(self) -> tuple[str, ...]:
        """URL of the service."""
        return (self.url,)


_SECTIONS: dict[str, type[DestinationSection]] = {}


def kind_of(section_type: type[DestinationSection]) -> str:
    """Return the word that a section type is registered for.

    Raises
    ------
    TypeError
        If its `kind` is not a Literal of one word.
    """
    words = get_args(section_type.model_fields["kind"].annotation)
    if len(words) != 1 or not isinstance(words[0], str):
        raise TypeError(f"{section_type.__name__}.kind must be a Literal of one word")
    return words[0]


def register_section(section_type: type[DestinationSection]) -> None:
    """Let settings accept the sections of a kind.

    Raises
    ------
    TypeError
        If another section type is registered for the same word.
    """
    word = kind_of(section_type)
    known = _SECTIONS.get(word, section_type)
    # Equal names: the module is imported again after an import that failed half way.
    if (known.__module__, known.__qualname__) != (
        section_type.__module__,
        section_type.__qualname__,
    ):
        raise TypeError(f"two section types for destinations of kind '{word}'")
    _SECTIONS[word] = section_type


def section_types() -> tuple[type[DestinationSection], ...]:
    """Return the section types of all registered kinds."""
    return tuple(_SECTIONS.values())


for _shipped in (
    FolderDestination,
    PacsDestination,
    DicomWebDestination,
    Hl7Destination,
    FhirDestination,
):
    # The kinds that ship are known without their classes, so that settings load quickly.
    register_section(_shipped)


def _validate(value: Any) -> Any:
    """Validate a table by the section type of its kind; a section stays the same object."""
    if isinstance(value, DestinationSection):
        return value
    # Built at each call: extensions register further kinds. The union gives pydantic's own errors,
    # with the key of each problem and the list of known kinds.
    union: Any = reduce(or_, _SECTIONS.values())
    tagged: Any = Annotated[union, Field(discriminator="kind")]
    return TypeAdapter(tagged).validate_python(value)


AnyDestination: TypeAlias = Annotated[
    SerializeAsAny[DestinationSection], BeforeValidator(_validate)
]
"""Section of any registered kind."""
