"""Where objects go: a folder archive or a PACS. Both answer the same two questions."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appliance.artifacts import write_whole
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.settings import FolderDestination, PacsDestination, Settings
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.pacs import PacsAddress, echo, find_instance, store


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One object on its way: the file and where it must be found afterwards."""

    path: Path
    study_uid: str
    series_uid: str
    sop_instance_uid: str


class Destination(Protocol):
    """What delivery needs of a destination."""

    name: str

    def send(self, parcels: Sequence[Parcel], sent: Callable[[Parcel], None]) -> None:
        """Hand over parcels in order, calling `sent` after each that was accepted.

        Raises DestinationUnavailableError (later) or DestinationRejectedError (never).
        """
        ...

    def has(self, parcel: Parcel) -> bool:
        """Proof: whether the object is there now. Raises DestinationUnavailableError."""
        ...

    def check(self) -> str:
        """One line for ``tandem doctor``; raises TandemError on trouble."""
        ...


class FolderArchive:
    """One folder per study, one file per object, named by UID: no patient data in names."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def _place(self, parcel: Parcel) -> Path:
        return self.folder / parcel.study_uid / f"{parcel.sop_instance_uid}.dcm"

    def send(self, parcels: Sequence[Parcel], sent: Callable[[Parcel], None]) -> None:
        """Copy each file under a temporary name, then rename it."""
        for parcel in parcels:
            try:
                write_whole(self._place(parcel), parcel.path.read_bytes())
            except OSError as err:
                raise DestinationUnavailableError(
                    f"archive folder of '{self.name}' cannot be written: {err.strerror}. "
                    "Check that it is mounted, writable and not full."
                ) from err
            sent(parcel)

    def has(self, parcel: Parcel) -> bool:
        """Whether the file is there with the very bytes that were sent."""
        place = self._place(parcel)
        return place.is_file() and _digest(place) == _digest(parcel.path)

    def check(self) -> str:
        """Free space of the folder; raises DestinationUnavailableError where it cannot be made."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free / 2**30
        except OSError as err:
            raise DestinationUnavailableError(f"{self.folder}: {err.strerror}") from err
        return f"folder {self.folder}, {free:.0f} GiB free"


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


class Pacs:
    """A PACS over C-STORE, proven by QIDO or C-FIND."""

    def __init__(self, settings: PacsDestination) -> None:
        self.name = settings.name
        self.address = PacsAddress(
            host=settings.host,
            port=settings.port,
            called_aet=settings.called_aet,
            calling_aet=settings.calling_aet,
            timeout_s=settings.timeout_seconds,
            dicomweb_url=settings.dicomweb_url,
        )

    def send(self, parcels: Sequence[Parcel], sent: Callable[[Parcel], None]) -> None:
        """One association for all parcels."""
        by_path = {parcel.path: parcel for parcel in parcels}
        try:
            store(
                self.address,
                list(by_path),
                on_stored=lambda path, _status: sent(by_path[path]),
            )
        except PacsUnavailableError as err:
            raise DestinationUnavailableError(f"PACS '{self.name}': {err}") from err
        except PacsRejectedError as err:
            raise DestinationRejectedError(f"PACS '{self.name}': {err}") from err

    def has(self, parcel: Parcel) -> bool:
        """Whether a query finds the instance."""
        try:
            return find_instance(
                self.address,
                study_uid=parcel.study_uid,
                series_uid=parcel.series_uid,
                sop_instance_uid=parcel.sop_instance_uid,
            )
        except PacsUnavailableError as err:
            raise DestinationUnavailableError(f"PACS '{self.name}': {err}") from err
        except PacsRejectedError as err:
            raise DestinationRejectedError(f"PACS '{self.name}': {err}") from err

    def check(self) -> str:
        """C-ECHO."""
        try:
            echo(self.address)
        except PacsUnavailableError as err:
            raise DestinationUnavailableError(str(err)) from err
        except PacsRejectedError as err:
            raise DestinationRejectedError(str(err)) from err
        proof = "QIDO" if self.address.dicomweb_url else "C-FIND"
        return f"C-ECHO answered at {self.address.host}:{self.address.port}, proof by {proof}"


def open_destination(
    settings: Settings, destination: FolderDestination | PacsDestination
) -> Destination:
    """The destination of a section of the settings."""
    if isinstance(destination, FolderDestination):
        return FolderArchive(destination.name, settings.archive_dir(destination))
    return Pacs(destination)
