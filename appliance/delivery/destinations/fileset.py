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
    Parcel,
    Proof,
)
from dicom.directory import NAME, build_directory, file_id, read_keys
from dicom.status import Outcome, Verdict


class FileSetArchive(FolderArchive):
    """One file-set per study; what it lists is always worked out from the files that are there.

    So a crash between an object and the DICOMDIR, or a DICOMDIR that was lost, is mended by the
    next delivery to, or proof from, that study.
    """

    def _place(self, parcel: Parcel) -> Path:
        ref = parcel.ref
        return self.folder.joinpath(ref.study_uid, *file_id(ref.series_uid, ref.sop_instance_uid))

    def send(self, parcels: Sequence[Parcel], before: Before, after: After) -> None:
        """Copy each file as a plain archive does, then bring the studies' DICOMDIRs up to date."""
        for parcel in parcels:
            if self._taken(parcel):
                place = "/".join(self._place(parcel).parts[-2:])
                text = f"has another object at {place}, and overwrites none. Move it, then retry."
                after(parcel, Outcome(verdict=Verdict.NEVER, text=text))
            else:
                super().send([parcel], before, after)
        self._list(parcels)

    def prove(self, parcels: Sequence[Parcel]) -> dict[str, Answer]:
        """Whether each file is there with the very bytes that were sent, and listed."""
        self._require()
        listed = self._list(parcels)
        answers = super().prove(parcels)
        for parcel in parcels:
            uid = parcel.ref.sop_instance_uid
            if answers[uid].proof is Proof.THERE and self._place(parcel) not in listed:
                answers[uid] = Answer(Proof.ABSENT, f"not in the {NAME}")
        return answers

    def _taken(self, parcel: Parcel) -> bool:
        """Whether another object is in its place: names are hashes, and hashes can be equal."""
        place = self._place(parcel)
        with self._translated():
            held = read_keys(place) if place.is_file() else None
        return held is not None and held.SOPInstanceUID != parcel.ref.sop_instance_uid

    def _list(self, parcels: Sequence[Parcel]) -> set[Path]:
        """Write the DICOMDIRs of the parcels' studies that are not as the files say.

        Returns all files that are listed now.
        """
        listed: set[Path] = set()
        for study_uid in sorted({parcel.ref.study_uid for parcel in parcels}):
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
