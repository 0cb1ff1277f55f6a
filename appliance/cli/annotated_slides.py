"""Annotated slides of a site, opened for ``tandem dataset`` and ``tandem calibrate``."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from appliance.slides.annotated import CalibratedSlide, open_calibrated


def open_as_the_daemon(path: Path) -> AbstractContextManager[CalibratedSlide]:
    """Open a slide with the resolution that its sidecar declares, where it declares one.

    Raises
    ------
    DataSetError
        If the slide cannot be opened or decoded.
    """
    from appliance.operations.site_calibration import declared_mpp

    return open_calibrated(path, mpp=declared_mpp(path))
