"""Aggregators by name, untrained: numbers in, network out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from models.errors import ManifestError
from models.mil.abmil import Abmil, AbmilShape
from models.mil.clam import Clam, ClamShape
from models.mil.dtfd import Dtfd, DtfdShape
from models.mil.transmil import Transmil, TransmilShape

AGGREGATORS = ("clam-sb", "clam-mb", "dtfd", "abmil", "transmil")


def build_aggregator(
    name: str, dimension: int, classes: int, config: Mapping[str, Any]
) -> nn.Module:
    """Return an untrained aggregator; ``forward(vectors)`` of (n, `dimension`) gives `Aggregate`.

    `config` holds the numbers of its shape that differ from the defaults.

    Raises
    ------
    ManifestError
        If the name or a number's name is unknown.
    """
    try:
        match name:
            case "clam-sb" | "clam-mb":
                shape = ClamShape(**config)
                return Clam(dimension, classes, shape, branches_per_class=name == "clam-mb")
            case "dtfd":
                return Dtfd(dimension, classes, DtfdShape(**config))
            case "abmil":
                return Abmil(dimension, classes, AbmilShape(**config))
            case "transmil":
                return Transmil(dimension, classes, TransmilShape(**config))
    except TypeError as err:
        raise ManifestError(f"numbers of the aggregator {name}: {err}") from err
    raise ManifestError(f"unknown aggregator {name!r}: {', '.join(AGGREGATORS)}")
