"""Extension modules: what is built in, and what a site adds.

Assays, readers and destinations are registered by decorators. `load_extensions` imports the modules
that hold them, so that registration is never a side effect of some other import. Every process
calls it: validation of `Settings` for a site's modules, the registries before they are asked, and
the initializer of each worker process.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from appliance.errors import SettingsError

BUILT_IN = (
    "appliance.readers.tumor",
    "appliance.readers.intensity",
    "appliance.readers.segmentation",
    "appliance.readers.plain",
    "appliance.readers.low_resolution",
    "appliance.readers.multiple_instance",
    "appliance.readers.interim",
    "appliance.assays.her2.assay",
    "appliance.delivery.destinations.folder",
    "appliance.delivery.destinations.dimse",
    "appliance.delivery.destinations.dicomweb",
    "appliance.delivery.destinations.mllp",
    "appliance.delivery.destinations.fhir_rest",
)
"""Modules of the appliance that register something. Names, not imports: they lie above settings."""
BUILT_IN_ASSAYS = frozenset({"her2"})
"""Assays that these modules register: always installed, as can be told without importing them."""


def load_extensions(modules: Sequence[str]) -> None:
    """Import the built-in modules, then a site's `modules` (setting ``extensions``).

    Idempotent: a module that is loaded already is not executed again.

    Raises
    ------
    SettingsError
        If a module of the site cannot be imported.
    """
    for name in BUILT_IN:
        importlib.import_module(name)
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as err:  # a boundary to foreign code: executing it can raise anything
            raise SettingsError(
                f"extension '{name}' cannot be imported ({type(err).__name__}: {err}). Install it "
                "for this Python, put its folder on PYTHONPATH, or take it out of extensions."
            ) from err
