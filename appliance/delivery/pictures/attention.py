"""Attention of the classifier that read a slide: C on the anatomy slide, L on the target slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliance.delivery.pictures.case import PicturedCase, What
from appliance.errors import SettingsError
from appliance.findings.opinion import ModelReference
from appliance.geometry import TileIndex
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.networks import network_for
from appliance.readers.opinions import reference_to
from appliance.settings.settings import Settings
from models.spec import CLASSES, Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

CLASSIFIERS: Mapping[What, Task] = {"he": Task.TUMOR, "ihc": Task.INTENSITY}
STRONGEST = 95
"""Percentile of a tile's attention that is drawn as 1: a single patch would leave the others
pale."""
TUMOR = CLASSES[Task.TUMOR].index("tumor")
LETTERS: Mapping[What, str] = {"he": "C", "ihc": "L"}


def classifier(case: PicturedCase, what: What, settings: Settings) -> Network | None:
    """Return the network that classified the tiles of a slide; None where the assay has none.

    Raises
    ------
    SettingsError
        If other weights are in use now: their attention would explain nothing.
    WeightsError, models.errors.ManifestError
        If the weights cannot be used.
    """
    task = CLASSIFIERS[what]
    used = _used(case, task)
    if used is None:
        return None
    now = reference_to(chosen_weights(task, settings)[1])
    known = "fingerprint" if used.fingerprint else "sha256"
    if getattr(now, known) != getattr(used, known):
        raise SettingsError(
            f"{case.name} was read by other weights of {task} ({used.name} {used.version}) than "
            f"those in use ({now.name} {now.version}). Select those (tandem weights use), or have "
            "it read again (tandem rerun, tandem process); --no-attention leaves heat maps out."
        )
    return network_for(task, settings)


def heat_of(
    network: Network, tiles: Sequence[NDArray[np.uint8]], classes: Sequence[int]
) -> list[NDArray[np.float32]]:
    """Heat (rows, columns of patches), 0-1, of tiles uint8 (512, 512, 3), glass at 255.

    It is attention to what speaks for one class of each tile. Each tile has its own scale: its
    least attention is 0, and 1 is what the strongest twentieth of its patches exceed.
    """
    heats = []
    for attention in network.attention(np.stack(tiles), classes):
        low, high = float(attention.min()), float(np.percentile(attention, STRONGEST))
        scaled = (attention - low) / max(high - low, 1e-12)
        heats.append(scaled.clip(0, 1).astype(np.float32))
    return heats


def class_asked(case: PicturedCase, what: What, index: TileIndex) -> int:
    """Class about which attention is asked: tumor of C, and of L the class that it gave the tile.

    A target tile that L did not read is asked about the lowest class.
    """
    if what == "he":
        return TUMOR
    tile = case.tiles(what).get(index)
    return 0 if tile is None else tile.intensity


def _used(case: PicturedCase, task: Task) -> ModelReference | None:
    return next((model for model in case.findings.models if model.task == task), None)
