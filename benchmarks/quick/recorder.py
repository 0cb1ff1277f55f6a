"""A destination that keeps objects in a folder and notes each store in a file.

A trial makes it misbehave: a word in the file beside the shelf that `mood_file` names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from appliance.artifacts import copy_whole, file_sha256
from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    Instance,
    KindCheck,
    Proof,
    destination,
)
from appliance.errors import DestinationRejectedError, DestinationUnavailableError
from appliance.settings.destinations import DestinationSection
from appliance.settings.objects import OBJECT_KINDS, ObjectKind
from appliance.settings.settings import Settings
from dicom.status import Outcome, Verdict

RECORD_NAME = "stores.jsonl"
LOSES, SILENT, HANGS = "loses", "silent", "hangs"
MOODS = (LOSES, SILENT, HANGS)
"""It says that it stored, and did not; it stores, and its answer is lost; it answers late."""
REFUSES, REJECTS = "refuses", "rejects"
REFUSALS = (REFUSES, REJECTS)
"""It has no room for any object now; it takes nothing from whoever sends."""
NO_ROOM = 0xA700
"""Status of C-STORE: Refused: Out of Resources."""
HANG_S = 5.0
"""Seconds by which a destination that hangs answers late."""


def mood_file(shelf: Path) -> Path:
    """Return the file whose word tells how the destination of a shelf misbehaves now."""
    return shelf.with_name(f"{shelf.name}.mood")


class RecorderDestination(DestinationSection):
    """Folder with a record of stores."""

    kind: Literal["recorder"]
    name: str = "recorder"
    shelf: Path
    """Existing folder."""


@destination(RecorderDestination)
class Recorder:
    """One file per object, named by UID, and one line per store."""

    takes: ClassVar[frozenset[ObjectKind]] = OBJECT_KINDS

    def __init__(self, name: str, shelf: Path) -> None:
        self.name, self.shelf = name, shelf

    @classmethod
    def open(cls, section: RecorderDestination, settings: Settings) -> Recorder:
        """Open the shelf of a section."""
        return cls(section.name, section.shelf)

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Copy each file, then note it."""
        for instance in instances:
            self.check()
            mood = self._mood()
            if mood == REJECTS:
                raise DestinationRejectedError(f"'{self.name}': it takes nothing from here")
            before(instance)
            if mood == REFUSES:
                after(instance, Outcome(verdict=Verdict.LATER, text="no room", status=NO_ROOM))
                continue
            if mood == HANGS:
                time.sleep(HANG_S)
            try:
                if mood != LOSES:
                    self._store(instance)
            except FileNotFoundError as err:
                raise DestinationUnavailableError(f"'{self.name}': its folder went away") from err
            if mood == SILENT:
                raise DestinationUnavailableError(f"'{self.name}': no answer")
            after(instance, Outcome(verdict=Verdict.STORED))

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Compare the bytes."""
        self.check()
        return {instance.ref.sop_instance_uid: self._compare(instance) for instance in instances}

    def check(self) -> str:
        """Raise DestinationUnavailableError if the shelf is not there."""
        if not self.shelf.is_dir():
            raise DestinationUnavailableError(f"'{self.name}': its folder is not there")
        return "recorder"

    def kinds(self) -> list[KindCheck]:
        """Return one line: the shelf takes everything."""
        return [KindCheck("any object", True, "")]

    def close(self) -> None:
        """Do nothing: no file or connection is open."""

    def _mood(self) -> str:
        try:
            return mood_file(self.shelf).read_text()
        except FileNotFoundError:
            return ""

    def _store(self, instance: Instance) -> None:
        place = self._place(instance)
        copy_whole(place, instance.path)
        line = {"uid": instance.ref.sop_instance_uid, "sha256": file_sha256(place)}
        with (self.shelf / RECORD_NAME).open("a") as record:
            record.write(json.dumps(line) + "\n")

    def _place(self, instance: Instance) -> Path:
        return self.shelf / f"{instance.ref.sop_instance_uid}.dcm"

    def _compare(self, instance: Instance) -> Answer:
        place = self._place(instance)
        if not place.is_file():
            return Answer(Proof.ABSENT, "no file")
        same = file_sha256(place) == instance.sha256
        return Answer(Proof.THERE if same else Proof.ABSENT, "by its bytes")
