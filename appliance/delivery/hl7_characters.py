"""Text of an HL7 v2 message by the character set that it states (MSH-18, HL7 table 0211)."""

from __future__ import annotations

import re
from contextlib import suppress

from appliance.delivery.order_files import decoded

_JAPANESE = "iso2022_jp_ext"
"""Japanese sets are switched by the escapes of ISO 2022, which one codec reads."""
_ASCII = ("", "ASCII", "USASCII", "ANSIX341968", "IR6")
"""Sets that are a part of each of the others."""
_LATIN = ("88591", "885911987", "LATIN1", "CP1252", "MS1252", "IR100")
_UNICODE = ("UNICODE", "UNICODEUTF8", "UNICODEUTF16", "UNICODEUTF32", "UTF8", "UTF16", "IR192")
_CODECS = (
    dict.fromkeys((*_LATIN, *_UNICODE, "10646UTF8"), "")
    | {f"8859{part}": f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 13, 15)}
    | {f"CP125{part}": f"cp125{part}" for part in (0, 1, 3, 4, 5, 6, 7, 8)}
    | dict.fromkeys(("IR14", "IR87", "IR159"), _JAPANESE)
    | {"GB180302000": "gb18030", "GB18030": "gb18030", "KSX1001": "cp949", "BIG5": "cp950"}
)
_KOREAN = "\x1b$)C"
"""Escape of ISO 2022 before Korean text, which the codec leaves in."""
_CONTROL = re.compile("[\x80-\x9f]")
"""Signs that no text has: it was written in another set, as a rule in one of Windows."""


class CharactersError(Exception):
    """A message whose text cannot be read; the error does not hold its values (PHI)."""


def header_of(message: bytes) -> list[str]:
    """Return the fields of MSH by their numbers; empty where a message begins otherwise."""
    line = re.split(rb"[\r\n]", message.lstrip(b"\x0b"), maxsplit=1)[0].decode("latin-1")
    # MSH-1 is the separator itself.
    return ["MSH", line[3], *line.split(line[3])[1:]] if re.match("MSH.", line) else []


def text_of(message: bytes) -> str:
    """Return the text of a message by its MSH-18; it is guessed where that is empty.

    Raises
    ------
    CharactersError
        If the set is not known, or the text is in another one.
    """
    header = [*header_of(message), *[""] * 19]
    marks = header[2]
    names = header[18].split(marks[1:2] or "~")
    try:
        codec = _codec_of(names)
    except CharactersError:
        if _is_plain(message, marks[2:3]):
            return message.decode("ascii")
        raise
    if not codec:
        return decoded(message)
    try:
        text = _decoded(message, codec).replace(_KOREAN, "")
    except UnicodeDecodeError as err:
        raise CharactersError("its text is in another character set than MSH-18 states") from err
    if _CONTROL.search(text):
        raise CharactersError("its text is in another character set than MSH-18 states")
    return _with_bytes_read(text, marks[2:3], codec)


def _codec_of(names: list[str]) -> str:
    """Return the codec of the sets in MSH-18; empty where the text is guessed.

    Raises
    ------
    CharactersError
    """
    plain = [re.sub(r"[^A-Z0-9]", "", name.upper()).removeprefix("ISO") for name in names]
    found = {_CODECS.get(name.replace("WINDOWS", "CP")) for name in plain if name not in _ASCII}
    if len(found) > 1:
        raise CharactersError("MSH-18 states several character sets, which Tandem cannot read")
    codec = next(iter(found), "")
    if codec is None:
        raise CharactersError("MSH-18 states a character set that Tandem does not know")
    return codec


def _is_plain(message: bytes, escape: str) -> bool:
    r"""Return whether the text is the same in every set: ASCII, and no escape to another one.

    Bytes that are escaped (``\X..\``, as ``\X0D\``) may be of another set.
    """
    if not message.isascii() or b"\x1b" in message:
        return False
    found = re.findall(_escaped_bytes(escape), message.decode("ascii")) if escape else ()
    return all(re.fullmatch("(?:[0-7].)*", digits) for digits in found)


def _decoded(message: bytes, codec: str) -> str:
    # Letters of one byte are no UTF-8 by accident, but for capitals of Cyrillic; and systems pass
    # messages on in UTF-8 that state what they were in.
    if codec.startswith(("iso8859", "cp125")) and codec != "iso8859-5":
        with suppress(UnicodeDecodeError):
            return message.decode()
    return message.decode(codec)


def _with_bytes_read(text: str, escape: str, codec: str) -> str:
    r"""Return a text whose escaped bytes (``\X..\``) are those of UTF-8, as its reader expects."""
    if not escape:
        return text

    def put(found: re.Match[str]) -> str:
        with suppress(ValueError):
            return f"{escape}X{bytes.fromhex(found[1]).decode(codec).encode().hex()}{escape}"
        return found[0]

    return re.sub(_escaped_bytes(escape), put, text)


def _escaped_bytes(escape: str) -> str:
    mark = re.escape(escape)
    return f"{mark}X([0-9A-Fa-f]+){mark}"
