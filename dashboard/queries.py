"""Reads the ledger into frozen facts for the pages; never writes.

Each function is one read transaction and returns at most `LIMIT` rows, so a page that refreshes
every two seconds costs the same after ten years as on the first day.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func
from sqlmodel import col, select

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import QuarantineReason, Stain
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState
from appliance.ledger.progress import StepProgress, read_progress
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow, DeliveryRow, EventRow, SlideRow, id_of
from appliance.settings.settings import Settings
from dashboard.troubles import (
    CASES_IN_TROUBLE,
    LIMIT,
    HeldCases,
    HeldDestination,
    Trouble,
    case_trouble,
    known_reason,
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
class CaseLine:
    """A case in the table; `score` is empty until there is one, times in seconds since epoch."""

    id: int
    accession: str
    block: str
    state: CaseState
    score: str
    review: tuple[str, ...]
    claimed: bool
    progress: StepProgress | None
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideLine:
    """A slide in the table; `thumbnail` is there once the slide has been inspected."""

    id: int
    case_id: int | None
    name: str
    stain: str
    state: SlideState
    reason: QuarantineReason | None
    detail: str
    claimed: bool
    progress: StepProgress | None
    thumbnail: Path | None
    changed_at: float


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
class DeliveryLine:
    """Objects of one kind to one destination that fare alike; a slide is many objects.

    `attempts` is the most, `next_try_at` and `changed_at` the latest of them.
    """

    objects: int
    kind: str
    destination: str
    state: DeliveryState
    attempts: int
    error: str
    next_try_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """One row of a timeline; `who` is the case, a slide or an object in plain words.

    The same said of several objects is one row with their `count` and the time of the last.
    """

    count: int
    at: float
    who: str
    kind: str
    text: str


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
            cases=tuple(_case_line(row, settings) for row in tx.session.exec(cases)),
            slides=tuple(_slide_line(row, settings) for row in tx.session.exec(slides)),
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
            case=_case_line(row, settings),
            trouble=trouble,
            slides={stain: _slide_line(slide, settings) for stain, slide in current.items()},
            others=tuple(
                _slide_line(slide, settings) for slide in rows if slide not in current.values()
            ),
            deliveries=_delivery_lines(deliveries),
            events=_event_lines(list(reversed(events)), who),
            findings_folder=folder if folder is not None and folder.is_dir() else None,
        )


def _delivery_lines(rows: list[DeliveryRow]) -> tuple[DeliveryLine, ...]:
    alike: dict[tuple[str, str, str, str], list[DeliveryRow]] = {}
    for row in rows:
        alike.setdefault((row.kind, row.destination, row.state, row.error), []).append(row)
    return tuple(
        DeliveryLine(
            objects=len(group),
            kind=kind,
            destination=destination,
            state=DeliveryState(state),
            attempts=max(row.attempts for row in group),
            error=error,
            next_try_at=max(row.not_before for row in group),
            changed_at=max(row.changed_at for row in group),
        )
        for (kind, destination, state, error), group in alike.items()
    )


def _event_lines(events: list[EventRow], who: dict[str, str]) -> tuple[EventLine, ...]:
    lines: dict[object, EventLine] = {}
    for event_ in events:
        name = who[event_.subject]
        joins = event_.subject.startswith("delivery-") and event_.kind == "state"
        key: object = (name, event_.text) if joins else event_.id
        known = lines.pop(key, None)
        lines[key] = EventLine(
            count=1 if known is None else known.count + 1,
            at=event_.at,
            who=name,
            kind=event_.kind,
            text=event_.text,
        )
    return tuple(lines.values())


# rows to facts


def _case_line(row: CaseRow, settings: Settings) -> CaseLine:
    return CaseLine(
        id=id_of(row),
        accession=row.accession,
        block=row.block,
        state=CaseState(row.state),
        score=row.score,
        review=tuple(str(sentence) for sentence in json.loads(row.review)),
        claimed=row.claimed_by != "",
        progress=read_progress(settings, row.subject) if row.claimed_by else None,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _slide_line(row: SlideRow, settings: Settings) -> SlideLine:
    thumbnail = None
    if row.inspect_key:
        folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(row.inspect_key))
        thumbnail = folder / "thumbnail.png"
    return SlideLine(
        id=id_of(row),
        case_id=row.case_id,
        name=Path(row.path).name,
        stain=row.stain,
        state=SlideState(row.state),
        reason=known_reason(row.reason) if row.reason else None,
        detail=row.detail,
        claimed=row.claimed_by != "",
        progress=read_progress(settings, row.subject) if row.claimed_by else None,
        thumbnail=thumbnail if thumbnail is not None and thumbnail.is_file() else None,
        changed_at=row.changed_at,
    )
