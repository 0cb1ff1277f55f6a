"""Registry of assays. Nothing else knows which assays there are."""

from __future__ import annotations

from typing import cast

from appliance.assays.assay import Assay, StainFacts
from appliance.domain import Pairing, Stain
from appliance.errors import SettingsError
from appliance.readers.reader import (
    AnyReader,
    BagReader,
    OwnWeights,
    SecondBagReader,
    find_reader,
    load_installed,
)
from appliance.settings.settings import Settings
from models.spec import Task

_ASSAYS: dict[str, Assay] = {}
MOST_CLASSES = 4
LONGEST_TITLE = 24
"""Most characters of an assay's title: descriptions of 64 hold it, what it names and the notice."""
"""Classes of a label map beside its background."""


def register_assay(assay: Assay) -> Assay:
    """Register an assay under its name.

    Raises
    ------
    ValueError
        If another assay has the name, or `tumor_reader` is none of the assay's readers.
    """
    if assay.tumor_reader not in assay.readers:
        raise ValueError(f"assay {assay.name!r} does not name its reader {assay.tumor_reader!r}")
    if _ASSAYS.get(assay.name, assay) != assay:
        raise ValueError(f"two assays have the name {assay.name!r}")
    _ASSAYS[assay.name] = assay
    return assay


def assays() -> tuple[Assay, ...]:
    """All installed assays, in the order of registration."""
    load_installed()
    return tuple(_ASSAYS.values())


def find_assay(name: str) -> Assay:
    """Assay of a name.

    Raises
    ------
    SettingsError
        If no such assay is installed.
    """
    for assay in assays():
        if assay.name == name:
            return assay
    known = ", ".join(assay.name for assay in assays())
    raise SettingsError(
        f"no assay {name!r} is installed; there are: {known}. Add its module to extensions."
    )


def pairings(settings: Settings) -> tuple[Pairing, ...]:
    """Pairs of stains that make a case, one per assay.

    Raises
    ------
    SettingsError
        If ``pair.expected_assays`` names an assay that is not installed.
    """
    expected = {find_assay(name).name for name in settings.pair.expected_assays}
    return tuple(assay.pairing(expected=assay.name in expected) for assay in assays())


def stains() -> dict[Stain, StainFacts]:
    """Stains of all assays, by code."""
    return {stain.code: stain for assay in assays() for stain in assay.stains}


def vocabulary(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Words of the laboratory for each stain: those of the assays, and those of the settings.

    Words of the settings replace the assay's for that stain.

    Raises
    ------
    SettingsError
        If the settings name a stain that no assay knows.
    """
    known = {str(code): facts.words for code, facts in stains().items()}
    for code in settings.identify.stains:
        if code not in known:
            raise SettingsError(
                f"identify.stains: unknown stain {code!r}: no assay names it; use "
                f"{' or '.join(known)}."
            )
    return known | dict(settings.identify.stains)


def readers_alone(assay: Assay, stain: Stain) -> tuple[AnyReader, ...]:
    """Readers of an assay that need this slide alone.

    These are its readers of overviews, and its readers of tiles of the anatomy slide; a target
    slide's tiles are read when the tumor is known. Those of its bag are in `bag_readers`.
    """
    return tuple(
        reader
        for reader in assay_readers(assay)
        if stain in reader.stains
        and (
            reader.needs == "overview" or (reader.needs == "tiles" and stain == assay.anatomy.code)
        )
    )


def bag_readers(assay: Assay, settings: Settings) -> tuple[SecondBagReader, ...]:
    """Readers of an assay that take the bag of its target slide, as far as they are on."""
    return tuple(reader for reader in _bag_readers(assay) if reader.is_on(settings))


def _bag_readers(assay: Assay) -> tuple[SecondBagReader, ...]:
    return tuple(
        cast(SecondBagReader, reader)
        for reader in assay_readers(assay)
        if reader.needs == "bag" and assay.target.code in reader.stains
    )


def is_read_alone(assay: Assay, stain: Stain, settings: Settings) -> bool:
    """Return whether an assay has a reader that needs a slide of this stain alone."""
    if readers_alone(assay, stain):
        return True
    return stain == assay.target.code and bool(bag_readers(assay, settings))


def readers_in_use(assay: Assay, settings: Settings) -> tuple[AnyReader, ...]:
    """Readers of an assay without those that the settings leave off."""
    off = [reader for reader in _bag_readers(assay) if not reader.is_on(settings)]
    return tuple(reader for reader in assay_readers(assay) if reader not in off)


def readers_of_target(assay: Assay) -> tuple[AnyReader, ...]:
    """Readers of the target slide's tiles."""
    return tuple(
        reader
        for reader in assay_readers(assay)
        if reader.needs == "tiles" and assay.target.code in reader.stains
    )


def assay_readers(assay: Assay) -> tuple[AnyReader, ...]:
    """Readers that an assay names, in its order."""
    return tuple(find_reader(name) for name in assay.readers)


def interim_reader(assay: Assay, settings: Settings) -> BagReader | None:
    """Reader that gives a hint on an assay's anatomy slide; None without one, or if it is off."""
    if not assay.interim_reader:
        return None
    reader = cast(BagReader, find_reader(assay.interim_reader))
    return reader if reader.is_on(settings) else None


def check_assays(settings: Settings) -> None:
    """Check that every installed assay can decide, and that the settings fit the assays.

    Raises
    ------
    SettingsError
        If an assay names a reader that is not installed or reads neither of its slides, its tumor
        reader does not read tiles of its anatomy slide, or its interim reader the bag, it has more
        classes than a label map of `MOST_CLASSES`, its title is too long for objects, its own check
        fails, or the settings name an unknown stain or assay.
    """
    pairings(settings)
    vocabulary(settings)
    for assay in assays():
        for reader in assay_readers(assay):
            if reader.needs != "findings" and not _is_asked(reader, assay):
                raise SettingsError(
                    f"assay {assay.name!r}: reader {reader.name!r} reads neither of its slides. "
                    "Add a stain of the assay to the reader, or take the reader from the assay."
                )
        tumor = find_reader(assay.tumor_reader)
        if tumor.needs != "tiles" or assay.anatomy.code not in tumor.stains:
            raise SettingsError(
                f"assay {assay.name!r}: reader {tumor.name!r} does not read tiles of "
                f"{assay.anatomy.code} slides. Name another tumor_reader."
            )
        if assay.interim_reader:
            interim = find_reader(assay.interim_reader)
            if interim.needs != "bag" or assay.anatomy.code not in interim.stains:
                raise SettingsError(
                    f"assay {assay.name!r}: reader {interim.name!r} does not read the bag of "
                    f"{assay.anatomy.code} slides. Name another interim_reader."
                )
        if len(assay.classes) > MOST_CLASSES:
            raise SettingsError(
                f"assay {assay.name!r} has {len(assay.classes)} classes; a label map holds "
                f"{MOST_CLASSES}."
            )
        if not 0 < len(assay.title) <= LONGEST_TITLE or "\\" in assay.title:
            raise SettingsError(
                f"assay {assay.name!r}: its title has {len(assay.title)} characters; objects hold "
                f"1 to {LONGEST_TITLE}, and no \\."
            )
        assay.check(settings)


def _is_asked(reader: AnyReader, assay: Assay) -> bool:
    alone = [each for stain in assay.stains for each in readers_alone(assay, stain.code)]
    return reader in (*alone, *readers_of_target(assay), *_bag_readers(assay))


def tasks() -> tuple[Task, ...]:
    """Tasks of the networks that the installed assays use, each once."""
    used = [
        reader.task
        for assay in assays()
        for reader in assay_readers(assay)
        if reader.task is not None
    ]
    return tuple(dict.fromkeys(used))


def with_own_weights() -> dict[str, OwnWeights]:
    """Readers of the installed assays, by name, whose weights belong to no task."""
    readers = [reader for assay in assays() for reader in assay_readers(assay)]
    readers += [find_reader(assay.interim_reader) for assay in assays() if assay.interim_reader]
    return {reader.name: reader for reader in readers if isinstance(reader, OwnWeights)}
