"""Templates of sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Params = Mapping[str, Any]
Template = str | Callable[[Params], str]
"""Format template over the parameters, or a function of them."""
Words = dict[str, Template]
"""Templates of one kind by code."""

OTHER = "*"
"""Code of the template for codes that a table does not know."""
