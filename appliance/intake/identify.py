"""Identity of a slide: accession, block and stain from sidecar, header, barcode and file name."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from appliance.domain import Identity, QuarantineReason, Stain
from appliance.errors import SlideError
from appliance.intake.identity.sidecar import Sidecar
from appliance.settings.intake import Identify
from appliance.text import is_text

BARCODE_PROPERTIES = (
    "aperio.Barcode",
    "leica.barcode",
    "mirax.GENERAL.SLIDE_ID",
    "philips.PIM_DP_UFS_BARCODE",
    "dicom.BarcodeValue",
    "dicom.ContainerIdentifier",
)
"""OpenSlide properties in which scanners store the barcode of the label."""
MAX_ACCESSION = 16
"""AccessionNumber is SH: 16 characters (PS3.5 Table 6.2-1)."""


def identify(
    path: Path,
    properties: Mapping[str, str],
    sidecar: Sidecar,
    vocabulary: Mapping[str, Sequence[str]],
    settings: Identify,
) -> Identity:
    """Identify a slide.

    `properties` are OpenSlide's. Order of precedence: sidecar, DICOM header, barcode, file name.

    Raises
    ------
    SlideError
        NO_ACCESSION, NO_BLOCK or UNKNOWN_STAIN.
    """
    barcodes = [_barcode(properties[key]) for key in BARCODE_PROPERTIES if properties.get(key)]
    names = [*barcodes, path.stem]
    accession = sidecar.accession or properties.get("dicom.AccessionNumber", "")
    block = sidecar.block
    for name in names:
        found = _match(name, settings.patterns)
        accession = accession or found.get("accession", "")
        # Take a block only with the accession that it was printed with.
        if not block and found.get("accession") == accession:
            block = found.get("block") or ""
    if not accession:
        raise SlideError(QuarantineReason.NO_ACCESSION)
    if not is_text(accession + block):
        raise SlideError(QuarantineReason.NO_ACCESSION, "what was found is no readable text")
    if len(accession) > MAX_ACCESSION:
        raise SlideError(QuarantineReason.NO_ACCESSION, "what was found exceeds 16 characters")
    if not block:
        raise SlideError(QuarantineReason.NO_BLOCK)
    words = [sidecar.stain] if sidecar.stain else [*_stain_properties(properties), *names]
    return Identity(accession=accession, block=block, stain=_stain(words, vocabulary))


def _match(name: str, patterns: Iterable[str]) -> dict[str, str]:
    """Named groups of the first pattern that is found in `name`; empty without one."""
    for pattern in patterns:
        found = re.search(pattern, name)
        if found:
            return found.groupdict()
    return {}


def _stain_properties(properties: Mapping[str, str]) -> list[str]:
    return [value for key, value in properties.items() if "stain" in key.lower() and value]


def _stain(texts: Iterable[str], vocabulary: Mapping[str, Sequence[str]]) -> Stain:
    """Stain of the first text with a word of exactly one stain; raises SlideError UNKNOWN_STAIN."""
    for text in texts:
        found = {
            stain
            for stain, words in vocabulary.items()
            if any(
                re.search(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", text, re.IGNORECASE)
                for word in words
            )
        }
        if len(found) == 1:
            return Stain(found.pop())
        if found:
            raise SlideError(QuarantineReason.UNKNOWN_STAIN, "the words of two stains were found")
    raise SlideError(QuarantineReason.UNKNOWN_STAIN)


def _barcode(value: str) -> str:
    """Decode a barcode: Philips writes base64, all others clear text."""
    try:
        decoded = base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return value
    return decoded if decoded.isprintable() and decoded else value
