"""A person's word: what a slide is, which slides belong together, which are left out.

The one service for it, of ``tandem identify`` and of the dashboard. Each word is one transaction:
the row's `said`, an event with the person and the reason, and all that follows for the cases. It
works at any state of a slide. A report that was delivered is corrected by the next one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from appliance.assays.registry import pairings, vocabulary
from appliance.domain import Pairing
from appliance.errors import SettingsError
from appliance.intake.block import (
    SAME_SLIDE,
    TWO_SCANS,
    UNPAIRED,
    all_read,
    hold,
    leave_block,
    make_ready,
    reopen,
    settle,
)
from appliance.intake.content import EXCLUDED, lose_slide
from appliance.intake.identity.evidence import MAX_ACCESSION, accession_key, block_key
from appliance.intake.identity.vocabulary import Vocabulary
from appliance.intake.said import KEEP, chosen_among, said_of, said_of_bytes, set_said
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import PASSED
from appliance.ledger.tables import CaseRow, SlideRow, set_reason
from appliance.ledger.transaction import Transaction
from appliance.operations.audited import (
    ON_ITS_WAY,
    Word,
    find_case,
    find_slide,
    names_another,
    note_word,
    send_back,
    service,
)
from appliance.operations.seen import hold_name
from appliance.settings.identify import Identify
from appliance.settings.settings import Settings
from appliance.text import is_text

_OWN_WAYS = {
    TWO_SCANS: "Choose one of its scans: tandem identify keep SLIDE.",
    UNPAIRED: "Pair two slides: tandem identify pair HE IHC.",
    SAME_SLIDE: "Say which name is right: tandem identify set SLIDE, or exclude SLIDE.",
}
"""Remedies of held cases that cannot simply go on, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideWords:
    """Words of a person on a slide; a field that is empty stays as it is."""

    accession: str = ""
    block: str = ""
    stain: str = ""
    organ: str = ""
    specimen: str = ""


def say_slide(
    settings: Settings, slide: str, words: SlideWords, word: Word, *, seen: str = ""
) -> str:
    """Say whose slide it is; it is identified again by that word. Returns what happens next.

    Raises
    ------
    SettingsError
        If there is no such slide, it is not as `seen`, nothing is said, or the words cannot be a
        slide's.
    """
    told: dict[str, Any] = {
        key: text.strip() for key, text in asdict(words).items() if text.strip()
    }
    told = _checked(settings, told)
    with service(settings) as (tx, now):
        row = find_slide(tx, slide, seen)
        before, after = row.subject, told.get("accession", row.accession)
        said = replace(said_of_bytes(row), **told, excluded=False)
        note_word(tx, row, "word-set", word, now, said, **told)
        lost = send_back(tx, row, word, now, leaves=names_another(row, told, settings))
    unknown = "" if after else "; its accession is not known yet: set --accession too"
    return f"{before} is identified again by this word{unknown}{_told(lost)}"


def pair_slides(
    settings: Settings, anatomy: str, target: str, word: Word, *, seen: tuple[str, str] = ("", "")
) -> str:
    """Say that two slides are a pair, whatever their names are. Returns what happens next.

    The block is that of the anatomy slide, or of the other one where the first has none. What a
    person said of it counts before it is identified by that.

    Raises
    ------
    SettingsError
        If there are no such slides, one is not as `seen` or is being identified, neither has a
        block, no assay pairs their stains, or they are named the wrong way round.
    """
    assays = pairings(settings)
    with service(settings) as (tx, now):
        first, second = find_slide(tx, anatomy, seen[0]), find_slide(tx, target, seen[1])
        if first.id == second.id:
            raise SettingsError("name two slides: the H&E slide, then the other one.")
        names = [_known_names(row, settings) for row in (first, second)]
        accession, block = _place_of_pair((first, second), names, settings.identify)
        pairing = _pairing_for(assays, first, second, (names[0][2], names[1][2]))
        there = (first, second, *tx.slides_of_block(accession, block))
        for row, other, stain in (
            (first, second, pairing.anatomy),
            (second, first, pairing.target),
        ):
            told: dict[str, Any] = {"accession": accession, "block": block, "stain": str(stain)}
            new = {key: text for key, text in told.items() if getattr(row, key) != text}
            said = said_of_bytes(row)
            apart = tuple(each for each in said.apart if each != other.subject)
            said = replace(said, apart=apart, excluded=False, **(told if new else {}))
            said = chosen_among(said, there, now)
            note_word(tx, row, "word-pair", word, now, said, slide=other.subject)
            if new or row.state not in (SlideState.IDENTIFIED, *PASSED):
                send_back(tx, row, word, now, leaves=bool(new))
        _decide_block(tx, accession, block, now, word)
    return f"{first.subject} and {second.subject} are paired; their case goes on"


def unpair_case(settings: Settings, case: str, word: Word) -> str:
    """Say that the two slides of a case do not belong together. Returns what happens next.

    The case is held until another slide comes, or until a person pairs two.

    Raises
    ------
    SettingsError
        If there is no such case, or it has not both slides.
    """
    with service(settings) as (tx, now):
        row = find_case(tx, case)
        stains = pairing_of(row).stains
        slides = list(tx.current_slides(row.accession, row.block, stains).values())
        if len(slides) != len(stains):
            raise SettingsError(f"{row.subject} has not both slides: there is nothing to unpair.")
        for slide, other in (slides, slides[::-1]):
            said = said_of(slide)
            apart = tuple(sorted({*said.apart, other.subject}))
            set_said(slide, replace(said, apart=apart, by=word.by, why=word.why, at=now))
            tx.session.add(slide)
        tx.note(row.subject, "word-unpair", now, params={"why": word.why}, by=word.by)
        named = " and ".join(slide.subject for slide in slides)
        hold(tx, row, UNPAIRED, {"slides": named}, now, word.by)
    return f"{row.subject} is held: {named} are not paired with each other again"


def exclude_slide(settings: Settings, slide: str, word: Word, *, seen: str = "") -> str:
    """Leave a slide out of every case. Returns what happens next.

    Raises
    ------
    SettingsError
        If there is no such slide, or it is not as `seen`.
    """
    with service(settings) as (tx, now):
        row, lost = find_slide(tx, slide, seen), tuple[str, ...]()
        said = replace(said_of_bytes(row), excluded=True, kept_at=0.0, kept_over=0)
        note_word(tx, row, "word-exclude", word, now, said)
        if row.state not in (SlideState.ARRIVING, SlideState.OTHER):
            set_reason(row, EXCLUDED)
            tx.advance(row, SlideState.OTHER, now=now, code=EXCLUDED, by=word.by)
            if row.accession:
                place = row.accession, row.block, row.stain
                lost = leave_block(tx, row, place, now, word.by)
            lose_slide(tx, row, now)
        subject = row.subject
    return f"{subject} is left out; tandem identify keep {subject} takes it back{_told(lost)}"


def keep(settings: Settings, subject: str, word: Word, *, seen: str = "") -> str:
    """Keep a slide as it is named, before other scans of it; or let a held case go on.

    `seen` is the name of what the person saw: the slide (`shown_name`), or what holds the case
    (`hold_name`); empty: whatever it is now. Returns what happens next.

    Raises
    ------
    SettingsError
        If there is no such slide or case, it is not as `seen`, the case is not held, or it
        needs another word.
    """
    with service(settings) as (tx, now):
        if subject.partition("-")[0] == "case":
            case = find_case(tx, subject)
            _require_hold(case, seen)
            return _keep_case(tx, case, word, now)
        row = find_slide(tx, subject, seen)
        block = tx.slides_of_block(row.accession, row.block) if row.accession else []
        said = replace(said_of_bytes(row), picture=KEEP, excluded=False)
        said = chosen_among(said, (row, *block), now)
        note_word(tx, row, "word-keep", word, now, said)
        if row.state in (SlideState.SUPERSEDED, SlideState.QUARANTINED, SlideState.OTHER):
            send_back(tx, row, word, now, leaves=False)
        else:
            _decide_block(tx, row.accession, row.block, now, word)
        if row.state in PASSED:
            return f"{row.subject} stands for its slide"
        return f"{row.subject} goes through the line, and stands for its slide once it is inspected"


def _told(lost: tuple[str, ...]) -> str:
    """Return what follows for cases that lost their result."""
    if not lost:
        return ""
    waits = "wait" if len(lost) > 1 else "waits"
    return (
        f". {' and '.join(lost)} {waits} for another slide; a report that was sent is replaced by "
        "the next one"
    )


def _checked(settings: Settings, told: dict[str, Any]) -> dict[str, Any]:
    """Return a person's words, the stain by its code."""
    if not told:
        raise SettingsError("say what the slide is: --accession, --block, --stain, --organ …")
    for key, text in told.items():
        if not is_text(text) or "\\" in text or not text.isprintable():
            raise SettingsError(f"--{key}: use readable characters, without a backslash.")
    if len(told.get("accession", "")) > MAX_ACCESSION:
        raise SettingsError(f"--accession: at most {MAX_ACCESSION} characters (DICOM SH).")
    if "stain" not in told:
        return told
    stains = vocabulary(settings)
    known = Vocabulary(stains, settings.identify.other_stains).meaning(told["stain"])
    if known is None:
        raise SettingsError(
            f"--stain {told['stain']!r} is not known. Stains of the assays are "
            f"{', '.join(sorted(stains))}; add the lab's own words to identify.other_stains."
        )
    code, kind = known
    return told | {"stain": code if kind == "stain" else told["stain"]}


def _known_names(row: SlideRow, settings: Settings) -> tuple[str, str, str]:
    """Return accession, block and stain of a slide that is to be paired, empty where unknown.

    A word empties the row of a slide until it is identified by that word. Without what was said, a
    pair would give it the names of the other slide, which may be another patient's.
    """
    said, writing = said_of_bytes(row), settings.identify.writing
    known = (
        row.accession or writing.of_accession(said.accession),
        row.block or writing.of_block(said.block),
        row.stain or said.stain,
    )
    if row.state in ON_ITS_WAY and (said.accession or said.block or said.stain) and not all(known):
        raise SettingsError(
            f"{row.subject} is being identified: pair it when `tandem status` shows its stain, or "
            f"say all of it: tandem identify set {row.subject} --accession … --block … --stain …"
        )
    return known


def _place_of_pair(
    rows: Sequence[SlideRow], names: Sequence[tuple[str, str, str]], identify: Identify
) -> tuple[str, str]:
    """Return the accession and the block that two slides with these names are said to be of.

    They are those of the first slide. A word on the other one that it is not identified by yet, or
    on a first one without a block, is not contradicted.
    """
    (accession, block, _), other = names
    if not (accession and block):
        accession, block = other[0], other[1]
    if not (accession and block):
        raise SettingsError(
            f"neither slide has an accession and a block yet: tandem identify set "
            f"{rows[0].subject} --accession … --block …"
        )
    waits = (row for row in rows if row.state in ON_ITS_WAY or not (row.accession and row.block))
    for row in waits:
        said = said_of_bytes(row)
        for part, word, place, key in (
            ("accession", said.accession, accession, accession_key),
            ("block", said.block, block, block_key),
        ):
            if word and key(word, identify) != key(place, identify):
                raise SettingsError(
                    f"{row.subject}: a person said another {part} than the other slide has. Say "
                    f"both: tandem identify set {row.subject} --accession … --block …"
                )
    return accession, block


def _pairing_for(
    assays: tuple[Pairing, ...], first: SlideRow, second: SlideRow, stains: tuple[str, str]
) -> Pairing:
    """Return the pairing that two slides, known by these stains, are said to be of.

    A slide that is known to be of no assay, such as an in situ hybridization, is not paired on the
    way: a person has to say its stain first.
    """
    for row in (first, second):
        if row.state == SlideState.OTHER and row.reason != EXCLUDED:
            raise SettingsError(
                f"{row.subject} is known as {row.stain or row.reason}, which no assay pairs. If it "
                f"is not: tandem identify set {row.subject} --stain … --by … --why …"
            )
    for each in assays:
        if stains == (each.target, each.anatomy):
            raise SettingsError(
                f"{first.subject} is known as {stains[0]}, {second.subject} as {stains[1]}: "
                f"name the {each.anatomy} slide first."
            )
    fitting = [each for each in assays if stains[1] in ("", each.target)]
    fitting = fitting or [each for each in assays if each.expected]
    if not fitting:
        raise SettingsError(f"no assay pairs {stains[0] or 'H&E'} with {stains[1]}.")
    return fitting[0]


def _decide_block(tx: Transaction, accession: str, block: str, now: float, word: Word) -> None:
    """Let the slides of a block settle, and its cases that were taken apart go on."""
    tx.session.flush()
    for case in tx.cases_of_block(accession, block):
        if case.state == CaseState.HELD and case.reason == UNPAIRED:
            reopen(tx, case, "kept", {}, now, word.by)
    settle(tx, accession, block, now)


def _require_hold(case: CaseRow, held: str) -> None:
    """Refuse a word on another hold than the present one; an empty `held` is any."""
    if held and case.state == CaseState.HELD and held != hold_name(case):
        raise SettingsError(
            f"{case.subject}: what holds it changed since you opened it. Look at it again."
        )


def _keep_case(tx: Transaction, case: CaseRow, word: Word, now: float) -> str:
    if case.state != CaseState.HELD:
        raise SettingsError(f"{case.subject} is {case.state}: only a held case needs this word.")
    if case.reason in _OWN_WAYS:
        raise SettingsError(f"{case.subject}: {_OWN_WAYS[case.reason]}")
    accepted = json.dumps(sorted({*json.loads(case.overruled), case.reason}))
    params = {"why": word.why}
    tx.note(case.subject, "word-keep", now, reason=case.reason, params=params, by=word.by)
    reopen(tx, case, "kept", {}, now, word.by)
    if not all_read(tx, case):
        # A slide of it is another file by now, which nobody has seen beside the other one.
        return f"{case.subject} waits for its slides; they are compared anew"
    case.overruled = accepted
    tx.session.add(case)
    make_ready(tx, case, now)
    return f"{case.subject} is analyzed"
