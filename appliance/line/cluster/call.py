"""The call of a step on a worker's machine, in a process of its own.

Paths of the daemon's machine become those of this one: each `Path` among the arguments and in their
fields when the call is unpickled, and the paths of slides when they are opened
(`appliance.slides.places`). What is stored, such as findings, keeps the daemon's paths.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from appliance.artifacts import require_usable
from appliance.domain import SlideFacts
from appliance.errors import FolderAwayError, SlideError, SourceChangedError
from appliance.intake.presence import KnownFolders, root_of, why_root_is_away
from appliance.line.outcomes import ReadSlide
from appliance.settings.settings import Settings
from appliance.slides.places import PathPairs, daemons_path, place_of, use_places

LOCK_NAME = "daemon.lock"
"""File of the state folder that the running daemon holds."""


def run_call(work: bytes, pairs: PathPairs) -> Any:
    """Run a pickled call with the paths of this machine.

    Raises
    ------
    FolderAwayError
        If this machine does not see the state folder, or the scanner's folder of a slide.
    StateFolderError
        If this machine cannot store results in the state folder.
    Exception
        Any exception that the step raised.
    """
    use_places(pairs)
    function, arguments = _Unpickler(io.BytesIO(work)).load()
    settings = next((value for value in arguments if isinstance(value, Settings)), None)
    if settings is not None:
        _require_state(settings)
    try:
        return function(*arguments)
    except SourceChangedError as err:
        raise SourceChangedError(daemons_path(err.path)) from err
    except (SlideError, OSError) as err:
        if settings is not None:
            _require_state(settings)
            if isinstance(err, OSError):
                require_usable(settings.artifacts_dir)
            _require_scans(_slides_of(arguments), settings)
        raise


def _require_state(settings: Settings) -> None:
    try:
        there = (settings.state_dir / LOCK_NAME).is_file()
    except OSError:
        there = False
    if not there:
        raise FolderAwayError(
            f"A worker's machine does not see the state folder at {settings.state_dir}. Mount it "
            "there, or set cluster.paths; the step is tried again by itself."
        )


def _slides_of(arguments: Iterable[Any]) -> Iterator[str]:
    """Yield the places of the slides that a step reads."""
    for value in arguments:
        if isinstance(value, Path):
            yield str(value)
        elif isinstance(value, ReadSlide):
            yield str(place_of(value.facts.path))
        elif isinstance(value, SlideFacts):
            yield str(place_of(value.path))


def _require_scans(slides: Iterable[str], settings: Settings) -> None:
    """Check the watched folders of some slides; others may be away meanwhile, or empty."""
    roots = {root_of(slide, settings.watch) for slide in slides}
    for root in sorted(filter(None, roots)):
        why = why_root_is_away(root, settings.watch.marker, KnownFolders(None))
        if why is not None:
            raise FolderAwayError(
                f"A worker's machine does not see the scanner's folder at {root} ({why}). Mount it "
                "there, or set cluster.paths; the step is tried again by itself."
            )


class _Unpickler(pickle.Unpickler):
    """Unpickler of a call from the daemon; paths become those of this machine."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function by its name; for the class of paths, `_path`."""
        found = super().find_class(module, name)
        return _path if isinstance(found, type) and issubclass(found, Path) else found


def _path(*parts: str) -> Path:
    return place_of(Path(*parts))


def pickled_call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    """Pickle a call for `run_call`."""
    return pickle.dumps((function, arguments))
