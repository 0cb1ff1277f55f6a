"""Reader of bytes from outside, as ``benchmarks/fuzz.py`` tries it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Reader under test: inputs that it reads, the call, and the errors that it documents."""

    samples: tuple[bytes, ...]
    call: Callable[[bytes], object]
    documented: tuple[type[Exception], ...] = ()
