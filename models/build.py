"""Construction of untrained networks from a spec."""

from __future__ import annotations

from torch import nn

from models.errors import ManifestError
from models.segformer import SegformerSegmenter
from models.spec import ModelSpec
from models.vit import VitClassifier


def build(spec: ModelSpec) -> nn.Module:
    """Return the network of `spec.architecture`; ``forward(pixels)`` gives a tuple with ``logits``.

    Raises
    ------
    ManifestError
        If the architecture is unknown, or a number of it.
    """
    match spec.architecture:
        case "vit":
            return VitClassifier(spec)
        case "segformer":
            return SegformerSegmenter(spec)
        case "maskformer":
            # It imports transformers, which costs seconds; the other networks do without.
            from models.maskformer import MaskformerSegmenter

            return MaskformerSegmenter(spec)
        case unknown:
            raise ManifestError(f"unknown architecture {unknown!r}: vit, segformer, maskformer")
