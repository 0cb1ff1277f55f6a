"""Results that hold what was made with the salt of the state folder.

A restore puts another salt in its place. Their keys do not tell it: they would be taken again, and
sent into the study of an installation that is no more.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.index import INDEX_NAME
from appliance.delivery.orders import orders_made_with_salt
from appliance.settings.installation import installation_name
from appliance.settings.settings import Settings
from dicom.derived import observer_uid

_OTHER = "another"


def discard_made_with_salt(settings: Settings, accessions: Iterable[str]) -> None:
    """Remove the objects, and the kept orders of accessions, that were made with the salt.

    They are made again, with the salt that is there then. Those of another one stay.

    Raises
    ------
    OSError
        If one cannot be read or removed.
    """
    store = ArtifactStore(settings.artifacts_dir)
    keys = [*objects_made_with_salt(settings)]
    for accession in accessions:
        keys += orders_made_with_salt(accession, settings)
    for key in keys:
        shutil.rmtree(store.path(key))


def objects_made_with_salt(settings: Settings) -> Iterator[ArtifactKey]:
    """Yield the keys of the objects whose report names this installation as its device.

    Raises
    ------
    OSError
        If one cannot be read.
    """
    name = installation_name(settings.state_dir)
    for key, named in _named(settings, (name,)):
        if named == name:
            yield key


def may_be_made_with_salt(settings: Settings) -> bool:
    """Return whether there are objects that cannot be shown to be of another salt.

    Reports of the first editions name no installation.

    Raises
    ------
    OSError
        If one cannot be read.
    """
    names = (installation_name(settings.state_dir), "")
    return any(named != _OTHER for _, named in _named(settings, names))


def _named(settings: Settings, names: Sequence[str]) -> Iterator[tuple[ArtifactKey, str | None]]:
    """Yield objects with which of some installations their report names: `_OTHER` for none of them,
    None where that cannot be read. A damaged one is made again when it is asked for."""
    for folder in (settings.artifacts_dir / "objects").glob("[!.]*"):
        if not folder.is_dir():
            continue
        key, named = ArtifactKey("objects", folder.name), None
        with suppress(FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            software = json.loads((folder / INDEX_NAME).read_text())["made_from"]["software"]
            report = (folder / "sr.dcm").read_bytes()
            told = (name for name in names if observer_uid(software, name).encode() in report)
            named = next(told, _OTHER)
        yield key, named
