"""Slides of equal bytes: one slide, wherever its files lie and however they are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from appliance.domain import QuarantineReason
from appliance.intake.block import (
    CHOSEN,
    NEWER_SCAN,
    OPEN,
    SAME_CONTENT,
    SAME_SLIDE,
    hold,
    leave_block,
    settle,
    supersede,
)
from appliance.intake.said import said_of, said_of_bytes, set_said
from appliance.ledger.blocks import pairing_of
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.queries import PASSED
from appliance.ledger.tables import SlideRow, set_reason
from appliance.ledger.transaction import Transaction

EXCLUDED = "excluded"
"""Reason of a slide that a person left out."""
_LIVE = (SlideState.IDENTIFIED, *PASSED)
_GONE = (QuarantineReason.UNREADABLE, QuarantineReason.VANISHED)
"""Reasons of a slide whose file may have been moved."""


def goes_on(tx: Transaction, slide: SlideRow, now: float) -> bool:
    """Return whether an identified slide goes on to its block.

    A slide that is there already, under the same name, is superseded. Names that contradict each
    other set all slides of these bytes aside, unless a person said which name is right. A row that
    was set aside for another reason gives way: its file was renamed, as the remedy says.
    """
    twins = _twins(tx, slide)
    if not twins:
        return True
    if _takes_word(tx, slide, twins, now):
        return False
    same = [row for row in twins if _name(row) == _name(slide)]
    if any(_is_excluded(row) for row in same) and not said_of(slide).names_it:
        set_reason(slide, EXCLUDED)
        tx.advance(slide, SlideState.OTHER, now=now, code=SAME_CONTENT, params=_of(same[0]))
        return False
    others = [row for row in twins if _holds(row) and _name(row) != _name(slide)]
    if others and not _decided(tx, slide, others, now):
        return False
    return _is_alone(tx, slide, twins, now)


def lose_slide(tx: Transaction, slide: SlideRow, now: float) -> None:
    """Let others take the place of a slide that was set aside or left out.

    An older scan that it replaced goes through the line again. So do its bytes under another path
    where its own file is gone, or under another name that nothing contradicts any more.
    """
    if slide.accession:
        settle(tx, slide.accession, slide.block, now)
    twins = _twins(tx, slide)
    if any(row.state in _LIVE for row in twins):
        return
    gone = slide.state == SlideState.QUARANTINED and slide.reason in _GONE
    copies = [row for row in twins if row.state == SlideState.SUPERSEDED]
    copies = [row for row in copies if gone and row.reason == SAME_CONTENT]
    left = [row for row in twins if _contradicts(row)]
    for row in copies[:1] + (left if len({_name(row) for row in left}) == 1 else [])[:1]:
        set_reason(row)
        tx.advance(row, SlideState.ARRIVED, now=now, code="taken-back")


def _twins(tx: Transaction, slide: SlideRow) -> list[SlideRow]:
    if not slide.fingerprint:
        return []
    return [row for row in tx.slides_of_content(slide.fingerprint) if row.id != slide.id]


def _name(row: SlideRow) -> tuple[str, str, str]:
    return row.accession, row.block, row.stain


def _of(row: SlideRow) -> dict[str, str]:
    return {"slide": row.subject}


def _contradicts(row: SlideRow) -> bool:
    """Return whether a slide was set aside because of another name of its bytes."""
    return row.state == SlideState.QUARANTINED and row.reason == QuarantineReason.SAME_SLIDE


def _is_excluded(row: SlideRow) -> bool:
    return row.state == SlideState.OTHER and row.reason == EXCLUDED


def _holds(row: SlideRow) -> bool:
    """Return whether a slide stands for its name: it is in use, or set aside for it."""
    other = row.state == SlideState.OTHER and row.accession != "" and not _is_excluded(row)
    return row.state in _LIVE or _contradicts(row) or other


def _takes_word(tx: Transaction, slide: SlideRow, twins: Sequence[SlideRow], now: float) -> bool:
    """Take over what a person said of these bytes under another name; return whether it did.

    The slide is then identified again, by that word.
    """
    if said_of(slide).names_it or slide.said != "{}":
        return False
    told = [row for row in twins if said_of_bytes(row).accession or said_of_bytes(row).stain]
    if not told:
        return False
    set_said(slide, replace(said_of(told[-1]), kept_at=0.0, kept_over=0, apart=(), of="", heard=()))
    tx.advance(slide, SlideState.ARRIVED, now=now, code=SAME_CONTENT, params=_of(told[-1]))
    return True


def _decided(tx: Transaction, slide: SlideRow, others: Sequence[SlideRow], now: float) -> bool:
    """Decide between two names of the same bytes; return whether the slide goes on."""
    told = [row for row in others if said_of(row).names_it]
    if said_of(slide).names_it and not told:
        for row in others:
            _give_way(tx, row, slide, now)
        return True
    if told and not said_of(slide).names_it:
        supersede(tx, slide, told[0], SAME_CONTENT, now)
        return False
    for row in (slide, *others):
        named = ", ".join(each.subject for each in (slide, *others) if each is not row)
        _set_aside(tx, row, named, now)
    return False


def _set_aside(tx: Transaction, row: SlideRow, named: str, now: float) -> None:
    """Set a slide aside for another name of its bytes; a case with a score is held."""
    cases = tx.cases_of_block(row.accession, row.block)
    scored = [case for case in cases if case.score and row.stain in pairing_of(case).stains]
    params = {"detail": f"{row.subject} and {named} have the same bytes"}
    was_live = row.state in _LIVE
    set_reason(row, QuarantineReason.SAME_SLIDE, params)
    if row.state != SlideState.QUARANTINED:
        reason = row.reason
        tx.advance(row, SlideState.QUARANTINED, now=now, code="set-aside", reason=reason)
    if was_live:
        leave_block(tx, row, _name(row), now)
    for case in scored:
        if was_live and case.state in OPEN:
            hold(tx, case, SAME_SLIDE, {"slides": f"{row.subject}, {named}"}, now)


def _give_way(tx: Transaction, old: SlideRow, new: SlideRow, now: float) -> None:
    """Supersede a slide by another one of the same bytes."""
    was_live = old.state in _LIVE
    supersede(tx, old, new, SAME_CONTENT, now)
    if was_live or (old.accession and _name(old) != _name(new)):
        leave_block(tx, old, _name(old), now)


def _is_alone(tx: Transaction, slide: SlideRow, twins: Sequence[SlideRow], now: float) -> bool:
    """Leave one slide of these bytes in its block; return whether it is this one."""
    kept = said_of(slide).kept_at > 0
    live = [row for row in twins if row.state in _LIVE and _name(row) == _name(slide)]
    if live and not kept:
        supersede(tx, slide, live[0], SAME_CONTENT, now)
        return False
    replaced = (NEWER_SCAN, CHOSEN)
    older = [row for row in twins if row.state == SlideState.SUPERSEDED and row.reason in replaced]
    older = [row for row in older if _name(row) == _name(slide)]
    if older and not kept:
        supersede(tx, slide, older[0], SAME_CONTENT, now)
        return False
    for row in twins:
        if row.state in (*_LIVE, SlideState.QUARANTINED):
            _give_way(tx, row, slide, now)
    return True
