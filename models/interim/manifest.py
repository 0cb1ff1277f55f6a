"""Weights of the interim reader on disk, without torch: the manifest of slide-level weights."""

from __future__ import annotations

from pathlib import Path

from models.errors import ManifestError
from models.interim.shape import InterimShape
from models.slide_level.manifest import SlideSpec, verify_slide_weights
from models.slide_level.tasks import SlideTask
from models.spec import MANIFEST_NAME

INTERIM = "interim"
"""`SlideSpec.system` of these weights."""
VERSION = "2.0"
"""Counted up when equal weights would answer otherwise, as `SlideSpec.version` says.

2.0: patches attend to the anchors as Eq. 1 made them.
"""


def verify_interim(folder: Path) -> SlideSpec:
    """Return the manifest of a folder after a check of the weights against its checksum.

    Raises
    ------
    ManifestError
        If manifest or weights are missing, damaged, or of another kind or version of reader.
    """
    spec = verify_slide_weights(folder)
    path = folder / MANIFEST_NAME
    if spec.system != INTERIM or spec.task != SlideTask.FOUR_WAY:
        raise ManifestError(
            f"{path}: weights of {spec.system} for the task {spec.task}, not of the interim "
            "reader. Name a folder that `tandem train interim` wrote."
        )
    if spec.version != VERSION:
        raise ManifestError(
            f"{path}: weights of version {spec.version} of the network, and this edition reads "
            f"{VERSION}. Train them again with `tandem train interim`."
        )
    shape = shape_of(spec, path)
    known = shape.features == spec.input.get("dimension") and shape.classes == len(spec.classes)
    if not known or not isinstance(spec.input.get("encoder"), str):
        raise ManifestError(f"{path}: its numbers contradict each other. Train it again.")
    return spec


def shape_of(spec: SlideSpec, path: Path) -> InterimShape:
    """Return the numbers of the network that a manifest, read from `path`, describes.

    Raises
    ------
    ManifestError
        If a number is missing, unknown or out of its range.
    """
    try:
        return InterimShape(**spec.config)
    except (TypeError, ValueError) as err:
        raise ManifestError(f"{path}: numbers of the network: {err}. Train it again.") from err
