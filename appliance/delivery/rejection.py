"""Notes that reject the objects of a result that a newer one replaces, by the settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread

from appliance.delivery.context import ObjectContext
from appliance.delivery.index import ObjectFile, damaged, object_path, sound_contents
from appliance.ledger.queries import NOTES, SLIDES
from appliance.settings.objects import RejectionNote
from appliance.settings.settings import Settings
from dicom import codes
from dicom.characters import UNREADABLE
from dicom.rejection import build_rejection_note

_SHARED = (SLIDES, NOTES)
"""Kinds of objects that no result replaces."""
_TITLES = {
    "quality": codes.REJECTED_FOR_QUALITY,
    "patient-safety": codes.REJECTED_FOR_SAFETY,
}


def retired_by(
    written: Sequence[ObjectFile], replaced: str, settings: Settings
) -> list[ObjectFile]:
    """Return the result objects among `replaced` (the key of objects) that are not `written` again.

    Raises
    ------
    RecordDamagedError
        If the list of the replaced objects is not what was written.
    """
    if not replaced:
        return []
    contents = sound_contents(replaced, settings)
    if contents is None:
        raise damaged("list of the objects")
    still = {item.sop_instance_uid for item in written}
    entries = [ObjectFile(**entry) for entry in contents["objects"]]
    return [e for e in entries if e.kind not in _SHARED and e.sop_instance_uid not in still]


def rejected_before(
    written: Sequence[ObjectFile], replaced: str, settings: Settings
) -> list[ObjectFile]:
    """Return the result objects that the notes of the objects `replaced` name, and those before.

    A note is not sent where the result in its place was refused; the next one names the same
    objects again. Those whose files are not there any more, or that are `written` again, are left
    out.
    """
    contents = sound_contents(replaced, settings) if replaced else None
    still = {item.sop_instance_uid for item in written}
    named = [] if contents is None else contents.get("rejected", ())
    entries = [ObjectFile(**entry) for entry in named]
    return [
        each
        for each in entries
        if each.sop_instance_uid not in still and object_path(each.path, settings).is_file()
    ]


def write_notes(
    folder: Path,
    retired: Sequence[ObjectFile],
    report_uid: str,
    way: RejectionNote,
    context: ObjectContext,
    settings: Settings,
) -> list[tuple[str, Path]]:
    """Write a note for each study that the retired objects lie in; return (kind, file).

    `report_uid` is the SOP Instance UID of the report in force.

    Raises
    ------
    RecordDamagedError
        If a retired object cannot be read.
    dicom.errors.ObjectError
        If no valid note can be made.
    """
    if way == "none":
        return []
    studies: dict[str, list[Dataset]] = defaultdict(list)
    for item in retired:
        studies[item.study_uid].append(_header(item, settings))
    written = []
    for number, (study_uid, headers) in enumerate(studies.items(), start=1):
        note = build_rejection_note(
            headers,
            title=_TITLES[way],
            replaced_by=report_uid,
            created=context.created,
            uid_seed=f"{context.seed}|rejection|{study_uid}",
            software=context.software,
            installation=context.installation,
            as_before=context.as_before,
        )
        written.append((NOTES, folder / f"ko-{number}.dcm"))
        note.save_as(written[-1][1], enforce_file_format=True)
    return written


def _header(item: ObjectFile, settings: Settings) -> Dataset:
    try:
        return dcmread(object_path(item.path, settings), stop_before_pixels=True)
    except UNREADABLE as err:
        raise damaged(item.kind) from err
