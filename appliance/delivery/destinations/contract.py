"""Where objects go, and what delivery asks of each place. Here: the folder archive."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from appliance.artifacts import copy_whole
from appliance.errors import DestinationUnavailableError
from dicom.status import InstanceRef, Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One object on its way: the file and what must be found afterwards."""

    path: Path
    ref: InstanceRef


class Proof(StrEnum):
    """What a destination says of an object."""

    THERE = "there"
    ABSENT = "absent"
    UNKNOWN = "unknown"  #: nobody there can say


@dataclass(frozen=True, slots=True)
class Answer:
    """A destination's word on an object; `text`: who said it, or why nobody can."""

    proof: Proof
    text: str


@dataclass(frozen=True, slots=True)
class KindCheck:
    """One line of ``tandem doctor --pacs``."""

    title: str
    ok: bool
    text: str


Before = Callable[[Instance], None]
After = Callable[[Instance, Outcome], None]


class Destination(Protocol):
    """What delivery needs of a destination."""

    name: str

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Hand over instances in order; no instance's trouble keeps the next from being sent.

        `before` is called when a instance is about to go, `after` with what became of it. Raises
        DestinationUnavailableError where the trouble is the destination's; what had no `after` was
        not sent.
        """
        ...

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """What it says of each, by SOP Instance UID. Raises DestinationUnavailableError."""
        ...

    def check(self) -> str:
        """One line for ``tandem doctor``; raises TandemError on trouble."""
        ...

    def kinds(self) -> list[KindCheck]:
        """Which kinds of objects it takes, as far as that can be known without sending one.

        Raises TandemError.
        """
        ...

    def close(self) -> None:
        """Give back ports."""
        ...


class FolderArchive:
    """One folder per study, one file per object, named by UID: no patient data in names.

    A `folder` that is `ours` is made; any other must be there: in place of a mount that is away
    objects would fill this machine's disk, and count as proven.
    """

    def __init__(self, name: str, folder: Path, *, ours: bool) -> None:
        self.name = name
        self.folder = folder
        self._ours = ours

    def _require(self) -> None:
        try:
            if self._ours:
                self.folder.mkdir(parents=True, exist_ok=True)
            there = self.folder.is_dir()
        except OSError as err:
            raise DestinationUnavailableError(f"{self.folder}: {err.strerror}") from err
        if not there:
            raise DestinationUnavailableError(
                f"archive folder of '{self.name}', {self.folder}, is not there. Create it, or "
                "mount it."
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise DestinationUnavailableError(
                f"archive folder of '{self.name}' cannot be written: {err.strerror}. "
                "Check that it is mounted, writable and not full."
            ) from err

    def _place(self, instance: Instance) -> Path:
        return self.folder / instance.ref.study_uid / f"{instance.ref.sop_instance_uid}.dcm"

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Copy each file under a temporary name, then rename it."""
        for instance in instances:
            if not instance.path.is_file():
                after(instance, Outcome(verdict=Verdict.NEVER, text="is no file any more"))
                continue
            self._require()
            before(instance)
            with self._translated():
                copy_whole(self._place(instance), instance.path)
            after(instance, Outcome(verdict=Verdict.STORED))

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Whether each file is there with the very bytes that were sent."""
        self._require()
        return {instance.ref.sop_instance_uid: self._compare(instance) for instance in instances}

    def _compare(self, instance: Instance) -> Answer:
        place = self._place(instance)
        if not place.is_file() or not instance.path.is_file():
            return Answer(Proof.ABSENT, "no file")
        if _digest(place) != _digest(instance.path):
            return Answer(Proof.ABSENT, "other bytes")
        return Answer(Proof.THERE, "by its bytes")

    def check(self) -> str:
        """Free space of the folder; raises DestinationUnavailableError where it is not there."""
        self._require()
        free = shutil.disk_usage(self.folder).free / 2**30
        return f"folder {self.folder}, {free:.0f} GiB free"

    def kinds(self) -> list[KindCheck]:
        """A folder takes everything."""
        return [KindCheck("any object", True, "a folder takes everything")]

    def close(self) -> None:
        """Nothing is open."""


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
