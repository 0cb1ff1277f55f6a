"""Reader: who gives an opinion on a slide, and the registry of readers.

A reader is one class in one file, registered by `@reader`. `needs` states its input: ``tiles``
(pixels of the tiles of one slide), ``overview`` (the small picture of one slide), ``bag`` (the
vectors of the tiles of one slide by an encoder), or ``findings`` (the scored case). Each reader
gives a reading, which holds its `Opinion`, and saves and loads its own readings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from appliance.domain import SlideFacts, Stain
from appliance.errors import SettingsError
from appliance.findings.findings import Findings
from appliance.findings.opinion import Opinion
from appliance.geometry import TileIndex
from appliance.registration.mapping import SlideMapping
from appliance.settings.extensions import load_extensions
from appliance.settings.settings import Settings
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import Tissue
from models.mil.bag import Bag
from models.spec import Task

if TYPE_CHECKING:
    from appliance.readers.inference import Network

Needs = Literal["tiles", "overview", "bag", "findings"]
Options = Mapping[str, Any]
"""JSON-serialisable wishes of the assay, such as ``{"every_cell": True}``."""


class Reading(Protocol):
    """Answer of a reader on one slide: the opinion and whatever else the reader knows."""

    @property
    def opinion(self) -> Opinion: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TileAttention:
    """Weight of each tile of a slide in an answer on the whole slide.

    `tiles` is int32 (n, 2): column and row in the slide's grid. `weights` is float32 (n,), >= 0,
    with the sum 1.
    """

    tiles: NDArray[np.int32]
    weights: NDArray[np.float32]


@runtime_checkable
class Attended(Protocol):
    """Reading that knows which tiles weighed how much; None where nothing was judged."""

    @property
    def attention(self) -> TileAttention | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AnatomySlide:
    """Anatomy slide beside a target slide: its tissue, and the map of its µm to target µm."""

    tissue: Tissue
    mapping: SlideMapping


@dataclass(frozen=True, slots=True, kw_only=True)
class OverviewInput:
    """Slide as a reader of overviews is given it.

    `picture` is uint8 RGB (rows, cols, 3) of the whole slide; `tissue` lies on the same picture.
    """

    facts: SlideFacts
    picture: NDArray[np.uint8]
    tissue: Tissue
    settings: Settings
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class TileInput:
    """Slide as a reader of tiles is given it.

    Attributes
    ----------
    slide, picture, tissue
        Open slide; uint8 RGB (rows, cols, 3) of the whole slide; tissue on that picture.
    tiles, margin
        Tiles that are judged, and tiles that are read and annotated; row by row.
    beside
        Anatomy slide beside a target slide; None where the slide is read alone.
    out
        Folder of the reader's own files.
    """

    slide: SlideReader
    picture: NDArray[np.uint8]
    tissue: Tissue
    tiles: tuple[TileIndex, ...]
    margin: tuple[TileIndex, ...]
    settings: Settings
    options: Options
    beside: AnatomySlide | None
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Tiles that were decoded together.

    `pixels` uint8 (N, px, px, 3) with glass at 255; its memory is used again after the batch.
    `judged` tells for each tile whether it is judged or only annotated.
    """

    tiles: Sequence[TileIndex]
    pixels: NDArray[np.uint8]
    judged: Sequence[bool]


class TileSession(Protocol):
    """Reading of the tiles of one slide by one reader.

    `answer` may be called on several threads at once. `take` is called in the order of the tiles,
    on one thread. `finish` is called once, after the last batch.
    """

    px: int
    """Edge in px of the tiles that the reader wants: `TILE_PX`, or half of it."""
    network: Network | None
    """Network that answers; None for a reader without one."""

    def answer(self, pixels: NDArray[np.uint8]) -> Any: ...

    def take(self, batch: Batch, answer: Any) -> None: ...

    def finish(self) -> Reading: ...

    def close(self) -> None:
        """Release threads and files, also after a failure."""


class Reader(Protocol):
    """Facts of a reader; its input is one of the four protocols below."""

    name: ClassVar[str]
    version: ClassVar[int]
    """Counted up when its answers change: readings of other versions are made anew."""
    needs: ClassVar[Needs]
    stains: ClassVar[tuple[Stain, ...]]
    """Stains that it can read. Of a reader of both slides the target's reading counts."""
    task: ClassVar[Task | None]
    """Task of the weights that it uses; None for a reader without a network."""

    def save(self, reading: Any, folder: Path) -> None: ...

    def load(self, folder: Path) -> Reading: ...


@runtime_checkable
class OwnWeights(Protocol):
    """Reader with weights that belong to no `Task`, such as those of whole slides."""

    def own_weights(self, settings: Settings) -> str:
        """Return the fingerprint of the weights in use, for artifact keys; empty for none."""
        ...


class TileReader(Reader, Protocol):
    """Reader of tiles."""

    def begin(self, given: TileInput) -> TileSession: ...


class OverviewReader(Reader, Protocol):
    """Reader of overviews."""

    def read(self, given: OverviewInput) -> Reading: ...


@runtime_checkable
class BagReader(Reader, OwnWeights, Protocol):
    """Reader of the bag of one slide: a hint on an anatomy slide, or a second reader's opinion."""

    def is_on(self, settings: Settings) -> bool:
        """Return whether the settings ask for it."""
        ...

    def encoder(self, settings: Settings) -> Path:
        """Return the folder of the encoder that makes its bags."""
        ...

    def read(self, bag: Bag, settings: Settings) -> Reading: ...


class SecondBagReader(BagReader, Protocol):
    """Reader of the bag of a target slide, beside the score."""

    def silent(self, settings: Settings) -> Reading:
        """Return the reading of a slide whose bag cannot be made, or not in time."""
        ...


class FindingsReader(Reader, Protocol):
    """Reader of a scored case: a vote on what the others said."""

    def read(self, findings: Findings) -> Opinion: ...


AnyReader = TileReader | OverviewReader | BagReader | FindingsReader
_READERS: dict[str, AnyReader] = {}
R = TypeVar("R", bound=type[Any])


def reader(cls: R) -> R:
    """Register a reader class under its name.

    Raises
    ------
    ValueError
        If another class has the name.
    """
    known = type(_READERS[cls.name]) if cls.name in _READERS else cls
    # Equal names: the module is imported again after an import that failed half way.
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"two readers have the name {cls.name!r}")
    _READERS[cls.name] = cls()
    return cls


def load_installed() -> None:
    """Import the modules that register readers, assays and destinations."""
    load_extensions(())


def find_reader(name: str) -> AnyReader:
    """Reader of a name.

    Raises
    ------
    SettingsError
        If no such reader is installed.
    """
    load_installed()
    if name not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise SettingsError(
            f"no reader {name!r} is installed; there are: {known}. Add its module to extensions."
        )
    return _READERS[name]
