"""Deterministic UIDs: from the content that an object states and the weights that said it."""

from __future__ import annotations

import uuid

NAMESPACE = uuid.UUID("6f1a3c1e-7c5c-5a53-9f3e-0b6f3d7f2a26")
"""Tandem's own, so that equal names elsewhere make other UIDs."""


def deterministic_uid(*parts: str | bytes) -> str:
    """UUID5 of the parts as a UID under 2.25 (PS3.5 B.2); equal parts, equal UID.

    Bytes (digests) stand for their hexadecimal form.
    """
    names = (part.hex() if isinstance(part, bytes) else part for part in parts)
    return f"2.25.{uuid.uuid5(NAMESPACE, chr(0).join(names)).int}"
