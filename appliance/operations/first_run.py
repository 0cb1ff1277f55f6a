"""First look at a site: its folder of slides, the names in it, its PACS, settings, and one pair.

Before the pair nothing is written, and no ledger is needed: the settings are a text that an admin
saves. The pair goes through the line of the running daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from appliance.domain import Stain
from appliance.errors import SettingsError
from appliance.intake.found import slides_in
from appliance.intake.listing import Listing
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import SlideRow
from appliance.ledger.transaction import Transaction
from appliance.ledger.urgency import set_stat
from appliance.operations.audited import Word, find_slide, service
from appliance.operations.identify import identify_paths
from appliance.operations.settings_text import settings_text
from appliance.operations.signed import signed_results
from appliance.operations.word import pair_slides
from appliance.settings.destinations import PacsDestination
from appliance.settings.settings import Settings

MOST_COUNTED = 5000
"""Slides at which counting ends: a share may hold years of them."""
MOST_TRIED = 20
"""Slides whose names are tried; each is opened for its header and label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSeen:
    """A folder of slides: how many, and what their names say (PHI), as `identify_paths` has it.

    `trouble` says why it cannot be listed; `counted_all` is False where counting ended before.
    `formats` counts files, by suffix, that cannot be read here.
    """

    trouble: str = ""
    slides: int = 0
    counted_all: bool = True
    unreadable_folders: int = 0
    formats: Mapping[str, int] = field(default_factory=dict)
    tried: tuple[dict[str, Any], ...] = ()


def see_folder(text: str, settings: Settings) -> FolderSeen:
    """Count the slides of a folder, and try the names of the first ones."""
    folder = Path(text.strip())
    if not folder.is_absolute() or not text.isprintable():
        return FolderSeen(trouble="Name the folder with its whole path, such as /mnt/scanner.")
    listing = Listing([str(folder)], settings.watch.ignore)
    slides: list[Path] = []
    try:
        for slide in _slides(listing, str(folder)):
            slides.append(slide)
            if len(slides) == MOST_COUNTED:
                break
    except OSError as err:
        return FolderSeen(
            trouble=f"{folder} cannot be read by this user ({err.strerror}): mount it, "
            "correct the path, or give Tandem's user the right to read it."
        )
    return FolderSeen(
        slides=len(slides),
        counted_all=len(slides) < MOST_COUNTED,
        unreadable_folders=len(listing.unreadable),
        formats=dict(listing.formats),
        tried=tuple(identify_paths(slides[:MOST_TRIED], settings)),
    )


def _slides(listing: Listing, folder: str) -> Iterator[Path]:
    for each in listing.under(folder):
        for slide in slides_in(each, ()):
            yield Path(slide.path)


def pacs_section(host: str, port: int, called_aet: str, calling_aet: str) -> PacsDestination:
    """Return the destination that a PACS is.

    Raises
    ------
    SettingsError
        If a value is none that settings take; it names the key.
    """
    if not host.strip():
        raise SettingsError("host: name the machine of the PACS.")
    try:
        return PacsDestination(
            kind="dicom",
            host=host.strip(),
            port=port,
            called_aet=called_aet.strip(),
            calling_aet=calling_aet.strip(),
        )
    except ValidationError as err:
        wrong = err.errors()[0]
        raise SettingsError(f"{wrong['loc'][0]}: {wrong['msg']}.") from err


def first_settings(folder: str, state: str, organization: str, pacs: PacsDestination | None) -> str:
    """Return a commented settings file with the site's values; without a PACS, a folder archives.

    Raises
    ------
    SettingsError
        If a value is none that settings take, or a path is not whole.
    """
    for name, text in (("the folder of slides", folder), ("the state folder", state)):
        if not text.strip().startswith("/") or not text.isprintable():
            raise SettingsError(f"{name}: a whole path, such as /var/lib/tandem.")
    values: dict[str, Any] = {"state_dir": state.strip(), "watch.folder": folder.strip()}
    if organization.strip():
        values["organization"] = organization.strip()
    try:
        Settings.model_validate({"organization": organization.strip()})
    except ValidationError as err:
        raise SettingsError(f"the laboratory's name: {err.errors()[0]['msg']}.") from err
    return settings_text(values, pacs)


def try_pair(
    settings: Settings, anatomy: str, target: str, word: Word, *, seen: tuple[str, str] = ("", "")
) -> str:
    """Have the daemon analyze one pair of known slides before all others. Returns what follows.

    Slides that their names did not bring into one block are paired by the person's word, unless
    their names say two blocks: that word needs a reason of its own.

    Raises
    ------
    SettingsError
        If there are no such slides, one has another file than `seen` or is not identified yet,
        they are known as of two blocks, a person signed a result of one, or `pair_slides` refuses
        them.
    """
    with service(settings) as (tx, _):
        first, second = find_slide(tx, anatomy, seen[0]), find_slide(tx, target, seen[1])
        paired = _are_current(tx, first, second)
        subjects = first.subject, second.subject
        for row in (first, second):
            if row.state in (SlideState.ARRIVING, SlideState.ARRIVED):
                raise SettingsError(f"{row.subject} is not identified yet: wait until it is.")
        if _are_apart(first, second):
            raise SettingsError(
                f"{subjects[0]} and {subjects[1]} are known as slides of two blocks, and one would "
                "get the other's names. If they are a pair: pair them on the slide's page."
            )
        signed = (
            ""
            if paired
            else "; ".join(
                filter(None, (signed_results(tx, row, settings) for row in (first, second)))
            )
        )
    if signed:
        raise SettingsError(f"{signed}. To pair them: on the slide's page.")
    if not paired:
        pair_slides(settings, *subjects, word, seen=seen)
    with service(settings) as (tx, now):
        rows = [find_slide(tx, subject) for subject in subjects]
        changed = sum(set_stat(tx, row, True, now, by=word.by) for row in rows)
        # A person asked for it, also where both are marked already.
        for subject in () if changed else subjects:
            tx.note(subject, "stat", now, by=word.by)
    return f"{subjects[0]} and {subjects[1]} go through the line before all others"


def _are_apart(first: SlideRow, second: SlideRow) -> bool:
    """Return whether what is known of two slides says that they are of two blocks."""
    places = (first.accession, second.accession), (first.block, second.block)
    return any(one and other and one != other for one, other in places)


def _are_current(tx: Transaction, first: SlideRow, second: SlideRow) -> bool:
    """Return whether two slides are those that one block stands on."""
    place = first.accession, first.block
    if not all(place) or place != (second.accession, second.block) or first.id == second.id:
        return False
    current = tx.current_slides(*place, (Stain(first.stain), Stain(second.stain)))
    return {slide.id for slide in current.values()} == {first.id, second.id}
