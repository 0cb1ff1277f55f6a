"""Sidecar of a slide: what a person wrote beside it, in the forms in which Windows saves it.

A sidecar is TOML without tables: lines of ``KEY = VALUE``. Each line is read by itself, so that an
error names its line and a number keeps the digits that a person wrote. Beyond TOML, a decimal comma
and numbers for texts are read, because their meaning is plain.
"""

from __future__ import annotations

import codecs
import os
import re
import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.domain import QuarantineReason
from appliance.errors import SlideError
from appliance.slides.files import SLIDE_SUFFIXES
from appliance.text import readable

SUFFIX = ".tandem.toml"
SUFFIXES = (SUFFIX, f"{SUFFIX}.txt")
"""Ends of a sidecar's name, in lower case; editors of Windows append the second one unseen."""
MOST_SIDECAR_BYTES = 65536
"""Largest sidecar that is read; a person writes a few lines."""
MOST_OFF_HEADER = 0.05
"""Largest relative difference of a sidecar's resolution from a header's that is the same one."""
TEXT_KEYS = ("accession", "block", "stain", "organ", "specimen")
KEYS = ("mpp", *TEXT_KEYS)
_LINE = re.compile(r"""(["']?)(?P<key>[\w-]+)\1\s*=\s*(?P<value>.*)""")
_CURLED = re.compile(r"""[“”„‟«»](?P<text>[^“”„‟«»"]*)[“”„‟«»]\s*(?:#.*)?""")
"""Text in the quotation marks that word processors write in place of straight ones."""
_DIGITS = re.compile(r"[0-9][0-9.,_-]*")
_NUMBER = re.compile(r"([0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)\s*(?:[µμu]m(?:/px)?)?")
_NEVER_IN_ACCESSION = re.compile(r"[*?]")
"""Wildcards of a worklist query (PS3.4 C.2.2.2.4): an accession with one asks for many orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """Facts that a person wrote beside a slide, in ``NAME.tandem.toml``; they take precedence.

    `mpp` is in µm per level-0 px. `organ` and `specimen` choose the guideline
    (`appliance.assays.her2.guideline`).
    """

    mpp: float | None = None
    accession: str = ""
    block: str = ""
    stain: str = ""
    organ: str = ""
    specimen: str = ""


def sidecar_path(slide: Path) -> Path:
    """Return the path of a slide's sidecar; the one that it would have where there is none."""
    found = _sidecars(slide)
    return found[0] if found else slide.with_name(f"{slide.stem}{SUFFIX}")


def has_sidecar(slide: Path) -> bool:
    """Return whether a slide has a sidecar."""
    return bool(_sidecars(slide))


def slides_beside(slide: Path) -> list[str]:
    """Return the names of the other slides that the sidecar of a slide stands beside, too.

    ``NAME.tandem.toml`` is that of ``NAME.svs`` and of ``NAME.tif``.
    """
    found = _sidecars(slide)
    if not found or _stem(found[0].name).casefold() == _composed(slide.name).casefold():
        return []
    try:
        names = os.listdir(slide.parent)  # noqa: PTH208  only names
    except PermissionError:  # as in `_sidecars`
        return []
    stem = _stem(found[0].name).casefold()
    others = (slide.with_name(name) for name in names if name != slide.name)
    alike = [
        path
        for path in others
        if path.suffix.lower() in SLIDE_SUFFIXES
        and stem in {own.casefold() for own in _own_stems(path)}
        and path.is_file()
    ]
    return sorted(path.name for path in alike if found[0] in _sidecars(path))


def require_header_agrees(slide: Path, mpp: float, stated: float) -> None:
    """Check that a sidecar beside several slides states the resolution that this one's header does.

    Both are in µm per level-0 px.

    Raises
    ------
    SlideError
        SIDECAR, with the remedy: it may have been written for another of them.
    """
    if abs(stated / mpp - 1) <= MOST_OFF_HEADER:
        return
    others = ", ".join(map(readable, slides_beside(slide)))
    detail = (
        f"{readable(sidecar_path(slide).name)}: mpp = {mpp:g}, while the slide's own header says "
        f"{stated:.4g}, and {others} is beside it, too. Rename the sidecar to the whole name of "
        f"the slide that it is written for, such as {readable(slide.name)}{SUFFIX}"
    )
    raise SlideError(QuarantineReason.SIDECAR, detail)


def read_sidecar(slide: Path) -> Sidecar:
    """Read the sidecar of a slide; an empty one where there is none.

    Raises
    ------
    SlideError
        SIDECAR, with the sidecar's name and the line that cannot be read, or with the names of two
        sidecars.
    OSError
        If the folder or the file cannot be read for another reason than its permissions.
    """
    found = _sidecars(slide)
    if not found:
        return Sidecar()
    path = found[0]
    try:
        if len(found) > 1:
            raise ValueError(f"{readable(found[1].name)} is a sidecar of the same slide")
        if path.stat().st_size > MOST_SIDECAR_BYTES:
            raise ValueError("larger than any sidecar")
        return _parse(decoded(path.read_bytes()))
    except ValueError as err:
        raise SlideError(QuarantineReason.SIDECAR, f"{readable(path.name)}: {err}") from err
    except PermissionError as err:
        detail = f"{readable(path.name)}: {err.strerror}"
        raise SlideError(QuarantineReason.SIDECAR, detail) from err


def _sidecars(slide: Path) -> list[Path]:
    """Return the sidecars of a slide, sorted.

    NAME is the slide's name with or without its suffix. Systems write one name in several forms:
    letters may be composed or not, and Windows does not heed their case. A name in another case
    counts where no other file of the folder has it.
    """
    stems = _own_stems(slide)
    try:
        names = os.listdir(slide.parent)  # noqa: PTH208  only names
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError:  # a folder may be entered but not listed
        own = slide.with_name(f"{slide.stem}{SUFFIX}")
        return [own] if own.is_file() else []
    found = {name: _stem(name) for name in names if name.casefold().endswith(SUFFIXES)}
    mine = [name for name, stem in found.items() if stem in stems]
    if not mine and found:
        folded = {stem.casefold() for stem in stems}
        alike = {name: stem for name, stem in found.items() if stem.casefold() in folded}
        taken = _stems_of(set(names) - set(found)) if alike else set()
        mine = [name for name, stem in alike.items() if stem not in taken]
    return [path for name in sorted(mine) if (path := slide.with_name(name)).is_file()]


def _own_stems(slide: Path) -> set[str]:
    """Return the names that a sidecar of a slide may have, without its end."""
    return {_composed(name) for name in (slide.stem, slide.stem.removesuffix(".ome"), slide.name)}


def _stem(name: str) -> str:
    """Return NAME of a sidecar's name ``NAME.tandem.toml``."""
    end = next(end for end in reversed(SUFFIXES) if name.casefold().endswith(end))
    return _composed(name[: -len(end)])


def _stems_of(names: Iterable[str]) -> set[str]:
    """Return the names, with and without their suffixes."""
    return {_composed(stem) for name in names for stem in (name, Path(name).stem)}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def decoded(data: bytes) -> str:
    """Decode UTF-8 or UTF-16, with or without a byte order mark, else Windows-1252."""
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        if b"\0" in data:
            return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            return data.decode("cp1252")
    except UnicodeDecodeError as err:
        raise ValueError("its text is neither UTF-8, UTF-16 nor Windows-1252") from err


def _parse(text: str) -> Sidecar:
    mpp: float | None = None
    texts: dict[str, str] = {}
    seen: dict[str, int] = {}
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            key, value = _key_and_value(line)
            if key in seen:
                raise ValueError(f"{key} is written in line {seen[key]} too")
            seen[key] = number
            if key == "mpp":
                mpp = _mpp(value)
            else:
                texts[key] = _word(key, value)
        except ValueError as err:
            raise ValueError(f"line {number}: {err}") from err
    return Sidecar(mpp=mpp, **texts)


def _key_and_value(line: str) -> tuple[str, str]:
    """Return the key of a line in lower case, and its value without quotation marks."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("no line of the form KEY = VALUE")
    key, value = found["key"].casefold(), found["value"]
    if key not in KEYS:
        raise ValueError(f"unknown key {key[:32]!r}; there are {', '.join(KEYS)}")
    if value.startswith(('"', "'")):
        try:
            return key, str(tomllib.loads(f"value = {value}")["value"])
        except tomllib.TOMLDecodeError as err:
            raise ValueError(f"the text of {key} is not one in quotation marks") from err
    curled = _CURLED.fullmatch(value)
    if curled is not None:
        return key, curled["text"]
    bare = value.partition("#")[0].strip()
    if key != "mpp" and not _DIGITS.fullmatch(bare):
        raise ValueError(f'a text stands in quotation marks: {key} = "…"')
    return key, bare


def _mpp(text: str) -> float:
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise ValueError("mpp is no number of µm per px, such as 0.25")
    return float(found[1].replace(",", "."))


def _word(key: str, text: str) -> str:
    """Return a text as the ledger and DICOM can hold it; raises ValueError for any other."""
    word = text.strip()
    if not word.isprintable() or "\\" in word:
        raise ValueError(f"{key} holds a line break, a control character or a backslash")
    if key == "accession" and _NEVER_IN_ACCESSION.search(word):
        raise ValueError("accession holds a wildcard, * or ?")
    return word
