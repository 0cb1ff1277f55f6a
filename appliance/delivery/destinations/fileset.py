"""A folder archive whose study folders are file-sets, each with its DICOMDIR (PS3.10 8)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from appliance.artifacts import write_whole
from appliance.delivery.destinations.contract import (
    After,
    Answer,
    Before,
    FolderArchive,
    Instance,
    Proof,
)
from dicom.directory import NAME, build_directory, file_id, read_keys
from dicom.status import Outcome, Verdict


class FileSetArchive(FolderArchive):
    """One file-set per study; what it lists is always worked out from the files that are there.

    So a crash between an object and the DICOMDIR, or a DICOMDIR that was lost, is mended by the
    next delivery to, or proof from, that study.
    """

    def _place(self, instance: Instance) -> Path:
        ref = instance.ref
        return self.folder.joinpath(ref.study_uid, *file_id(ref.series_uid, ref.sop_instance_uid))

    def send(self, instances: Sequence[Instance], before: Before, after: After) -> None:
        """Copy each file as a plain archive does, then bring the studies' DICOMDIRs up to date."""
        for instance in instances:
            if self._taken(instance):
                place = "/".join(self._place(instance).parts[-2:])
                text = f"has another object at {place}, and overwrites none. Move it, then retry."
                after(instance, Outcome(verdict=Verdict.NEVER, text=text))
            else:
                super().send([instance], before, after)
        self._list(instances)

    def prove(self, instances: Sequence[Instance]) -> dict[str, Answer]:
        """Whether each file is there with the very bytes that were sent, and listed."""
        self._require()
        listed = self._list(instances)
        answers = super().prove(instances)
        for instance in instances:
            uid = instance.ref.sop_instance_uid
            if answers[uid].proof is Proof.THERE and self._place(instance) not in listed:
                answers[uid] = Answer(Proof.ABSENT, f"not in the {NAME}")
        return answers

    def _taken(self, instance: Instance) -> bool:
        """Whether another object is in its place: names are hashes, and hashes can be equal."""
        place = self._place(instance)
        with self._translated():
            held = read_keys(place) if place.is_file() else None
        return held is not None and held.SOPInstanceUID != instance.ref.sop_instance_uid

    def _list(self, instances: Sequence[Instance]) -> set[Path]:
        """Write the DICOMDIRs of the instances' studies that are not as the files say.

        Returns all files that are listed now.
        """
        listed: set[Path] = set()
        for study_uid in sorted({instance.ref.study_uid for instance in instances}):
            folder = self.folder / study_uid
            with self._translated():
                if not folder.is_dir():
                    continue
                directory = build_directory(folder, study_uid)
                path = folder / NAME
                if not path.is_file() or path.read_bytes() != directory.data:
                    write_whole(path, directory.data)
            listed |= directory.files
        return listed
