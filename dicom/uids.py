"""UIDs: valid ones, and deterministic ones from an object's content and the weights behind it."""

from __future__ import annotations

import hashlib
import re
import uuid
from io import BytesIO
from typing import Any

from pydicom import Dataset

from dicom.errors import ObjectError

NAMESPACE = uuid.UUID("6f1a3c1e-7c5c-5a53-9f3e-0b6f3d7f2a26")
"""Namespace of Tandem: equal names elsewhere give other UIDs."""


_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
LONGEST = 64
"""Largest length of a UID in characters (PS3.5 section 9.1)."""


def is_uid(text: str) -> bool:
    """Return whether a text is a UID (PS3.5 section 9.1).

    Leading zeros of a component are refused: dciodvfy and pydicom's writer take them for an error.
    """
    return len(text) <= LONGEST and _UID.fullmatch(text) is not None


def uid_as_name(uid: str) -> str:
    """Return a UID that may be the name of a file or folder: it holds digits and dots only.

    Raises
    ------
    ObjectError
        If the text is no UID. The message does not hold it.
    """
    if not is_uid(uid):
        raise ObjectError("a UID of an object is no valid UID")
    return uid


def deterministic_uid(*parts: str | bytes) -> str:
    """Return the UUID5 of the parts as a UID under 2.25 (PS3.5 B.2); equal parts, equal UID.

    Bytes (digests) are used in hexadecimal form.
    """
    names = (part.hex() if isinstance(part, bytes) else part for part in parts)
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(names)).int}"


def named_by_bytes(dataset: Any, uid_seed: str) -> Dataset:
    """Give the object a UID of its own bytes: changed content cannot keep its UID."""
    written = BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    uid = deterministic_uid(uid_seed, "instance", hashlib.sha256(written.getvalue()).digest())
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    named: Dataset = dataset
    return named
