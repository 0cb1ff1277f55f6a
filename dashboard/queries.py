"""Reads the ledger into frozen facts for the pages; never writes.

Each function is one read transaction and returns at most `LIMIT` rows, so a page that refreshes
every two seconds costs the same after ten years as on the first day.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func
from sqlmodel import col, select

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import Stain
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, EventRow, SlideRow
from appliance.settings.settings import Settings
from dashboard.lines import (
    CaseLine,
    DeliveryLine,
    EventLine,
    SlideLine,
    case_line,
    delivery_lines,
    event_lines,
    slide_line,
)
from dashboard.troubles import (
    CASES_IN_TROUBLE,
    LIMIT,
    HeldCases,
    HeldDestination,
    Trouble,
    case_trouble,
    read_held,
    read_held_cases,
    read_troubles,
)
from dashboard.wording import STAIN_WORDS

EVENT_LIMIT = 300
"""Most events of one case's timeline."""

SLIDES_AT_WORK = (
    SlideState.ARRIVING,
    SlideState.ARRIVED,
    SlideState.IDENTIFIED,
    SlideState.INSPECTED,
)
CASES_AT_WORK = (CaseState.READY, CaseState.SCORED, CaseState.WRITTEN, CaseState.UNPROVEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What is where, now. `review` counts cases of any state whose score a person should see."""

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
    """All that the queue page shows."""

    counts: Counts
    troubles: tuple[Trouble, ...]
    held: tuple[HeldDestination, ...]
    held_cases: tuple[HeldCases, ...]
    cases: tuple[CaseLine, ...]
    slides: tuple[SlideLine, ...]
    last_event_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseDetail:
    """All that the case page takes from the ledger; `slides` holds the current ones."""

    case: CaseLine
    trouble: Trouble | None
    slides: dict[Stain, SlideLine]
    others: tuple[SlideLine, ...]
    deliveries: tuple[DeliveryLine, ...]
    events: tuple[EventLine, ...]
    findings_folder: Path | None

    @property
    def picture_key(self) -> str:
        """Changes whenever other pictures are to be shown."""
        thumbnails = [str(slide.thumbnail) for slide in self.slides.values()]
        return "|".join([str(self.findings_folder), *sorted(thumbnails)])


# queue


def read_queue(reader: LedgerReader, settings: Settings, search: str = "") -> Queue:
    """The state of everything; tables newest first, `search` filters them by accession."""
    with reader.reading() as tx:
        case_counts = {
            CaseState(state): number
            for state, number in tx.session.exec(
                select(CaseRow.state, func.count()).group_by(CaseRow.state)
            )
        }
        slide_counts = {
            SlideState(state): number
            for state, number in tx.session.exec(
                select(SlideRow.state, func.count()).group_by(SlideRow.state)
            )
        }
        review = tx.session.exec(
            select(func.count()).select_from(CaseRow).where(CaseRow.review != "[]")
        ).one()
        cases = select(CaseRow).order_by(col(CaseRow.id).desc()).limit(LIMIT)
        slides = select(SlideRow).order_by(col(SlideRow.id).desc()).limit(LIMIT)
        if search:
            cases = cases.where(col(CaseRow.accession).icontains(search, autoescape=True))
            slides = slides.where(
                col(SlideRow.accession).icontains(search, autoescape=True)
                | col(SlideRow.path).icontains(search, autoescape=True)
            )
        return Queue(
            counts=Counts(
                waiting=case_counts.get(CaseState.WAITING, 0),
                running_cases=sum(case_counts.get(state, 0) for state in CASES_AT_WORK),
                running_slides=sum(slide_counts.get(state, 0) for state in SLIDES_AT_WORK),
                review=review,
                delivered=case_counts.get(CaseState.DELIVERED, 0),
                trouble=slide_counts.get(SlideState.QUARANTINED, 0)
                + sum(case_counts.get(state, 0) for state in CASES_IN_TROUBLE),
                cases=sum(case_counts.values()),
                slides=sum(slide_counts.values()),
            ),
            troubles=read_troubles(tx),
            held=read_held(tx),
            held_cases=read_held_cases(tx),
            cases=tuple(case_line(row, settings) for row in tx.session.exec(cases)),
            slides=tuple(slide_line(row, settings) for row in tx.session.exec(slides)),
            last_event_at=tx.session.exec(
                select(EventRow.at).order_by(col(EventRow.id).desc()).limit(1)
            ).first(),
        )


# case


def read_case(reader: LedgerReader, settings: Settings, case_id: int) -> CaseDetail | None:
    """One case with its slides, deliveries and timeline (oldest first), or None."""
    store = ArtifactStore(settings.artifacts_dir)
    with reader.reading() as tx:
        row = tx.case(case_id)
        if row is None:
            return None
        rows = tx.session.exec(
            select(SlideRow).where(SlideRow.case_id == case_id).order_by(col(SlideRow.id))
        ).all()
        current = tx.slides_of_case(case_id)
        deliveries = tx.deliveries(case_id)
        who = {row.subject: "Case"}
        who |= {
            s.subject: f"{STAIN_WORDS[Stain(s.stain)]} slide" if s.stain else "Slide" for s in rows
        }
        who |= {d.subject: f"{d.kind} to {d.destination}" for d in deliveries}
        events = tx.session.exec(
            select(EventRow)
            .where(col(EventRow.subject).in_(who))
            .order_by(col(EventRow.id).desc())
            .limit(EVENT_LIMIT)
        ).all()
        trouble = case_trouble(tx, row) if row.state in CASES_IN_TROUBLE else None
        folder = store.path(ArtifactKey.parse(row.findings_key)) if row.findings_key else None
        return CaseDetail(
            case=case_line(row, settings),
            trouble=trouble,
            slides={stain: slide_line(slide, settings) for stain, slide in current.items()},
            others=tuple(
                slide_line(slide, settings) for slide in rows if slide not in current.values()
            ),
            deliveries=delivery_lines(deliveries),
            events=event_lines(list(reversed(events)), who),
            findings_folder=folder if folder is not None and folder.is_dir() else None,
        )
