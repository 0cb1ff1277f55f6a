"""Deterministic UIDs, from an object's content and the weights behind it."""

from __future__ import annotations

import hashlib
import uuid
from io import BytesIO
from typing import Any

from pydicom import Dataset

NAMESPACE = uuid.UUID("6f1a3c1e-7c5c-5a53-9f3e-0b6f3d7f2a26")
"""Namespace of Tandem: equal names elsewhere give other UIDs."""


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
