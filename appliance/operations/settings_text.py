"""The commented settings file of ``tandem init``: every key with its default and its explanation.

The explanations are the docstrings of the settings' fields, so that there is one text of each.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from appliance.settings.destinations import DestinationSection, FolderDestination, section_types
from appliance.settings.section import Section
from appliance.settings.settings import Settings

WIDTH = 98
NO_DEFAULT = "…"
"""Stands for a value that a site must know; a line with it cannot be taken over as it is."""
_HEAD = """\
Settings of Tandem. For research use only.

A line such as "#key = value" shows a default. To change it, remove the "#" and write another
value. "None" in an explanation means that the line stays out; "{none}" stands for a value that only
you know. `tandem config check` says whether the file is right, `tandem doctor` whether all that it
names is there. After a change of folders or secrets:
`tandem init --out FOLDER_OF_THIS_FILE --systemd` once more.
"""
_DESTINATIONS = """\
Where results are sent: one block for each destination, all of which get everything. These kinds
are known here; the keys of each are listed once, for you to copy.
"""


def settings_text(
    set_values: Mapping[str, Any], destination: DestinationSection | None = None
) -> str:
    """Return a settings file that loads; `set_values` by dotted key stand in it as set.

    ``{"state_dir": Path("/var/lib/tandem"), "watch.folder": Path("/mnt/scans")}``

    Without a `destination` it is the default, a folder.
    """
    sections, lines = [], [*_comment(_HEAD.format(none=NO_DEFAULT))]
    for name, field in Settings.model_fields.items():
        if name == "destinations":
            continue
        if (section := _section(field)) is None:
            lines += _key(Settings, name, set_values)
        else:
            sections.append((name, section, field.default is None))
    for name, section, optional in sections:
        lines += _table(f"[{name}]", section, set_values, f"{name}.", commented=optional)
    lines += ["", "", *_comment(_DESTINATIONS)]
    values = {"kind": "folder"}
    if destination is not None:
        values = destination.model_dump(exclude_defaults=True) | {"kind": destination.kind}
    for kind in section_types():
        shown = kind is (FolderDestination if destination is None else type(destination))
        lines += _table("[[destinations]]", kind, values, "", commented=not shown)
    return "\n".join(lines) + "\n"


@cache
def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring of each field of a model and of its bases."""
    texts: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if each.__module__.split(".")[0] in ("builtins", "pydantic", "pydantic_settings"):
            continue
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        body = found.body if isinstance(found, ast.ClassDef) else []
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                texts[ast.unparse(field.target)] = str(ast.literal_eval(text.value))
    return texts


def _table(
    header: str,
    section: type[BaseModel],
    set_values: Mapping[str, Any],
    prefix: str,
    *,
    commented: bool,
) -> Iterator[str]:
    yield from ("", "")
    yield from _comment(inspect.getdoc(section) or "")
    yield f"#{header}" if commented else header
    nested = []
    for name in _in_order(section):
        inner = _section(section.model_fields[name])
        if inner is None:
            yield from _key(section, name, {} if commented else set_values, prefix)
        else:
            nested.append((name, inner, section.model_fields[name].default is None))
    for name, inner, optional in nested:
        path, hidden = f"{prefix}{name}", commented or optional
        yield from _table(f"[{path}]", inner, set_values, f"{path}.", commented=hidden)


def _in_order(section: type[BaseModel]) -> list[str]:
    """Names of the fields; of a destination `kind`, `name` and its own first."""
    names = list(section.model_fields)
    if issubclass(section, DestinationSection):
        own = list(section.__annotations__)
        first = ["kind", "name", *own]
        names.sort(key=lambda name: first.index(name) if name in first else len(first))
    return names


def _key(
    model: type[BaseModel], name: str, set_values: Mapping[str, Any], prefix: str = ""
) -> Iterator[str]:
    field = model.model_fields[name]
    yield ""
    yield from _comment(field_texts(model).get(name, ""))
    if (value := set_values.get(f"{prefix}{name}")) is not None:
        yield f"{name} = {toml_value(value)}"
        return
    default = field.get_default(call_default_factory=True)
    if name == "kind":
        default = get_args(field.annotation)[0]
    missing = default is None or default is PydanticUndefined
    yield f"#{name} = {_placeholder(field) if missing else toml_value(default)}"


def _section(field: FieldInfo) -> type[Section] | None:
    """Return the type of the table that a field is, also where it may be absent."""
    for each in (field.annotation, *get_args(field.annotation)):
        if isinstance(each, type) and issubclass(each, Section):
            return None if get_origin(field.annotation) is tuple else each
    return None


def _placeholder(field: FieldInfo) -> str:
    kinds = {each for each in _plain_types(field.annotation) if each is not NoneType}
    if any(get_origin(each) is tuple for each in kinds):
        return f'["{NO_DEFAULT}"]'
    return f'"{NO_DEFAULT}"' if kinds & {str, Path} else NO_DEFAULT


def _plain_types(annotation: Any) -> Iterator[Any]:
    """Yield the types of a union, without what `Annotated` adds."""
    origin = get_origin(annotation)
    if origin is Annotated or (origin not in (None, tuple, dict, Literal)):
        for each in get_args(annotation)[: 1 if origin is Annotated else None]:
            yield from _plain_types(each)
    else:
        yield str if origin is Literal else annotation


def toml_value(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (tuple, list, frozenset)):
        return f"[{', '.join(toml_value(each) for each in value)}]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {toml_value(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    # JSON leaves the one control character as it is that TOML does not.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> Iterator[str]:
    """Yield the lines of a comment; double backticks are those of docstrings."""
    plain = text.strip().replace("``", "`")
    for number, paragraph in enumerate(re.split(r"\n\s*\n", plain) if plain else ()):
        if number:
            yield "#"
        yield from textwrap.wrap(
            " ".join(paragraph.split()),
            WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_long_words=False,
            break_on_hyphens=False,
        )
