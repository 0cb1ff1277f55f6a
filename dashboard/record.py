"""The record of access: who signed in, opened which case and did what, by the ledger's events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_
from sqlalchemy import case as either
from sqlmodel import col, select

from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow, SlideRow, id_named, id_of, params_of
from appliance.operations.accessions import cases_of_accession
from appliance.settings.settings import Settings
from dashboard.folded import folded
from dashboard.lines import SIGNED, person_of
from dashboard.masking import case_name, event_shown, hides, slide_name

PAGE_EVENTS = 50
"""Events on a page."""
MOST_READ = 200_000
"""Events of the ledger that are looked through for one page: most are the appliance's own."""
MOST_SLIDES = 500
"""Slides of a case, scans that were replaced too, whose events are looked for."""
OPENED, FAILED = "case-opened", "sign-in-failed"
"""Codes of an opened case, and of a try to sign in, which has no person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLine:
    """Act of one person; `case_id` or `slide_id` is that of `about`, where there is one."""

    at: float
    by: str
    text: str
    about: str = ""
    case_id: int | None = None
    slide_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A page of the record, the newest first.

    `older`: the address of the next page names it; None where there is none. `since`: time of the
    oldest event that was looked at, in s since the epoch; 0 without events. `is_case` is False
    where a case was looked for that the ledger does not have.
    """

    lines: tuple[RecordLine, ...]
    older: int | None
    since: float
    is_case: bool = True


def read_record(
    reader: LedgerReader, settings: Settings, *, who: str = "", case: str = "", before: int = 0
) -> Record:
    """Return what people did before an event (0: until now), by person and by case.

    `who` is looked for in names. `case` is an accession, in any way of writing, or a case's number;
    with hidden names its number alone. At most `MOST_READ` events are read, so a page may have
    fewer rows than it holds, and name an older one.
    """
    hidden = hides(settings)
    is_a_persons = or_(
        col(EventRow.by) != "", col(EventRow.code) == FAILED, col(EventRow.code).in_(SIGNED)
    )
    chosen: list[ColumnElement[bool]] = [is_a_persons]
    with reader.reading() as tx:
        if who:
            # Earlier builds kept the person among the facts.
            told = and_(col(EventRow.by) == "", col(EventRow.code).in_(SIGNED))
            name = either(
                (told, func.json_extract(EventRow.params, "$.by")), else_=col(EventRow.by)
            )
            chosen.append(folded(tx, name, who))
        if case:
            cases = _cases(tx, case, settings, hidden=hidden)
            if not cases:
                return Record(lines=(), older=None, since=0.0, is_case=False)
            chosen.append(_about_cases(tx, cases))
        newest = tx.session.exec(select(EventRow.id).order_by(col(EventRow.id).desc()).limit(1))
        last = (newest.first() or 0) + 1
        end = min(before, last) if before > 0 else last
        begin = max(1, end - MOST_READ)
        within = (col(EventRow.id) >= begin, col(EventRow.id) < end)
        query = select(EventRow).where(*within, *chosen).order_by(col(EventRow.id).desc())
        found = list(tx.session.exec(query.limit(PAGE_EVENTS + 1)).all())
        rows, older = found[:PAGE_EVENTS], begin if begin > 1 else None
        if len(found) > PAGE_EVENTS:
            older = rows[-1].id
        oldest = tx.session.get(EventRow, begin if len(found) <= PAGE_EVENTS else rows[-1].id)
        return Record(
            lines=_lines(tx, rows, hidden=hidden),
            older=older,
            since=oldest.at if oldest is not None else 0.0,
        )


def _cases(tx: Queries, case: str, settings: Settings, *, hidden: bool) -> list[CaseRow]:
    """Return the cases of an accession or a number."""
    # With hidden names, a search would tell an accession letter by letter.
    found = [] if hidden else cases_of_accession(tx, case, settings)
    number = id_named(f"case-{case.removeprefix('case-')}", "case")
    if not found and number is not None and (row := tx.case(number)) is not None:
        found = [row]
    return found


def _about_cases(tx: Queries, found: Sequence[CaseRow]) -> ColumnElement[bool]:
    """Return the condition of events of cases, of the slides of their blocks, and of openings."""
    subjects, opened = [], []
    for row in found:
        subjects.append(row.subject)
        slides = tx.slides_of_block(row.accession, row.block)[-MOST_SLIDES:]
        subjects += [slide.subject for slide in slides]
        named = f'"case": "{row.subject}"'
        opened.append(col(EventRow.params).contains(named, autoescape=True))
    is_opening = and_(col(EventRow.code) == OPENED, or_(False, *opened))
    return or_(col(EventRow.subject).in_(subjects), is_opening)


def _lines(tx: Queries, rows: Sequence[EventRow], *, hidden: bool) -> tuple[RecordLine, ...]:
    about = {row.id: _subject(row) for row in rows}
    cases, slides = (
        [number for subject in about.values() if (number := id_named(subject, kind)) is not None]
        for kind in ("case", "slide")
    )
    names: dict[str, str] = {}
    if cases:
        for case in tx.session.exec(select(CaseRow).where(col(CaseRow.id).in_(cases))):
            name = case_name(case.id) if hidden else case.accession
            names[case.subject] = f"{name} · {case.block}"
    if slides:
        for slide in tx.session.exec(select(SlideRow).where(col(SlideRow.id).in_(slides))):
            names[slide.subject] = slide_name(id_of(slide)) if hidden else slide.file_name
    return tuple(
        RecordLine(
            at=row.at,
            by=person_of(row),
            text=event_shown(row, hidden=hidden),
            about=names.get(about[row.id], ""),
            case_id=id_named(about[row.id], "case"),
            slide_id=id_named(about[row.id], "slide"),
        )
        for row in rows
    )


def _subject(row: EventRow) -> str:
    """Return what an event is about: its subject, or the case that somebody opened."""
    return str(params_of(row).get("case", "")) if row.code == OPENED else row.subject
