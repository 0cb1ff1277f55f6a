"""Software bill of materials of this checkout: CycloneDX 1.5 as JSON, valid by its schema.

Equal locks give equal bytes: the serial number derives from the components, and no time is stated
but that of ``SOURCE_DATE_EPOCH``, where it is set.

Usage: python -m supply.sbom [OUT]
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from supply.components import OURS, Component, components, read_rules


def bill_of(found: Iterable[Component]) -> dict[str, Any]:
    """Return the bill of components as CycloneDX has it."""
    entries = [_entry(each) for each in found]
    text = json.dumps(entries, sort_keys=True)
    metadata: dict[str, Any] = {
        "component": {
            "type": "application",
            "bom-ref": OURS,
            "name": OURS,
            "version": version(OURS),
            "licenses": [{"license": {"id": "Apache-2.0"}}],
        }
    }
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        metadata["timestamp"] = datetime.fromtimestamp(int(epoch), tz=UTC).isoformat()
    refs = {each.name: _ref(each) for each in found}
    direct = [refs[each.name] for each in found if each.used == "run"]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}",
        "version": 1,
        "metadata": metadata,
        "components": entries,
        "dependencies": [
            {"ref": OURS, "dependsOn": sorted(direct)},
            *(
                {"ref": refs[each.name], "dependsOn": [refs[name] for name in each.needs]}
                for each in found
            ),
        ],
    }


def trouble_of(bill: dict[str, Any]) -> str:
    """Return what the schema of CycloneDX 1.5 says against a bill; empty where it is valid."""
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(json.dumps(bill))
    return "" if error is None else str(error.data.message)


def _entry(component: Component) -> dict[str, Any]:
    scope = {"run": "required", "cluster": "optional", "develop": "excluded"}[component.used]
    entry: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(component),
        "name": component.name,
        "version": component.version,
        "scope": scope,
        "licenses": [{"expression": component.license}],
    }
    if not component.license:
        entry.pop("licenses")
    if _ref(component).startswith("pkg:"):
        entry["purl"] = _ref(component)
    return entry


def _ref(component: Component) -> str:
    name = f"{component.name}@{component.version}"
    return name if component.name in _included() else f"pkg:pypi/{name}"


@cache
def _included() -> frozenset[str]:
    return frozenset(each.name for each in read_rules().included)


def main() -> None:
    """Write the bill, or say what is wrong with it."""
    bill = bill_of(components(read_rules()))
    if trouble := trouble_of(bill):
        raise SystemExit(f"the bill is not valid: {trouble}")
    text = json.dumps(bill, indent=1) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
        Path(sys.argv[1]).write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
