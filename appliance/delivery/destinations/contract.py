"""Contract of a destination: its protocol, the values it exchanges, and the registry of kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from appliance.errors import SettingsError
from appliance.readers.reader import load_installed
from appliance.settings.destinations import DestinationSection, kind_of, register_section
from appliance.settings.objects import ObjectKind
from appliance.settings.settings import Settings
from dicom.status import InstanceRef, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """SOP instance to deliver: its file, and the reference to find it by afterwards.

    `sha256` (hex) is the checksum of the file as it was written; empty where it is not known.
    """

    path: Path
    ref: InstanceRef
    sha256: str = ""

    @property
    def size_bytes(self) -> int:
        """Size of the file; 0 where it cannot be seen."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


class Proof(StrEnum):
    """Statement of a destination about an instance."""

    THERE = "there"
    ABSENT = "absent"
    ELSEWHERE = "elsewhere"  #: in another study than it was sent in
    UNKNOWN = "unknown"  #: the destination cannot say
    FAILED = "failed"  #: the question about this instance failed, others are answered


@dataclass(frozen=True, slots=True)
class Answer:
    """Proof of one instance; `text` names the way of proof, or why there is none."""

    proof: Proof
    text: str


@dataclass(frozen=True, slots=True)
class KindCheck:
    """One line of ``tandem doctor --pacs``; `ok` is None for what cannot be asked."""

    title: str
    ok: bool | None
    text: str


Before = Callable[[Instance], None]
After = Callable[[Instance, Outcome], None]


class Destination(Protocol):
    """Place that objects are delivered to. tests/fixtures/conformance.py tests the contract."""

    takes: ClassVar[frozenset[ObjectKind]]
    """Kinds of objects that this kind of destination can hold. Others are not queued for it."""

    name: str

    @classmethod
    def open(cls, section: Any, settings: Settings) -> Destination:
        """Make the destination of a section of the settings.

        `section` is of the registered section type. Nothing is connected or written yet.
        """
        ...

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Send instances in order; a failed instance does not keep the next from being sent.

        `before` is called just before an instance is sent, `after` with its outcome. An instance
        that is refused without being sent has only an `after`.

        Raises
        ------
        DestinationUnavailableError
            If the fault is the destination's. An instance that had no `after` is looked for before
            it is sent again.
        DestinationRejectedError
            If the destination refuses this appliance, whatever the instance.
        """
        ...

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Return one answer per instance, by SOP Instance UID.

        Raises
        ------
        DestinationUnavailableError
            If the destination cannot be asked.
        """
        ...

    def check(self) -> str:
        """Return one line for ``tandem doctor``; raise TandemError if something is wrong."""
        ...

    def kinds(self) -> list[KindCheck]:
        """Return which kinds of objects are taken, as far as that shows without sending one.

        Raises
        ------
        TandemError
            If the destination cannot be asked.
        """
        ...

    def close(self) -> None:
        """Close ports and connections. A second call does nothing."""
        ...


D = TypeVar("D", bound=Destination)
_CLASSES: dict[str, type[Destination]] = {}


def destination(section_type: type[DestinationSection]) -> Callable[[type[D]], type[D]]:
    """Register a class for the `kind` of a section type.

    Raises
    ------
    TypeError
        If another section type is registered for the same kind.
    """

    def register(made: type[D]) -> type[D]:
        register_section(section_type)
        _CLASSES[kind_of(section_type)] = made
        return made

    return register


def open_destination(settings: Settings, section: DestinationSection) -> Destination:
    """Open the destination of a section of the settings.

    Raises
    ------
    SettingsError
        If no class is registered for its kind, or it is to receive objects that it cannot hold.
    """
    made = _class_of(section)
    refused = sorted(set(section.objects or ()) - made.takes)
    if refused:
        raise SettingsError(
            f"destination '{section.name}' cannot hold {', '.join(refused)}: a destination of kind "
            f"'{section.kind}' takes {', '.join(sorted(made.takes))}. Correct its objects."
        )
    return made.open(section, settings)


def wants(section: DestinationSection, kind: str) -> bool:
    """Return whether a destination gets objects of a kind: it can hold them, and lists them.

    Raises
    ------
    SettingsError
        If no class is registered for the kind of destination.
    """
    listed = section.objects is None or kind in section.objects
    return listed and kind in _class_of(section).takes


def _class_of(section: DestinationSection) -> type[Destination]:
    load_installed()
    try:
        return _CLASSES[section.kind]
    except KeyError:
        known = ", ".join(sorted(_CLASSES))
        raise SettingsError(
            f"destination '{section.name}': no destination of kind '{section.kind}' is installed; "
            f"known kinds: {known}. Add its module to extensions."
        ) from None
