"""Queries of the pages: the ledger as frozen facts, read only.

Each function is one read transaction and returns at most `LIMIT` rows, so the cost of a page that
refreshes every two seconds does not grow with the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func
from sqlmodel import col, select

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.assays.registry import pairings
from appliance.domain import Stain
from appliance.ledger.blocks import pairing_of
from appliance.ledger.hints import hint_of
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.queries import Queries
from appliance.ledger.reader import LedgerReader
from appliance.ledger.second_opinions import second_opinions_of
from appliance.ledger.tables import CaseRow, DeliveryRow, EventRow, SlideRow, id_named, id_of
from appliance.operations.accessions import holds_text
from appliance.operations.seen import hold_name
from appliance.operations.signed import signed_results
from appliance.settings.settings import Settings
from appliance.words.say import say
from dashboard.actions import has_result
from dashboard.folded import folded
from dashboard.interim import HintMap, hint_map
from dashboard.lines import (
    CaseLine,
    DeliveryLine,
    EventLine,
    SlideLine,
    case_line,
    delivery_lines,
    event_lines,
    interim_words,
    second_words,
    slide_line,
)
from dashboard.masking import case_name, hides
from dashboard.troubles import (
    LIMIT,
    HeldCases,
    HeldDestination,
    Trouble,
    TroubleGroup,
    case_ids,
    case_trouble,
    count_groups,
    read_groups,
    read_held,
    read_held_cases,
    subjects_of,
)
from dashboard.wording import stain_word

EVENT_LIMIT = 1000
"""Most events of a case and its slides in one timeline, people's words among them."""
OBJECT_EVENT_LIMIT = 300
"""Most events of a case's objects in its timeline: many of them would hide all others."""
EVENTS_CUT = "Older events are not shown."
OBJECT_EVENTS_CUT = "Older events of objects are not shown."

SLIDES_AT_WORK = (
    SlideState.ARRIVING,
    SlideState.ARRIVED,
    SlideState.IDENTIFIED,
    SlideState.INSPECTED,
)
CASES_AT_WORK = (
    CaseState.READY,
    CaseState.ALIGNED,
    CaseState.SCORED,
    CaseState.WRITTEN,
    CaseState.UNPROVEN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Numbers of cases and slides now; `review` counts cases to be reviewed, of any state."""

    waiting: int
    running_cases: int
    running_slides: int
    review: int
    delivered: int
    trouble: int
    cases: int
    slides: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Facts of the queue page."""

    counts: Counts
    troubles: tuple[TroubleGroup, ...]
    held: tuple[HeldDestination, ...]
    held_cases: tuple[HeldCases, ...]
    cases: tuple[CaseLine, ...]
    slides: tuple[SlideLine, ...]

    @property
    def moving(self) -> bool:
        """Return whether a step is under way in what is shown, so that its progress changes."""
        cases = any(line.claimed for line in self.cases)
        return cases or any(line.claimed for line in self.slides)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDetail:
    """Facts of the case page; `slides` holds the current slides, `stains` those that it pairs.

    `stains` is empty where the case's assay is not installed. `interim` is the sentence on a hint
    that its anatomy slide got before the score; empty for none. `hint_map` shows where the hint
    came from; None for no map, and where the case is scored: the deep zoom has it then. `second`
    has the sentences on second readers' opinions on its target slide while there is no result.
    `held` is the name of what holds the case; empty for a case that is not held. `cut` says which
    events are left out of `events`; empty where all are there.
    """

    case: CaseLine
    trouble: Trouble | None
    stains: tuple[Stain, ...]
    slides: dict[Stain, SlideLine]
    interim: str
    hint_map: HintMap | None
    second: tuple[str, ...]
    others: tuple[SlideLine, ...]
    deliveries: tuple[DeliveryLine, ...]
    events: tuple[EventLine, ...]
    cut: str
    findings_key: str
    findings_folder: Path | None
    objects_key: str
    held: str

    @property
    def moving(self) -> bool:
        """Return whether a step of the case or of its slides is under way."""
        return self.case.claimed or any(slide.claimed for slide in self.slides.values())

    @property
    def picture_key(self) -> str:
        """Key that changes when other pictures or actions are to be shown."""
        thumbnails = [str(slide.thumbnail) for slide in self.slides.values()]
        shown = [str(self.findings_folder), self.objects_key, *sorted(thumbnails)]
        # A form that is open is lost when the page is drawn anew: what becomes of an object does
        # not do so.
        spoken_on = has_result(self.case.state)
        troubled = not spoken_on and self.trouble is not None
        acts = (spoken_on, self.case.state == CaseState.FAILED, troubled)
        shown += [str(self.hint_map), self.held, str(acts)]
        return "|".join(shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideDetail:
    """Facts of the slide page.

    `remedy` is empty for a slide that is not set aside, `interim` for one without a hint, `second`
    for one without second readers' opinions, and once its case has a result. `signed` tells who
    signed the results of its cases; empty where nobody did. `cut` is that of `CaseDetail`.
    """

    slide: SlideLine
    accession: str
    block: str
    stain: str
    remedy: str
    signed: str
    interim: str
    second: tuple[str, ...]
    events: tuple[EventLine, ...]
    cut: str


# queue


def read_queue(
    reader: LedgerReader,
    settings: Settings,
    search: str = "",
    *,
    cause: str = "",
    number: int = 1,
) -> Queue:
    """Return the state of everything; tables newest first, `search` filters them by accession.

    With hidden names, it filters by the number of the case or slide: a search by accession would
    tell one letter after the other. `cause` and `number` choose trouble, as `read_groups` has it.
    """
    assays, hidden = pairings(settings), hides(settings)
    with reader.reading() as tx:
        cases = select(CaseRow).order_by(col(CaseRow.id).desc()).limit(LIMIT)
        slides = select(SlideRow).order_by(col(SlideRow.id).desc()).limit(LIMIT)
        if search and hidden:
            wanted = id_named(f"case-{search}", "case")
            cases = cases.where(CaseRow.id == wanted)
            slides = slides.where(SlideRow.id == wanted)
        elif search:
            cases = cases.where(holds_text(col(CaseRow.accession), search, settings))
            slides = slides.where(
                holds_text(col(SlideRow.accession), search, settings)
                | folded(tx, col(SlideRow.path), search)
            )
        rows = tx.session.exec(slides).all()
        of_case = case_ids(tx, rows)
        groups = count_groups(tx, assays)
        return Queue(
            counts=_read_counts(tx, trouble=sum(group.number for group in groups)),
            troubles=read_groups(tx, assays, groups, hidden=hidden, cause=cause, number=number),
            held=read_held(tx, hidden=hidden),
            held_cases=read_held_cases(tx, hidden=hidden),
            cases=tuple(case_line(row, settings) for row in tx.session.exec(cases)),
            slides=tuple(slide_line(row, of_case.get(id_of(row)), settings) for row in rows),
        )


def read_subjects(
    reader: LedgerReader, settings: Settings, cause: str, most: int
) -> tuple[str, ...]:
    """Return subjects that wait for a person by one cause, the longest unchanged first."""
    with reader.reading() as tx:
        return subjects_of(tx, pairings(settings), cause, most)


def _read_counts(tx: Queries, *, trouble: int) -> Counts:
    by_state = select(CaseRow.state, func.count()).group_by(CaseRow.state)
    cases = {CaseState(state): number for state, number in tx.session.exec(by_state)}
    slides_by_state = select(SlideRow.state, func.count()).group_by(SlideRow.state)
    slides = {SlideState(state): number for state, number in tx.session.exec(slides_by_state)}
    number_of_cases = select(func.count()).select_from(CaseRow)
    return Counts(
        waiting=cases.get(CaseState.WAITING, 0),
        running_cases=sum(cases.get(state, 0) for state in CASES_AT_WORK),
        running_slides=sum(slides.get(state, 0) for state in SLIDES_AT_WORK),
        review=tx.session.exec(number_of_cases.where(CaseRow.review != "[]")).one(),
        delivered=cases.get(CaseState.DELIVERED, 0),
        trouble=trouble,
        cases=sum(cases.values()),
        slides=sum(slides.values()),
    )


# case


def read_case(reader: LedgerReader, settings: Settings, case_id: int) -> CaseDetail | None:
    """Return one case with its slides, deliveries and timeline (oldest first), or None."""
    store = ArtifactStore(settings.artifacts_dir)
    assays, hidden = pairings(settings), hides(settings)
    with reader.reading() as tx:
        row = tx.case(case_id)
        if row is None:
            return None
        stains = pairing_of(row).stains
        rows = [s for s in tx.slides_of_block(row.accession, row.block) if s.stain in stains]
        current = tx.current_slides(row.accession, row.block, stains)
        anatomy = current.get(Stain(row.anatomy))
        deliveries = tx.deliveries(case_id)
        events, cut = _timeline(tx, row, rows, deliveries, hidden=hidden)
        folder = store.path(ArtifactKey.parse(row.findings_key)) if row.findings_key else None
        return CaseDetail(
            case=case_line(row, settings),
            trouble=case_trouble(tx, row, assays, hidden=hidden),
            stains=stains,
            slides={
                stain: slide_line(slide, case_id, settings) for stain, slide in current.items()
            },
            interim=_interim(tx, anatomy, row),
            hint_map=None
            if anatomy is None or row.findings_key
            else hint_map(tx, anatomy, row.assay, store),
            second=_second(tx, current.get(pairing_of(row).target), row),
            others=tuple(
                slide_line(slide, case_id, settings)
                for slide in rows
                if slide not in current.values()
            ),
            deliveries=delivery_lines(deliveries, hidden=hidden),
            events=events,
            cut=cut,
            findings_key=row.findings_key,
            findings_folder=folder if folder is not None and folder.is_dir() else None,
            objects_key=row.objects_key,
            held=hold_name(row),
        )


def case_of_pair(reader: LedgerReader, first: int, second: int) -> int | None:
    """Return the case that two slides are the pair of, or None.

    An anatomy slide may belong to a case of each assay of its block.
    """
    with reader.reading() as tx:
        one, other = tx.slide(first), tx.slide(second)
        if one is None or other is None:
            return None
        if not one.block or (one.accession, one.block) != (other.accession, other.block):
            return None
        for row in tx.cases_of_block(one.accession, one.block):
            if {one.stain, other.stain} == set(pairing_of(row).stains):
                return row.id
    return None


def read_slide(reader: LedgerReader, settings: Settings, slide_id: int) -> SlideDetail | None:
    """Return one slide with its timeline (oldest first), or None."""
    with reader.reading() as tx:
        row = tx.slide(slide_id)
        if row is None:
            return None
        case_id = case_ids(tx, [row]).get(slide_id)
        events, cut = _newest(tx, [row.subject], EVENT_LIMIT)
        return SlideDetail(
            slide=slide_line(row, case_id, settings),
            accession=case_name(case_id) if hides(settings) else row.accession,
            block=row.block,
            stain=row.stain,
            remedy=say("remedy", row.reason) if row.state == SlideState.QUARANTINED else "",
            signed=signed_results(tx, row, settings),
            interim=_interim(tx, row, None if case_id is None else tx.case(case_id)),
            second=_second(tx, row, None if case_id is None else tx.case(case_id)),
            events=event_lines(events, {row.subject: "Slide"}, hidden=hides(settings)),
            cut=EVENTS_CUT if cut else "",
        )


def _interim(tx: Queries, slide: SlideRow | None, case: CaseRow | None) -> str:
    if slide is None or case is None:
        return ""
    return interim_words(hint_of(tx, slide, case.assay), case)


def _second(tx: Queries, slide: SlideRow | None, case: CaseRow | None) -> tuple[str, ...]:
    if slide is None or case is None:
        return ()
    return second_words(second_opinions_of(tx, slide), slide.stain, case)


def _timeline(
    tx: Queries,
    case: CaseRow,
    slides: Sequence[SlideRow],
    deliveries: Sequence[DeliveryRow],
    *,
    hidden: bool,
) -> tuple[tuple[EventLine, ...], str]:
    """Return the events, oldest first, and the sentence on those that are left out."""
    who = {case.subject: "Case"}
    who |= {slide.subject: f"{stain_word(slide.stain)} slide" for slide in slides}
    own, own_cut = _newest(tx, list(who), EVENT_LIMIT)
    who |= {row.subject: f"{row.kind} to {row.destination}" for row in deliveries}
    objects, cut = _newest(tx, [row.subject for row in deliveries], OBJECT_EVENT_LIMIT)
    events = sorted(own + objects, key=lambda event: event.id or 0)
    said = EVENTS_CUT if own_cut else OBJECT_EVENTS_CUT if cut else ""
    return event_lines(events, who, hidden=hidden), said


def _newest(tx: Queries, subjects: Sequence[str], limit: int) -> tuple[list[EventRow], bool]:
    """Return the newest events of some subjects, oldest first, and whether there are older ones."""
    query = select(EventRow).where(col(EventRow.subject).in_(subjects))
    newest = tx.session.exec(query.order_by(col(EventRow.id).desc()).limit(limit + 1)).all()
    return list(reversed(newest[:limit])), len(newest) > limit
