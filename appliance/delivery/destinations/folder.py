"""Folder archive: one folder per study, one file per object, with or without DICOMDIRs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from appliance.artifacts import becoming, file_sha256, nearest_there
from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    KindCheck,
    Proof,
    destination,
)
from appliance.delivery.destinations.exports import Exports, Result, wanted_exports
from appliance.delivery.destinations.fileset import (
    has_valid_uids,
    is_taken,
    place_in,
    update_directory,
)
from appliance.errors import DestinationUnavailableError, SettingsError
from appliance.settings.destinations import FolderDestination
from appliance.settings.objects import OBJECT_KINDS, ObjectKind
from appliance.settings.settings import Settings
from dicom.directory import NAME
from dicom.status import FILE_GONE, InstanceRef, Outcome, Verdict
from dicom.uids import uid_as_name

PIECE_BYTES = 2**20


class _UnreadableError(Exception):
    """The file that is to be copied cannot be read: the archive is not to blame."""


@destination(FolderDestination)
class FolderArchive:
    """Archive of files that are named by UID: no patient data in names.

    A `folder` that is `ours` is made. Any other must exist: if a mount is away, objects would fill
    this machine's disk and count as proven.
    """

    takes: ClassVar[frozenset[ObjectKind]] = OBJECT_KINDS

    def __init__(
        self, name: str, folder: Path, *, ours: bool, exports: Exports | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self._ours = ours
        self._exports = exports

    @classmethod
    def open(cls, section: FolderDestination, settings: Settings) -> FolderArchive:
        """Make the archive of a section, with DICOMDIRs if the section says so."""
        variant = FileSetArchive if section.dicomdir else FolderArchive
        folder, wanted = settings.archive_dir(section), wanted_exports(section)
        exports = Exports(settings.artifacts_dir, wanted) if wanted else None
        return variant(section.name, folder, ours=section.folder is None, exports=exports)

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Copy each file under a temporary name, then rename it."""
        for instance in instances:
            if not has_valid_uids(instance.ref):
                after(instance, Outcome(verdict=Verdict.NEVER, text="has no valid UID"))
                continue
            if not _is_there(instance.path):
                after(instance, Outcome(verdict=Verdict.LATER, text=FILE_GONE))
                continue
            result = None
            if self._exports is not None:
                try:
                    result = self._readable(self._exports, instance)
                except SettingsError as err:
                    text = f"has no exports: {err}"
                    after(instance, Outcome(verdict=Verdict.NEVER, text=text))
                    continue
                except (ValueError, LookupError):
                    text = "has no readable result for its exports; make it again: tandem rerun"
                    after(instance, Outcome(verdict=Verdict.NEVER, text=text))
                    continue
            self._require()
            before(instance)
            place = self._place(instance.ref)
            outcome = Outcome(verdict=Verdict.STORED)
            with self._translated():
                self._make(place.parent)
                # Before the report: if it is there, its exports are whole.
                if self._exports is not None and result is not None:
                    self._exports.write(result, instance.ref, self.folder)
                try:
                    _copy(place, instance.path)
                except _UnreadableError:
                    outcome = Outcome(verdict=Verdict.LATER, text=FILE_GONE)
            after(instance, outcome)

    def _readable(self, exports: Exports, instance: Instance) -> Result | None:
        try:
            return exports.result_of(instance)
        except FileNotFoundError as err:
            raise LookupError(err) from err
        except OSError as err:  # a disk or share that cannot be read now: tried again
            raise DestinationUnavailableError(
                f"'{self.name}': results cannot be read for the exports: {err.strerror}. "
                "Check the state folder and its disk."
            ) from err

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Compare each file in the archive with the checksum of the object when it was written."""
        self._require()
        return {each.ref.sop_instance_uid: self._answer(each) for each in instances}

    def check(self) -> str:
        """Return the free space; raise DestinationUnavailableError if the folder cannot be used.

        Nothing is made: what root makes the service could not use.
        """
        there = self.folder
        if self._ours:
            try:
                there = nearest_there(there)
            except OSError as err:
                raise DestinationUnavailableError(
                    f"archive folder of '{self.name}': {err}"
                ) from err
            if not os.access(there, os.W_OK | os.X_OK):
                raise DestinationUnavailableError(
                    f"archive folder of '{self.name}', {self.folder}: {there} cannot be written. "
                    "Give Tandem's user the right to write."
                )
        else:
            self._require()
        free_gib = shutil.disk_usage(there).free / 2**30
        return f"folder {self.folder}, {free_gib:.0f} GiB free"

    def kinds(self) -> list[KindCheck]:
        """Return one line: a folder takes everything."""
        return [KindCheck("any object", True, "a folder takes everything")]

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _place(self, ref: InstanceRef) -> Path:
        name = f"{uid_as_name(ref.sop_instance_uid)}.dcm"
        return self.folder / uid_as_name(ref.study_uid) / name

    def _require(self) -> None:
        """Raise DestinationUnavailableError if the folder is not there and is not ours to make."""
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

    def _make(self, folder: Path) -> None:
        """Make a folder below the archive's, which may go away meanwhile.

        The archive itself is not made: its objects would lie on another disk, below the share.
        """
        made = self.folder
        for part in folder.relative_to(self.folder).parts:
            made /= part
            made.mkdir(exist_ok=True)

    @contextmanager
    def _translated(self, done: str = "written") -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise DestinationUnavailableError(
                f"archive folder of '{self.name}' cannot be {done}: {err.strerror}. "
                "Check that it is mounted, writable and not full."
            ) from err

    def _answer(self, instance: Instance) -> Answer:
        """Return the answer on an instance; one file that cannot be read stops no other.

        Raises
        ------
        DestinationUnavailableError
            If the folder of the archive cannot be read either.
        """
        try:
            return self._compare(instance)
        except OSError as err:
            with self._translated("read"), os.scandir(self.folder) as found:
                next(found, None)
            text = f"its file there cannot be read ({err.strerror}). It is asked again."
            return Answer(Proof.UNKNOWN, text)

    def _compare(self, instance: Instance) -> Answer:
        if not has_valid_uids(instance.ref):
            return Answer(Proof.ABSENT, "no valid UID")
        place = self._place(instance.ref)
        if not place.is_file() or not (instance.sha256 or _is_there(instance.path)):
            return Answer(Proof.ABSENT, "no file")
        try:
            expected = instance.sha256 or file_sha256(instance.path)
        except OSError:  # the scanner's share, not the archive
            return Answer(Proof.UNKNOWN, "the scanner's file cannot be read. It is asked again.")
        if file_sha256(place) != expected:
            return Answer(Proof.ABSENT, "other bytes")
        if self._exports is not None and not self._exports.are_there(instance.ref, self.folder):
            return Answer(Proof.ABSENT, "its exports are not there")
        return Answer(Proof.THERE, "by its bytes")


def _is_there(source: Path) -> bool:
    """Return whether the file of an object is there; one on a share that fails is not."""
    try:
        return source.is_file()
    except OSError:
        return False


def _copy(place: Path, source: Path) -> None:
    """Copy a file; it gets its final name only when all of it is on disk.

    Raises
    ------
    _UnreadableError
        If the source cannot be read.
    OSError
        If the place cannot be written.
    """
    with becoming(place) as temporary, temporary.open("wb") as copy:
        for piece in _pieces(source):
            copy.write(piece)


def _pieces(source: Path) -> Iterator[bytes]:
    try:
        with source.open("rb") as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece
    except OSError as err:
        raise _UnreadableError from err


class FileSetArchive(FolderArchive):
    """Archive in which each study's folder is a DICOM file-set with a DICOMDIR (fileset.py)."""

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Copy each file as a plain archive does, then update the DICOMDIRs of the studies."""
        for instance in instances:
            if not has_valid_uids(instance.ref):
                super().send([instance], before, after)
                continue
            place = self._place(instance.ref)
            with self._translated():
                taken = is_taken(place, instance.ref)
            if taken:
                text = (
                    f"has another object at {'/'.join(place.parts[-2:])}, and overwrites none. "
                    "Move it, then retry."
                )
                after(instance, Outcome(verdict=Verdict.NEVER, text=text))
            else:
                super().send([instance], before, after)
        self._update_directories(instances)

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Compare each file with the bytes that were sent, and look it up in the DICOMDIR."""
        self._require()
        listed = self._update_directories(instances)
        answers = super().prove(instances)
        for instance in instances:
            uid = instance.ref.sop_instance_uid
            if answers[uid].proof is Proof.THERE and self._place(instance.ref) not in listed:
                answers[uid] = Answer(Proof.ABSENT, f"not in the {NAME}")
        return answers

    def _place(self, ref: InstanceRef) -> Path:
        return place_in(self.folder, ref)

    def _update_directories(self, instances: Sequence[Instance]) -> set[Path]:
        """Update the DICOMDIRs of the instances' studies; return all files that they list."""
        listed: set[Path] = set()
        with self._translated():
            refs = [each.ref for each in instances if has_valid_uids(each.ref)]
            for study_uid in sorted({ref.study_uid for ref in refs}):
                listed |= update_directory(self.folder, study_uid)
        return listed
