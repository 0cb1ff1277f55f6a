"""Readings on disk: one folder per reader, and the facts of the pass that fed them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from appliance.domain import SlideFacts
from appliance.errors import DeviceUnusableError, WeightsError, WeightsUnusableError
from appliance.geometry import TileIndex
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.reader import (
    AnatomySlide,
    AnyReader,
    Options,
    OverviewInput,
    OverviewReader,
    OwnWeights,
    Reading,
    TileInput,
    TileReader,
)
from appliance.readers.tile_pass import Progress, Tiles, close_all, read_tiles
from appliance.settings.settings import Settings
from appliance.slides.appearance import Appearance, load_appearance
from appliance.slides.reader import SlideReader
from appliance.slides.tissue import Tissue
from models.errors import ModelError

PASS_NAME, READ_NAME = "pass.json", "read.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassFacts:
    """Facts of a pass over a slide's tiles; see `readers.tile_pass.TilePass`."""

    read: NDArray[np.uint8]
    appearance: Appearance
    unreadable_percent: float


@contextmanager
def usable_weights() -> Iterator[None]:
    """Raise errors of weights and of the device as trouble of the site: no slide is to blame."""
    try:
        yield
    except (WeightsError, ModelError) as err:
        raise WeightsUnusableError(f"{err} The step is tried again by itself.") from err
    except RuntimeError as err:
        from appliance.readers.inference import is_of_device  # torch, which raised it

        if not is_of_device(err):
            raise
        why = str(err).partition("\n")[0]
        raise DeviceUnusableError(
            f"The networks cannot compute ({why}). See nvidia-smi and the log; the step is tried "
            "again by itself, in a new process."
        ) from err


@usable_weights()
def reader_facts(reader: AnyReader, settings: Settings, options: Options) -> dict[str, Any]:
    """Facts that a reading depends on beside the slide, ready for an artifact's key.

    Raises
    ------
    WeightsUnusableError
        If the reader's weights cannot be used.
    """
    weights = None
    try:
        if reader.task is not None:
            weights = chosen_weights(reader.task, settings)[1].fingerprint
        elif isinstance(reader, OwnWeights):
            weights = reader.own_weights(settings)
    except OSError as err:  # a disk or a share that answers EIO or ESTALE
        raise WeightsError(f"weights for {reader.task or reader.name}: {err.strerror}.") from err
    return {
        "reader": reader.name,
        "version": reader.version,
        "weights": weights,
        "options": dict(options),
    }


def require_unchanged(
    asked: Sequence[dict[str, Any]],
    readers: Sequence[AnyReader],
    settings: Settings,
    options: Mapping[str, Options],
) -> None:
    """Require that readers depend on what they did when the key of their result was made.

    Raises
    ------
    WeightsUnusableError
        If weights were selected, or a site's calibration stored, while they read.
    """
    if [reader_facts(r, settings, options.get(r.name, {})) for r in readers] != list(asked):
        raise WeightsUnusableError(
            "Weights or their calibration were changed while a slide was read. What was read is "
            "thrown away. The step is tried again by itself."
        )


@usable_weights()
def read_overviews(
    readers: Iterable[AnyReader],
    facts: SlideFacts,
    picture: NDArray[np.uint8],
    tissue: Tissue,
    settings: Settings,
    out: Path,
) -> None:
    """Ask the readers of overviews; each writes into its folder below `out`."""
    for reader in readers:
        if reader.needs != "overview":
            continue
        given = OverviewInput(
            facts=facts, picture=picture, tissue=tissue, settings=settings, options={}
        )
        reading = cast(OverviewReader, reader).read(given)
        reader.save(reading, _folder(out, reader.name))


@usable_weights()
def read_slide_tiles(
    readers: Iterable[AnyReader],
    slide: SlideReader,
    picture: NDArray[np.uint8],
    tissue: Tissue,
    judged: Sequence[TileIndex],
    settings: Settings,
    out: Path,
    *,
    what: str,
    progress: Progress,
    margin: Sequence[TileIndex] = (),
    options: Mapping[str, Options] | None = None,
    beside: AnatomySlide | None = None,
) -> None:
    """Ask the readers of tiles, all by one decoding; each writes into its folder below `out`.

    `options` are the assay's wishes by reader name. `what` names the work in progress lines.
    """
    asked = [reader for reader in readers if reader.needs == "tiles"]
    tiles = Tiles(
        slide=slide, white_rgb=tissue.white_rgb, judged=tuple(judged), margin=tuple(margin)
    )
    sessions = []
    try:
        for reader in asked:
            given = TileInput(
                slide=slide,
                picture=picture,
                tissue=tissue,
                tiles=tiles.judged,
                margin=tiles.margin,
                settings=settings,
                options=(options or {}).get(reader.name, {}),
                beside=beside,
                out=_folder(out, reader.name),
            )
            sessions.append(cast(TileReader, reader).begin(given))
        done = read_tiles(tiles, sessions, what, progress, settings.models.batch_size)
        lost = done.unreadable_percent
        for reader, session in zip(asked, sessions, strict=True):
            reading = session.finish()
            # A reader may read further tiles of its own, such as control tissue.
            lost = max(lost, getattr(reading, "unreadable_control_percent", 0.0))
            reader.save(reading, _folder(out, reader.name))
    finally:
        close_all(sessions)
    np.save(out / READ_NAME, done.read)
    (out / PASS_NAME).write_text(json.dumps({"unreadable_percent": lost}))
    done.appearance.save(out)


def load_pass(folder: Path) -> PassFacts:
    """Read the facts of the pass in an artifact."""
    read: NDArray[np.uint8] = np.load(folder / READ_NAME, allow_pickle=False)
    return PassFacts(
        read=read,
        appearance=load_appearance(folder),
        unreadable_percent=float(
            json.loads((folder / PASS_NAME).read_text())["unreadable_percent"]
        ),
    )


def load_reading(reader: AnyReader, folders: Iterable[Path]) -> Reading:
    """Read a reader's reading from the first artifact that has it.

    Raises
    ------
    LookupError
        If no artifact has it.
    """
    for folder in folders:
        if (folder / reader.name).is_dir():
            return reader.load(folder / reader.name)
    raise LookupError(f"no reading of {reader.name!r}")


def _folder(out: Path, name: str) -> Path:
    folder = out / name
    folder.mkdir(exist_ok=True)
    return folder
