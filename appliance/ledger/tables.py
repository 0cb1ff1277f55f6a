"""The ledger: SQLModel tables and all SQL. The only truth about state.

One SQLite database in WAL mode (any SQLAlchemy URL works for the statements used here). Times are
seconds since the epoch, UTC. Events are append-only and hash-chained: each row's hash covers the
row before it, so a changed or removed event shows in `Ledger.verify_events`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import aliased
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Field, Session, SQLModel, UniqueConstraint, col, create_engine, select

from appliance.domain import Identity, Stain
from appliance.ledger.lifecycle import CaseState, DeliveryState, SlideState, State, advance

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another; our transactions last milliseconds."""
REPORT = "SR"
"""The kind of object that a newer one may correct."""


class SlideRow(SQLModel, table=True):
    """One slide file; `path` is the file that OpenSlide opens."""

    __tablename__ = "slide"
    id: int | None = Field(default=None, primary_key=True)
    path: str = Field(index=True, unique=True)
    size_bytes: int = 0
    modified_ns: int = 0
    fingerprint: str = ""
    state: str = Field(index=True)
    reason: str = ""  # code of a QuarantineReason
    detail: str = ""
    accession: str = ""
    block: str = ""
    stain: str = ""
    format: str = ""
    width_px: int = 0
    height_px: int = 0
    mpp: float = 0.0
    level_count: int = 0
    is_dicom: bool = False
    case_id: int | None = Field(default=None, foreign_key="case.id", index=True)
    inspect_key: str = ""
    read_key: str = ""
    worker_crashes: int = 0
    not_before: float = 0.0
    claimed_by: str = ""
    created_at: float
    changed_at: float

    @property
    def subject(self) -> str:
        """Name in events and commands."""
        return f"slide-{self.id}"


class CaseRow(SQLModel, table=True):
    """The H&E and the IHC slide of one block."""

    __tablename__ = "case"
    __table_args__ = (UniqueConstraint("accession", "block"),)
    id: int | None = Field(default=None, primary_key=True)
    accession: str
    block: str
    state: str = Field(index=True)
    reason: str = ""
    score: str = ""
    review: str = "[]"  # JSON list of sentences
    findings_key: str = ""
    objects_key: str = ""
    worker_crashes: int = 0
    not_before: float = 0.0
    claimed_by: str = ""
    created_at: float
    changed_at: float

    @property
    def subject(self) -> str:
        """Name in events and commands."""
        return f"case-{self.id}"


class DeliveryRow(SQLModel, table=True):
    """One DICOM object to one destination: the outbox."""

    __tablename__ = "delivery"
    __table_args__ = (UniqueConstraint("destination", "sop_instance_uid"),)
    id: int | None = Field(default=None, primary_key=True)
    case_id: int = Field(foreign_key="case.id", index=True)
    destination: str
    kind: str  # one of settings.ObjectKind
    path: str  # of the object's file, relative to the artifacts folder
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    state: str = Field(index=True)
    attempts: int = 0
    not_before: float = 0.0
    error: str = ""
    created_at: float
    changed_at: float

    @property
    def subject(self) -> str:
        """Name in events."""
        return f"delivery-{self.id}"


class EventRow(SQLModel, table=True):
    """What happened, in order; append-only."""

    __tablename__ = "event"
    id: int | None = Field(default=None, primary_key=True)
    at: float
    subject: str = Field(index=True)
    kind: str  # state, step, note
    text: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """What the outbox needs to know of an object."""

    destination: str
    kind: str
    path: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str


class Transaction:
    """An open transaction: reads, changes through `advance`, events. Made by `Ledger`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    # events

    def append_event(self, subject: str, kind: str, text: str, now: float) -> None:
        """Append an event whose hash covers the one before it."""
        last = self.session.exec(
            select(EventRow.hash).order_by(col(EventRow.id).desc()).limit(1)
        ).first()
        row = EventRow(at=now, subject=subject, kind=kind, text=text, hash="")
        row.hash = _event_hash(last or "", row)
        self.session.add(row)
        self.session.flush()

    def advance(
        self,
        row: SlideRow | CaseRow | DeliveryRow,
        to: State,
        *,
        now: float,
        detail: str = "",
    ) -> None:
        """Change a row's state with its event, in this transaction."""
        advance(self, row, to, now=now, detail=detail)
        self.session.add(row)
        self.session.flush()

    def events(self, subject: str | None = None, limit: int = 1000) -> list[EventRow]:
        """Events of a subject (of all), oldest first."""
        query = select(EventRow).order_by(col(EventRow.id).desc()).limit(limit)
        if subject is not None:
            query = query.where(EventRow.subject == subject)
        return list(reversed(self.session.exec(query).all()))

    # slides

    def slide(self, slide_id: int) -> SlideRow | None:
        """The slide row, or None."""
        return self.session.get(SlideRow, slide_id)

    def slide_of_path(self, path: str) -> SlideRow | None:
        """The slide whose file this is, or None."""
        return self.session.exec(select(SlideRow).where(SlideRow.path == path)).first()

    def slides(self) -> list[SlideRow]:
        """All slides, oldest first."""
        return list(self.session.exec(select(SlideRow).order_by(col(SlideRow.id))).all())

    def add_slide(self, path: str, now: float) -> SlideRow:
        """A slide seen for the first time, `arriving`."""
        row = SlideRow(path=path, state=SlideState.ARRIVING, created_at=now, changed_at=now)
        self.session.add(row)
        self.session.flush()
        self.append_event(row.subject, "state", f"→ {SlideState.ARRIVING}", now)
        return row

    def slides_of_case(self, case_id: int) -> dict[Stain, SlideRow]:
        """The current slide of each stain (superseded and quarantined ones left out)."""
        dead = (SlideState.SUPERSEDED, SlideState.QUARANTINED)
        rows = self.session.exec(
            select(SlideRow).where(SlideRow.case_id == case_id, col(SlideRow.state).not_in(dead))
        ).all()
        return {Stain(row.stain): row for row in rows}

    def slides_ever(self, case_id: int, stain: str) -> list[SlideRow]:
        """All slides of a case's stain, superseded and quarantined ones too."""
        query = select(SlideRow).where(SlideRow.case_id == case_id, SlideRow.stain == stain)
        return list(self.session.exec(query).all())

    # cases

    def case(self, case_id: int) -> CaseRow | None:
        """The case row, or None."""
        return self.session.get(CaseRow, case_id)

    def cases(self) -> list[CaseRow]:
        """All cases, oldest first."""
        return list(self.session.exec(select(CaseRow).order_by(col(CaseRow.id))).all())

    def case_for(self, identity: Identity, now: float) -> CaseRow:
        """The case of an identity's block, made when it is the first slide of it."""
        row = self.session.exec(
            select(CaseRow).where(
                CaseRow.accession == identity.accession, CaseRow.block == identity.block
            )
        ).first()
        if row is None:
            row = CaseRow(
                accession=identity.accession,
                block=identity.block,
                state=CaseState.WAITING,
                created_at=now,
                changed_at=now,
            )
            self.session.add(row)
            self.session.flush()
            self.append_event(row.subject, "state", f"→ {CaseState.WAITING}", now)
        return row

    # claims

    def claim_slide(self, states: Sequence[SlideState], worker: str, now: float) -> SlideRow | None:
        """Take the oldest free slide in one of `states`, or None; one statement."""
        slide_id = self._claim("slide", states, worker, now)
        # Populated anew: the claim went past the ORM.
        return (
            None
            if slide_id is None
            else self.session.get(SlideRow, slide_id, populate_existing=True)
        )

    def claim_case(self, states: Sequence[CaseState], worker: str, now: float) -> CaseRow | None:
        """Take the oldest free case in one of `states`, or None; one statement."""
        case_id = self._claim("case", states, worker, now)
        return (
            None if case_id is None else self.session.get(CaseRow, case_id, populate_existing=True)
        )

    def _claim(self, table: str, states: Sequence[State], worker: str, now: float) -> int | None:
        names = {f"s{i}": state.value for i, state in enumerate(states)}
        marks = ", ".join(f":{name}" for name in names)
        row = (
            self.session.connection()
            .execute(
                text(
                    f'UPDATE "{table}" SET claimed_by = :worker WHERE id = ('  # noqa: S608  table is ours
                    f'SELECT id FROM "{table}" WHERE state IN ({marks}) '
                    "AND claimed_by = '' AND not_before <= :now ORDER BY id LIMIT 1) RETURNING id"
                ),
                {"worker": worker, "now": now, **names},
            )
            .first()
        )
        return None if row is None else int(row[0])

    def release_claims(self) -> int:
        """Free what a dead daemon had claimed; call only while holding the daemon's lock."""
        freed = 0
        for table in ("slide", "case"):
            freed += (
                self.session.connection()
                .execute(text(f"UPDATE \"{table}\" SET claimed_by = '' WHERE claimed_by != ''"))  # noqa: S608
                .rowcount
            )
        return freed

    # deliveries

    def deliveries(self, case_id: int | None = None) -> list[DeliveryRow]:
        """Deliveries of a case (of all), in the order of sending."""
        query = select(DeliveryRow).order_by(col(DeliveryRow.id))
        if case_id is not None:
            query = query.where(DeliveryRow.case_id == case_id)
        return list(self.session.exec(query).all())

    def due_deliveries(self, now: float) -> list[DeliveryRow]:
        """Deliveries to be sent or proven now, in the order of sending.

        A case's reports go one after the other: one that corrects another never overtakes it.
        """
        open_states = (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.UNPROVEN)
        older = aliased(DeliveryRow)
        overtakes = (
            select(older.id)
            .where(
                col(DeliveryRow.state) == DeliveryState.QUEUED,
                col(DeliveryRow.kind) == REPORT,
                col(older.kind) == REPORT,
                col(older.case_id) == DeliveryRow.case_id,
                col(older.destination) == DeliveryRow.destination,
                col(older.id) < col(DeliveryRow.id),
                col(older.state).in_((DeliveryState.QUEUED, DeliveryState.SENT)),
            )
            .exists()
        )
        return list(
            self.session.exec(
                select(DeliveryRow)
                .where(
                    col(DeliveryRow.state).in_(open_states),
                    DeliveryRow.not_before <= now,
                    ~overtakes,
                )
                .order_by(col(DeliveryRow.id))
            ).all()
        )

    def written_cases_without_open_deliveries(self) -> list[int]:
        """Ids of cases that wait for nothing any more."""
        under_way = select(DeliveryRow.case_id).where(
            col(DeliveryRow.state).in_((DeliveryState.QUEUED, DeliveryState.SENT))
        )
        written = select(CaseRow.id).where(
            CaseRow.state == CaseState.WRITTEN, col(CaseRow.id).not_in(under_way)
        )
        return [case_id for case_id in self.session.exec(written).all() if case_id is not None]

    def enqueue(self, case_id: int, new: NewDelivery, now: float) -> None:
        """Put an object into the outbox; one that is there already stays as it is."""
        known = self.session.exec(
            select(DeliveryRow).where(
                DeliveryRow.destination == new.destination,
                DeliveryRow.sop_instance_uid == new.sop_instance_uid,
            )
        ).first()
        if known is not None:
            return
        row = DeliveryRow(
            case_id=case_id,
            destination=new.destination,
            kind=new.kind,
            path=new.path,
            study_uid=new.study_uid,
            series_uid=new.series_uid,
            sop_instance_uid=new.sop_instance_uid,
            sop_class_uid=new.sop_class_uid,
            state=DeliveryState.QUEUED,
            created_at=now,
            changed_at=now,
        )
        self.session.add(row)
        self.session.flush()
        self.append_event(row.subject, "state", f"→ {DeliveryState.QUEUED}", now)


class Ledger:
    """The database; safe to use from several threads and processes."""

    def __init__(self, url: str) -> None:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        # Parameters are accessions, and errors go to the log.
        self._engine: Engine = create_engine(url, hide_parameters=True)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _configure_sqlite)
            event.listen(
                self._engine,
                "begin",
                lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"),
            )
        SQLModel.metadata.create_all(self._engine)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One transaction: committed when the block ends well, rolled back otherwise.

        Rows that were read stay readable after it.
        """
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield Transaction(session)

    def verify_events(self) -> int | None:
        """The id of the first event whose hash does not fit, or None when the chain is whole."""
        previous = ""
        with self.transaction() as tx:
            for row in tx.session.exec(select(EventRow).order_by(col(EventRow.id))):
                if row.hash != _event_hash(previous, row):
                    return row.id
                previous = row.hash
        return None

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _event_hash(previous: str, row: EventRow) -> str:
    fields = json.dumps([previous, row.at, row.subject, row.kind, row.text])
    return hashlib.sha256(fields.encode()).hexdigest()


def _begin_immediate(connection: Connection) -> None:
    # A deferred BEGIN lets two readers that turn writers dead-lock.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _configure_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # BEGIN is ours, see _begin_immediate.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
