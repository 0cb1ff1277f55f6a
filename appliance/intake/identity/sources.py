"""Sources of an identity: what each of them says, as claims."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from appliance.intake.identity.blocks import Doubt
from appliance.intake.identity.evidence import Claim, names_nothing
from appliance.intake.identity.names import read_name
from appliance.intake.identity.prefix import DEVICES
from appliance.intake.identity.vocabulary import Vocabulary, folded
from appliance.intake.identity.words import COUNTED, PLACES
from appliance.settings.identify import Identify, SourceName
from appliance.text import readable

PHILIPS_BARCODE = "philips.PIM_DP_UFS_BARCODE"
"""Philips writes base64; all others clear text."""
BARCODE_PROPERTIES = (
    "aperio.Barcode",
    "leica.barcode",
    "mirax.GENERAL.SLIDE_ID",
    PHILIPS_BARCODE,
    "dicom.BarcodeValue",
    "dicom.ContainerIdentifier",
)
"""OpenSlide properties in which scanners store the barcode of the label."""
ACCESSION_PROPERTY = "dicom.AccessionNumber"
_DAY = re.compile(
    r"(?P<year>(?:19|20)\d{2})([-./]?)(?P<month>0[1-9]|1[0-2])\2(?P<day>0[1-9]|[12]\d|3[01])"
    r"|(?P<d>0[1-9]|[12]\d|3[01])([-./]?)(?P<m>0[1-9]|1[0-2])\6(?P<y>(?:19|20)\d{2})"
)
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "AcquisitionDateTime", "ContentDate")
"""Dates in a DICOM header with which a scanner may fill the AccessionNumber."""
# IMG-0001 counts; PAT2600031 is a laboratory's accession of a year and a number.
_COUNTER = re.compile(r"(?P<word>[a-z]{2,})[ _-]?\d{1,4}", re.IGNORECASE)

_BLOCK_FOLDER = re.compile(
    r"(?:(?:block|blk|bl)[ _.-]+)?"
    r"(?:(?P<letters>[A-Z]{1,2}|III|VII|VIII)[ _.-]?\d{1,3}|\d{1,2}-?(?P<letter>[A-Z]))"
    r"(?:[ _.-]+L?\d{1,2})?",
    re.IGNORECASE,
)
"""Name of a folder that is a block, with its level: ``A1``, ``Block A-1``, ``A1 L2``, ``1A``."""
_DEVICES_OWN = re.compile(
    rf"(?P<set>[a-z]{{1,3}}0{{4,}}\d*|(?P<device>{DEVICES.pattern}[-_ ]\d+))"
    r"|[a-z]|(?:im|sm|wsi|vs|i|e|s)\d",
    re.IGNORECASE,
)
"""Whole name of a file that a device gave: ``VL000001``, ``S60-0001``, ``x``, ``IM1``."""
_BLOCK_FROM_TEN = re.compile(r"[A-Z]{1,2}(?P<number>1\d)[-.]\d{1,2}", re.IGNORECASE)
"""Block and level that have the form of an accession: ``A12-1``."""
_SHORT_PREFIX = re.compile(r"(?:\d{2}-?)?(?P<letters>[A-Z]+)", re.IGNORECASE)
_YEAR = re.compile(r"(?:19|20)\d{2}")
_UNUSUAL = re.compile(r": (?!\w*\d{4})\w+$")
"""End of a doubt on a word such as ``1A1``; one such as ``A0001`` may be a camera's counter."""


class NameSources:
    """Reader of texts with the words and the patterns of one site."""

    def __init__(self, words: Mapping[str, Sequence[str]], settings: Identify) -> None:
        self._vocabulary = Vocabulary(words, settings.other_stains)
        self._settings = settings
        self._last_folder = ("", Claim(source="folder", text=""))

    def of_text(self, source: SourceName, text: str) -> Claim:
        """Return what a text of any kind says: a barcode, a name, the text of a label."""
        found = read_name(text, self._vocabulary, self._settings.patterns)
        if source in ("barcode", "label") and not found.accession:
            # A serial number may look like a block.
            others = tuple(doubt for doubt in found.doubts if doubt.part != "block")
            found = replace(found, block="", doubts=others)
        return Claim(
            source=source,
            text=readable(text),
            accession=readable(found.accession),
            prefixed=readable(found.prefixed),
            block=readable(found.block),
            level=found.level,
            part=found.part,
            stain=found.stain,
            kind=found.kind,
            doubts=found.doubts,
        )

    def of_path(self, path: Path) -> Iterator[Claim]:
        """Return what the names of a file and of its folder say.

        A folder whose file has a name of the device's, as DICOM files have, names the slide. Else
        it is told only where it names an accession, or is named by nothing but the block that the
        file's name lacks and lies in one that does. A folder of a stain alone is not told.
        """
        name = self.of_text("name", path.stem)
        if self._last_folder[0] != path.parent.name:
            self._last_folder = (path.parent.name, self.of_text("folder", path.parent.name))
        folder = self._last_folder[1]
        own = _DEVICES_OWN.fullmatch(path.stem.strip())
        if own and (own["set"] or not folder.accession):
            counted = "" if own["device"] else name.accession
            name = Claim(source="name", text=name.text, counted=counted)
        elif _is_block_from_ten(name, folder):
            apart = re.sub(r"(?i)([A-Z]{1,2}1\d)[-.](?=\d)", r"\1 ", path.stem, count=1)
            name = self.of_text("name", f"{folder.accession} {apart}")
            name = replace(name, text=readable(path.stem), accession="")
        if not (folder.accession or name.block) and _is_block_alone(folder):
            above = self.of_text("folder", path.parent.parent.name)
            folder = replace(folder, accession=_of_case(above, name))
        says_nothing = not (name.accession or name.block or name.stain or name.doubts)
        if says_nothing and folder.accession:
            yield replace(folder, source="name")
            if name.counted:
                yield name
            return
        if folder.accession and folder.block and not (name.accession or name.block):
            # A word such as 1A1 in the name is asked about, whatever block the folder names.
            as_behind = self.of_text("name", f"{folder.accession} {path.stem}")
            asked = [d for d in as_behind.doubts if d.part == "block" and _UNUSUAL.search(d.text)]
            name = replace(name, doubts=(*name.doubts, *asked))
        yield name
        if folder.accession:
            prefix = tuple(d for d in folder.doubts if d.part == "accession" and not d.many)
            yield replace(folder, doubts=prefix)

    def of_header(self, properties: Mapping[str, str]) -> Iterator[Claim]:
        """Return what the header's own fields say: accession and stain.

        A scanner without a worklist fills AccessionNumber with a word, a day or a counter. A day
        is one of the header's own dates, where it has any: other numbers may look like a day.
        """
        accession = properties.get(ACCESSION_PROPERTY, "").strip()
        stains = [v for key, v in properties.items() if "stain" in key.lower() and v]
        texts = [self.of_text("header", text) for text in stains]
        if accession or texts:
            stain = next((claim for claim in texts if claim.stain), None)
            named = list(dict.fromkeys(claim.stain for claim in texts if claim.stain))
            both = Doubt(part="stain", many=True, text=f"two stains: {', '.join(named)}")
            yield Claim(
                source="header",
                text=readable("; ".join((accession, *stains)).strip("; ")),
                accession="" if _is_filler(accession, properties) else readable(accession),
                stain=stain.stain if stain else "",
                kind=stain.kind if stain else "",
                doubts=(both,) if len(named) > 1 else (),
            )

    def of_barcodes(self, properties: Mapping[str, str]) -> Iterator[Claim]:
        """Return what the barcodes in the header say."""
        for key in BARCODE_PROPERTIES:
            value = properties.get(key, "").strip()
            if value:
                text = _clear_text(value) if key == PHILIPS_BARCODE else value
                yield self.of_text("barcode", text)

    def of_labels(self, texts: Iterable[str]) -> Iterator[Claim]:
        """Return what the barcodes on the picture of the label say."""
        for text in dict.fromkeys(texts):
            yield self.of_text("label", text)

    def of_words(
        self, source: SourceName, accession: str, block: str, stain: str, text: str = ""
    ) -> Claim:
        """Return what was said part by part: by a person or a sidecar."""
        known = self._vocabulary.meaning(stain) if stain else None
        code, kind = known or (stain, "")
        unknown = Doubt(part="stain", many=True, text=f"a stain that is not known: {stain}")
        return Claim(
            source=source,
            text=readable(text or " ".join(part for part in (accession, block, stain) if part)),
            accession=readable(accession),
            block=readable(block),
            stain=code if known else "",
            kind=kind,
            doubts=(unknown,) if stain and not known else (),
        )


def _is_block_from_ten(name: Claim, folder: Claim) -> bool:
    """Return whether a name's accession is a block of the folder's, as in ``S26-00031/A12-1_HE``.

    ``S26-1`` in the folder of S26-00031 is an accession of the same year.
    """
    found = _BLOCK_FROM_TEN.fullmatch(name.accession)
    digits = re.sub(r"\D", "", folder.accession)
    return bool(found and folder.accession and not name.block and found["number"] not in digits[:4])


def _is_block_alone(folder: Claim) -> bool:
    """Return whether a folder is named by a block and nothing else; ``KW48`` and ``Lab2`` are none.

    A letter alone is none: it may be a drive or a place.
    """
    found = _BLOCK_FOLDER.fullmatch(folder.text.strip())
    letters = found and (found["letters"] or found["letter"])
    return bool(folder.block and letters and letters.lower() not in COUNTED | PLACES)


def _of_case(above: Claim, name: Claim) -> str:
    """Return the accession by which the folder above a block's is named, as a whole.

    A year, a month or a week holds slides of many. A number alone counts where the file's name has
    it, too.
    """
    whole = folded(above.text)
    if name.accession and whole == folded(name.accession) and not _YEAR.fullmatch(whole):
        return name.accession
    prefix = _SHORT_PREFIX.match(above.accession)
    word = prefix["letters"].lower() if prefix else ""
    is_short = len(re.sub(r"\D", "", above.accession)) < 7  # W48-26 is a week, W26-00031 is none
    if whole != folded(above.accession) or (word in PLACES and (len(word) > 1 or is_short)):
        return ""
    return above.accession


def _is_filler(accession: str, properties: Mapping[str, str]) -> bool:
    """Return whether an AccessionNumber states none: ``UNKNOWN``, the scan's day, ``Slide1``."""
    counter = _COUNTER.fullmatch(accession)
    return (
        names_nothing(accession)
        or _is_own_day(accession, properties)
        or (counter is not None and counter["word"].lower() in COUNTED)
    )


def _is_own_day(accession: str, properties: Mapping[str, str]) -> bool:
    """Return whether a text is a date of its header; any day, where the header has no date."""
    found = _DAY.fullmatch(accession)
    if found is None:
        return False
    day = "".join(found.group("year", "month", "day") if found["year"] else found.group(*"ymd"))
    stated = [properties.get(f"dicom.{keyword}", "").strip()[:8] for keyword in _DATES]
    return day in stated or not any(stated)


def _clear_text(value: str) -> str:
    """Decode Philips' base64; a value that is none stays as it is."""
    try:
        decoded = base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return value
    return decoded if decoded.isprintable() and decoded else value
