"""Checks of settings that cannot work, before the daemon starts: one line each, with the remedy.

`tandem run`, ``config check`` and ``doctor`` say the same sentences. Trouble that ends by itself is
not told here: a share that is away, a full disk. Nothing is left behind, and nothing is ever
written below the scanner's folder.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from appliance.assays.registry import tasks, vocabulary, with_own_weights
from appliance.errors import SettingsError, TandemError
from appliance.intake.identity.vocabulary import shared_words
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.reader import BagReader, OwnWeights
from appliance.settings.destinations import RESULT_SYSTEM, FhirDestination, FolderDestination
from appliance.settings.secrets import open_secrets
from appliance.settings.settings import Settings
from models.encoders.spec import verify_encoder
from models.errors import ModelError

_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})
"""Errors of a folder that no waiting mends."""


def check_start(settings: Settings) -> None:
    """Check folders, secrets, weights and words of stains.

    Raises
    ------
    SettingsError
        With one line for each setting that cannot work.
    """
    # Weights that were selected lie in the state folder.
    problems = folder_problems(settings) or list(_weights_problems(settings))
    problems += [*open_secrets(settings), *word_problems(settings)]
    if problems:
        raise SettingsError("\n".join(problems))


def start_notes(settings: Settings) -> Iterator[str]:
    """Yield a line for each setting that may do harm beside another installation, or has no effect
    any more."""
    if not settings.identify.writing.fold_case:
        yield (
            "identify.writing.fold_case = false: has no effect, s26-00031 and S26-00031 are one "
            "accession. Remove it."
        )
    for section in settings.destinations:
        if isinstance(section, FhirDestination) and section.identifier_system == RESULT_SYSTEM:
            yield (
                f"destination '{section.name}': identifier_system is the default. Where another "
                "Tandem sends to the same server, results of equal accessions take each other's "
                "place: give each installation its own."
            )


def folder_problems(settings: Settings) -> list[str]:
    """Return a line for each folder of the settings that cannot be used."""
    # Where folders lie within each other nothing is tried: a probe would be a file for a scan.
    return list(_nested(settings)) or list(_not_writable(settings))


def word_problems(settings: Settings) -> Iterator[str]:
    """Yield a line for each word that two stains have: a slide with it would be taken for one."""
    for word, *codes in shared_words(vocabulary(settings)):
        yield (
            f"identify.stains: the word {word!r} is one of {' and of '.join(codes)}. Leave it to "
            "one of them."
        )


def _written(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Folders that the appliance writes to, with the settings that name them."""
    yield "state_dir", settings.state_dir
    for section in settings.destinations:
        if isinstance(section, FolderDestination) and section.folder is not None:
            yield f"folder of the destination '{section.name}'", section.folder


def _nested(settings: Settings) -> Iterator[str]:
    work = settings.workitems
    if work is not None and work.folder not in settings.watch.roots:
        yield (
            f"workitems.folder = {work.folder}: is not watched, and fetched slides would only lie "
            "there. Name it in watch.folders too."
        )
    for watched, (name, folder) in product(settings.watch.roots, _written(settings)):
        if is_inside(folder, watched):
            yield (
                f"{name} = {folder}: lies inside watch.folder = {watched}, so that what Tandem "
                "writes would come back as slides. Name a folder outside of it."
            )
        elif is_inside(watched, folder):
            yield (
                f"watch.folder = {watched}: lies inside {name} = {folder}. Name a folder outside "
                "of it."
            )


def require_outside(settings: Settings, place: Path) -> None:
    """Require that a place to write to lies outside of the folders of scanners.

    Raises
    ------
    SettingsError
        If it lies inside of one.
    """
    for watched in settings.watch.roots:
        if is_inside(place, watched):
            raise SettingsError(
                f"{place}: lies inside watch.folder = {watched}, to which nothing is written. Name "
                "a folder outside of it."
            )


def is_inside(inner: Path, outer: Path) -> bool:
    """Return whether a folder is another one, or lies inside of it.

    Links are resolved, and bind mounts are seen. Names that differ by case only are taken for the
    same, unless both are there and are two folders.
    """
    real = Path(os.path.realpath(outer))
    start = Path(os.path.realpath(inner))
    return any(_is_same(folder, real) for folder in (start, *start.parents))


def _is_same(one: Path, other: Path) -> bool:
    if one == other:
        return True
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there yet, or is away
        return str(one).casefold() == str(other).casefold()


def _not_writable(settings: Settings) -> Iterator[str]:
    for name, folder in _written(settings):
        problem = _state_problem(folder) if name == "state_dir" else _archive_problem(folder)
        if problem:
            yield f"{name} = {folder}: {problem}"


def _state_problem(folder: Path) -> str:
    """Return why the state folder cannot be written, or made; empty where it can."""
    for there in (folder, *folder.absolute().parents):
        if _is_there(there):
            return _probe(there)
    return ""


def _archive_problem(folder: Path) -> str:
    """Return why an archive's folder cannot be used; empty for one that is away."""
    if _is_there(folder):
        return _probe(folder)
    parent = folder.absolute().parent
    if not _is_there(parent) or parent.is_file():
        return "neither this folder nor the one that it lies in is there. Create it, or mount it."
    return ""


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as err:
        # Not known to be missing: the probe tells, or it is away.
        return err.errno != errno.ENOTDIR
    return True


def _probe(folder: Path) -> str:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as err:
        if err.errno not in _NOT_ALLOWED:
            return ""
        if err.errno == errno.EROFS:
            return (
                f"cannot be written ({err.strerror}). Mount it so that it can be, or name another "
                "folder. Under systemd only the folders that the units name can be written: write "
                "them anew by tandem init --out FOLDER_OF_TANDEM.TOML --systemd, and copy them."
            )
        return (
            f"cannot be written ({err.strerror}). Give Tandem's user the right to write, or name "
            "another folder."
        )


def _weights_problems(settings: Settings) -> Iterator[str]:
    for task in tasks():
        try:
            chosen_weights(task, settings)
        except (TandemError, ModelError, OSError) as err:
            yield f"weights for {task}: {err}"
    for name, reader in with_own_weights().items():
        try:
            checked_weights(reader, settings)
        except (TandemError, ModelError, OSError) as err:
            yield f"weights for {name}: {err}"


def checked_weights(reader: OwnWeights, settings: Settings) -> str:
    """Return the fingerprint of a reader's own weights; empty where there are none.

    Raises
    ------
    WeightsError, models.errors.ManifestError
        If they, or the files of the encoder that makes its bags, cannot be used.
    """
    fingerprint = reader.own_weights(settings)
    if fingerprint and isinstance(reader, BagReader):
        verify_encoder(reader.encoder(settings))
    return fingerprint
