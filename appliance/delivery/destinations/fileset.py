"""Layout of a DICOM file-set (PS3.10 8): file names, and the DICOMDIR of a study's folder.

The content of a DICOMDIR always follows from the files that are there. The next delivery to a
study, or proof from it, therefore repairs a DICOMDIR that was lost, or that a crash left behind
the objects.
"""

from __future__ import annotations

from pathlib import Path

from appliance.artifacts import becoming
from dicom.directory import NAME, build_directory, file_id, read_keys
from dicom.status import InstanceRef
from dicom.uids import is_uid, uid_as_name


def has_valid_uids(ref: InstanceRef) -> bool:
    """Return whether folders and files may be named by the UIDs of an instance."""
    return all(is_uid(uid) for uid in (ref.study_uid, ref.series_uid, ref.sop_instance_uid))


def place_in(folder: Path, ref: InstanceRef) -> Path:
    """Return the path of an instance below the archive's `folder`."""
    return folder.joinpath(
        uid_as_name(ref.study_uid), *file_id(ref.series_uid, ref.sop_instance_uid)
    )


def is_taken(place: Path, ref: InstanceRef) -> bool:
    """Return whether another instance is at `place`: names are hashes, and two can be equal.

    Raises
    ------
    OSError
    """
    held = read_keys(place) if place.is_file() else None
    return held is not None and held.SOPInstanceUID != ref.sop_instance_uid


def update_directory(folder: Path, study_uid: str) -> frozenset[Path]:
    """Write the DICOMDIR of a study where it differs from the files; return the listed files.

    `folder` is the archive's. A study without a folder has none.

    Raises
    ------
    OSError
    """
    study = folder / uid_as_name(study_uid)
    if not study.is_dir():
        return frozenset()
    directory = build_directory(study, study_uid)
    path = study / NAME
    if not path.is_file() or path.read_bytes() != directory.data:
        with becoming(path) as temporary:
            temporary.write_bytes(directory.data)
    return frozenset(directory.files)
