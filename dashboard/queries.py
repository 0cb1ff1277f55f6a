"""Reads the ledger into frozen facts for the pages; never writes.

Each function is one read transaction and returns at most `LIMIT` rows, so a page that refreshes
every two seconds costs the same after ten years as on the first day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session, col, select

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.domain import QuarantineReason, Stain
from appliance.lifecycle import CaseState, DeliveryState, SlideState
from appliance.progress import StepProgress, read_progress
from appliance.settings import Settings
from appliance.store import CaseRow, DeliveryRow, EventRow, SlideRow, Transaction
from dashboard.wording import CASE_WORDS, STAIN_WORDS

LIMIT = 100
"""Most rows of one table on a page."""
EVENT_LIMIT = 300
"""Most events of one case's timeline."""

SLIDES_AT_WORK = (
    SlideState.ARRIVING,
    SlideState.ARRIVED,
    SlideState.IDENTIFIED,
    SlideState.INSPECTED,
)
CASES_AT_WORK = (CaseState.READY, CaseState.SCORED, CaseState.WRITTEN, CaseState.UNPROVEN)
CASES_HELD = (CaseState.READY, CaseState.SCORED, CaseState.WRITTEN)
"""Under way; with a reason: something outside of Tandem is missing."""
CASES_IN_TROUBLE = (CaseState.FAILED, CaseState.UNDELIVERED, CaseState.PARTNERLESS)


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
class Trouble:
    """Something that waits for a person: what, why, and what to do."""

    subject: str
    title: str
    sentence: str
    remedy: str
    detail: str
    case_id: int | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldDestination:
    """A destination that objects are waiting for; retried by itself.

    `unproven`: they are sent, and it cannot say whether it has them; else an attempt failed.
    """

    destination: str
    unproven: bool
    objects: int
    error: str
    next_try_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCases:
    """Cases that wait for the same thing outside of Tandem; retried by themselves, at once where
    `next_try_at` is 0."""

    cases: int
    error: str
    next_try_at: float


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


class LedgerReader:
    """The ledger, opened so that it cannot be written; safe to use from several threads.

    `Ledger.transaction` takes SQLite's write lock at once, which is right for the daemon and would
    make every open browser tab stand in its way. Here reads run beside the writer (WAL).
    """

    def __init__(self, url: str) -> None:
        self._file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
        self._engine: Engine = create_engine(url)
        self._ready = False
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _forbid_writes)
            event.listen(self._engine, "begin", _begin)

    @property
    def ready(self) -> bool:
        """Whether the daemon has made the ledger yet."""
        if not self._ready:
            # SQLite would make the file by looking.
            there = self._file is None or self._file.is_file()
            self._ready = there and inspect(self._engine).has_table(EventRow.__tablename__)
        return self._ready

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent view of the ledger."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield Transaction(session)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _forbid_writes(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # BEGIN is ours, see _begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()


def _begin(connection: Connection) -> None:
    # Python's sqlite3 would begin no transaction for a SELECT: two reads, two truths.
    connection.exec_driver_sql("BEGIN")


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
            troubles=_troubles(tx),
            held=_held(tx),
            held_cases=_held_cases(tx),
            cases=tuple(_case_line(row, settings) for row in tx.session.exec(cases)),
            slides=tuple(_slide_line(row, settings) for row in tx.session.exec(slides)),
            last_event_at=tx.session.exec(
                select(EventRow.at).order_by(col(EventRow.id).desc()).limit(1)
            ).first(),
        )


def _troubles(tx: Transaction) -> tuple[Trouble, ...]:
    slides = tx.session.exec(
        select(SlideRow)
        .where(SlideRow.state == SlideState.QUARANTINED)
        .order_by(col(SlideRow.changed_at).desc())
        .limit(LIMIT)
    )
    cases = tx.session.exec(
        select(CaseRow)
        .where(col(CaseRow.state).in_(CASES_IN_TROUBLE))
        .order_by(col(CaseRow.changed_at).desc())
        .limit(LIMIT)
    )
    found = [_slide_trouble(row) for row in slides] + [_case_trouble(tx, row) for row in cases]
    return tuple(sorted(found, key=lambda trouble: -trouble.at))


def _slide_trouble(row: SlideRow) -> Trouble:
    reason = _reason(row.reason) or QuarantineReason.FAILED
    return Trouble(
        subject=row.subject,
        title=Path(row.path).name,
        sentence=reason.sentence,
        remedy=reason.remedy,
        detail=row.detail,
        case_id=row.case_id,
        at=row.changed_at,
    )


def _case_trouble(tx: Transaction, row: CaseRow) -> Trouble:
    case_id = _id(row)
    state = CaseState(row.state)
    detail = ""
    if state is CaseState.PARTNERLESS:
        missing = [STAIN_WORDS[stain] for stain in Stain if stain not in tx.slides_of_case(case_id)]
        sentence = (
            f"The {' and '.join(missing) or 'second'} slide of this block did not come in time."
        )
        remedy = "Look for the missing scan. A late partner reopens the case by itself."
    elif state is CaseState.UNDELIVERED:
        refused = [d for d in tx.deliveries(case_id) if d.state == DeliveryState.REFUSED]
        where = ", ".join(sorted({d.destination for d in refused})) or "A destination"
        sentence = f"{where} refused {len(refused) or 'some'} of this case's objects for good."
        remedy = f"See the errors below, correct the cause, then: tandem retry {row.subject}."
        detail = next((d.error for d in refused if d.error), detail)
    else:
        # The daemon writes "cause. See the log, then: …".
        sentence, _, remedy = row.reason.partition(". See ")
        sentence = sentence or QuarantineReason.FAILED.sentence
        remedy = f"See {remedy}" if remedy else QuarantineReason.FAILED.remedy
    return Trouble(
        subject=row.subject,
        title=f"{row.accession} · block {row.block} · {CASE_WORDS[state].label.lower()}",
        sentence=sentence,
        remedy=remedy,
        detail=detail,
        case_id=case_id,
        at=row.changed_at,
    )


def _held(tx: Transaction) -> tuple[HeldDestination, ...]:
    failed = _waiting(tx, (DeliveryState.QUEUED, DeliveryState.SENT), unproven=False)
    return failed + _waiting(tx, (DeliveryState.UNPROVEN,), unproven=True)


def _held_cases(tx: Transaction) -> tuple[HeldCases, ...]:
    rows = tx.session.exec(
        select(CaseRow.reason, func.count(), func.min(CaseRow.not_before))
        .where(col(CaseRow.state).in_(CASES_HELD), CaseRow.reason != "")
        .group_by(CaseRow.reason)
        .order_by(CaseRow.reason)
    )
    return tuple(HeldCases(cases=number, error=error, next_try_at=at) for error, number, at in rows)


def _waiting(
    tx: Transaction, states: tuple[DeliveryState, ...], *, unproven: bool
) -> tuple[HeldDestination, ...]:
    rows = tx.session.exec(
        select(
            DeliveryRow.destination,
            func.count(),
            func.max(DeliveryRow.error),
            func.min(DeliveryRow.not_before),
        )
        .where(col(DeliveryRow.state).in_(states), DeliveryRow.error != "")
        .group_by(DeliveryRow.destination)
        .order_by(DeliveryRow.destination)
    )
    return tuple(
        HeldDestination(
            destination=name, unproven=unproven, objects=number, error=error, next_try_at=at
        )
        for name, number, error, at in rows
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
        trouble = _case_trouble(tx, row) if row.state in CASES_IN_TROUBLE else None
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


def _id(row: SlideRow | CaseRow) -> int:
    if row.id is None:
        raise ValueError("a row that came from the ledger has an id")
    return row.id


def _reason(code: str) -> QuarantineReason | None:
    # A newer daemon may know reasons that this dashboard does not.
    return next((reason for reason in QuarantineReason if reason.code == code), None)


def _case_line(row: CaseRow, settings: Settings) -> CaseLine:
    return CaseLine(
        id=_id(row),
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
        id=_id(row),
        case_id=row.case_id,
        name=Path(row.path).name,
        stain=row.stain,
        state=SlideState(row.state),
        reason=_reason(row.reason) if row.reason else None,
        detail=row.detail,
        claimed=row.claimed_by != "",
        progress=read_progress(settings, row.subject) if row.claimed_by else None,
        thumbnail=thumbnail if thumbnail is not None and thumbnail.is_file() else None,
        changed_at=row.changed_at,
    )
