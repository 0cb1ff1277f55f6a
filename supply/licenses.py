"""Table of the licenses of all components, and a check that none is unknown or forbidden.

Usage: python -m supply.licenses [OUT]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from supply.components import Component, components, read_rules, trouble_with

HEAD = """# Licenses of all components

Written by `make licenses` from `requirements.lock`, the packages' metadata and
`supply/licenses.toml`; a test keeps it true. Used: *run* in the appliance's processes, *cluster*
with that extra, *develop* in tests and checks alone.

No component under the GPL or AGPL is linked, but for the runtime library of GCC in the wheels of
numpy and scipy, whose exception permits it. LGPL code (OpenSlide and libraries in its wheel, FFmpeg
in OpenCV's, GEOS in shapely's) is linked dynamically and can be exchanged. `BSD-3-Clause OR
GPL-2.0-only` is a choice, and the first is taken. hadolint is under the GPL-3.0: it is run as a
program of its own over the Dockerfile, is part of no image, and nothing links it. Where metadata
name no SPDX license, the license is that of the package's license file. What else is compiled into
a wheel is known only as far as its metadata or `supply/licenses.toml` say it.

| component | version | license | used |
|---|---|---|---|
"""


def table_of(found: Sequence[Component]) -> str:
    """Return the page."""
    rows = (f"| {c.name} | {c.version} | {c.license} | {c.used} |" for c in found)
    return HEAD + "\n".join(rows) + "\n"


def main() -> None:
    """Write the page; exit with what is wrong."""
    rules = read_rules()
    found = components(rules)
    if troubles := [trouble for each in found if (trouble := trouble_with(each, rules))]:
        raise SystemExit("\n".join(troubles))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(table_of(found))
    else:
        sys.stdout.write(table_of(found))


if __name__ == "__main__":
    main()
