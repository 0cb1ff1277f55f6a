"""Components of Tandem: the pins of ``requirements.lock``, and the files that lie in the code."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from license_expression import (
    ExpressionError,
    ExpressionParseError,
    LicenseExpression,
    get_spdx_licensing,
)
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
RULES = Path(__file__).with_name("licenses.toml")
OURS = "tandem-her2"
_LICENSING = get_spdx_licensing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component: its license as an SPDX expression, empty where nobody knows it.

    `used` is ``run`` (in the appliance's processes), ``cluster`` (with that extra) or ``develop``
    (tests and checks). `needs` are the names of the components that it requires.
    """

    name: str
    version: str
    license: str
    used: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of licenses: which may be linked, which may be run as a program while developing.

    `stated` are the licenses of packages whose metadata state none by an SPDX name, and `included`
    the files of others that lie in the code.
    """

    linked: frozenset[str]
    programs: Mapping[str, str]
    stated: Mapping[str, str]
    included: tuple[Component, ...]


def plain(name: str) -> str:
    """Return the name of a package as the index writes it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_rules(path: Path = RULES) -> Rules:
    """Read the rules."""
    raw = tomllib.loads(path.read_text())
    return Rules(
        linked=frozenset(raw["linked"]),
        programs=raw["programs"],
        stated={plain(name): text for name, text in raw["stated"].items()},
        included=tuple(Component(used="run", **entry) for entry in raw["included"]),
    )


def pins(lock: Path = LOCK) -> dict[str, str]:
    """Return the version of each package of the lock."""
    lines = (line.split("==") for line in lock.read_text().splitlines() if "==" in line)
    return {plain(name): version for name, version in lines}


def components(rules: Rules) -> list[Component]:
    """Return all components of the lock that are installed, then the included files.

    Raises
    ------
    importlib.metadata.PackageNotFoundError
        If a package of the lock is not installed: run ``make install``.
    """
    locked = pins()
    needs = {name: _needs(name, frozenset()) & locked.keys() for name in locked}
    runs = _reached(_needs(OURS, frozenset()), needs)
    cluster = _reached(_needs(OURS, frozenset({"cluster"})), needs)
    used = {name: "run" if name in runs else "cluster" for name in cluster | runs}
    return [
        *(
            Component(
                name=name,
                version=version,
                license=rules.stated.get(name) or _stated(name),
                used=used.get(name, "develop"),
                needs=tuple(sorted(needs[name])),
            )
            for name, version in sorted(locked.items())
        ),
        *rules.included,
    ]


def trouble_with(component: Component, rules: Rules) -> str:
    """Return why a component may not be used; empty where it may.

    Of a choice (``OR``) one license must be among those that may be linked, of a sum (``AND``) all.
    """
    if not component.license:
        return f"{component.name}: nobody states its license; look, and add it to licenses.toml"
    if component.used == "develop" and rules.programs.get(component.name) == component.license:
        return ""
    try:
        parsed = _LICENSING.parse(component.license, validate=False)
    except (ExpressionError, ExpressionParseError) as err:
        return f"{component.name}: {component.license!r} is no SPDX expression ({err})"
    if _allowed(parsed, rules.linked):
        return ""
    return f"{component.name}: {component.license} may not be linked"


def _allowed(parsed: LicenseExpression, linked: frozenset[str]) -> bool:
    if parsed.isliteral:
        return str(parsed.render()) in linked
    parts = [_allowed(part, linked) for part in parsed.args]
    return any(parts) if parsed.operator.strip() == "OR" else all(parts)


def _needs(name: str, extras: frozenset[str]) -> set[str]:
    found = set()
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": e}) for e in extras | {""}):
            found.add(plain(requirement.name))
    return found


def _reached(first: set[str], needs: Mapping[str, set[str]]) -> set[str]:
    reached, left = set[str](), set(first)
    while left:
        name = left.pop()
        if name in needs and name not in reached:
            reached.add(name)
            left |= needs[name]
    return reached


def _stated(name: str) -> str:
    """Return the license that the metadata state by an SPDX name; empty where they do not."""
    metadata = importlib.metadata.metadata(name)
    stated = next(iter(metadata.get_all("License-Expression") or ()), "")
    text = stated or next(iter(metadata.get_all("License") or ()), "")
    try:
        if text.strip() and not _LICENSING.unknown_license_keys(text):
            return str(_LICENSING.parse(text).render())
    except (ExpressionError, ExpressionParseError):
        pass
    return stated
