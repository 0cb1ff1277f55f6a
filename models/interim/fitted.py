"""Interim reader that has learned: its answers, and its weights on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from models.errors import ManifestError
from models.interim.ipca import InterimNetwork
from models.interim.manifest import shape_of, verify_interim
from models.interim.pairs import tiles_of
from models.interim.train import InterimAnswer, predict
from models.mil.bag import Bag
from models.slide_level.manifest import SlideSpec, load_slide_weights, save_slide_weights
from models.spec import MANIFEST_NAME


class FittedInterim:
    """Network with its manifest."""

    def __init__(self, spec: SlideSpec, network: InterimNetwork) -> None:
        self.spec = spec
        self._network = network.eval()

    def answer(self, bag: Bag) -> InterimAnswer:
        """Answer for an H&E slide; the attention is in the bag's order.

        Raises
        ------
        DataSetError
            If the bag is of another encoder than those of the training.
        """
        return predict(self._network, tiles_of(bag, self.spec.input["encoder"]))

    def save(self, folder: Path) -> None:
        """Write weights and manifest."""
        tensors = {name: t.detach().numpy() for name, t in self._network.state_dict().items()}
        self.spec = save_slide_weights(folder, self.spec, tensors)


def load_interim(folder: Path) -> FittedInterim:
    """Return the reader whose weights lie in a folder.

    Raises
    ------
    ManifestError
        If manifest or weights are missing, damaged or do not fit each other.
    """
    spec = verify_interim(folder)
    network = InterimNetwork(shape_of(spec, folder / MANIFEST_NAME))
    tensors = {name: torch.from_numpy(v) for name, v in load_slide_weights(folder).items()}
    try:
        network.load_state_dict(tensors)
    except RuntimeError as err:
        raise ManifestError(f"{folder}: the weights do not fit the manifest: {err}") from err
    return FittedInterim(spec, network)
