"""Paths as text of the ledger, also those whose bytes are not UTF-8."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sqlalchemy import Dialect, String
from sqlalchemy.types import TypeDecorator

from appliance.text import is_text

_URI = "file://"


class PathText(TypeDecorator[str]):
    """A path of the file system. SQLite holds UTF-8 only, but Linux names are any bytes.

    A path that is UTF-8 is stored as it is; any other as a URI with percent escapes, which comes
    back as the same bytes. The two cannot be mixed up: a path holds no two slashes in a row.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text that is stored."""
        if value is None or is_text(value):
            return value
        return _URI + quote_from_bytes(os.fsencode(value))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """Return the path as Python holds it: bytes that are not UTF-8 are surrogates."""
        if value is None or not str(value).startswith(_URI):
            return value
        return os.fsdecode(unquote_to_bytes(str(value).removeprefix(_URI)))
