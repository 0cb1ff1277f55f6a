"""The tables of the ledger. Times are seconds since the epoch, UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel, UniqueConstraint

from appliance.domain import SlideFacts
from appliance.ledger.path_text import PathText
from appliance.text import readable

LONGEST_ID = 15
"""Most digits of an id that a person may name: more are none that the ledger ever gave."""
_FREE = text("claimed_by = ''")
_CLAIMED = text("claimed_by != ''")


class SlideRow(SQLModel, table=True):
    """One slide file; `path` is the file that OpenSlide opens.

    A slide belongs to the block (`accession`, `block`); the cases of the block are found by it.
    """

    __tablename__ = "slide"
    __table_args__ = (
        Index("ix_slide_accession_block", "accession", "block"),
        Index("ix_slide_state_changed", "state", "changed_at"),
        # Claims read nothing else: one seek each, however long the queue is.
        Index("ix_slide_claim", "state", "stat", "id", "not_before", sqlite_where=_FREE),
        Index("ix_slide_claimed", "claimed_by", sqlite_where=_CLAIMED),
    )
    id: int | None = Field(default=None, primary_key=True)
    path: str = Field(index=True, unique=True, sa_type=PathText)
    size_bytes: int = 0
    modified_ns: int = 0
    fingerprint: str = Field(default="", index=True)  # equal bytes are found at each identify
    state: str
    reason: str = ""  # a QuarantineReason; of a slide under way: what it waits for, as a case's
    params: str = "{}"  # of the reason, a JSON object
    accession: str = ""
    block: str = ""
    stain: str = ""
    organ: str = ""  # of the sidecar at identify; empty where it does not say
    specimen: str = ""
    evidence: str = "[]"  # what each source says of its identity, a JSON list
    patient: str = "{}"  # patient and study as the header or the order names them, a JSON object
    picture: str = "{}"  # what its pixels look like, a JSON object
    said: str = "{}"  # a person's word on it, a JSON object; it takes precedence
    scanned_at: float = 0.0  # by its header, else its modification time
    format: str = ""
    width_px: int = 0
    height_px: int = 0
    mpp: float = 0.0
    level_count: int = 0
    is_dicom: bool = False
    inspect_key: str = ""
    worker_crashes: int = 0
    step_tries: int = 0  # attempts past the deadline of the present step; `LOOKED`, `SHORT`: others
    not_before: float = 0.0
    claimed_by: str = ""
    claim_token: str = ""  # of the present claim; an answer with another one comes too late
    stat: bool = False  # STAT: first in every lane
    created_at: float
    changed_at: float

    @property
    def subject(self) -> str:
        """Name in events and commands."""
        return f"slide-{self.id}"

    @property
    def file_name(self) -> str:
        """Name of the file for people; it may hold the accession (PHI)."""
        return readable(Path(self.path).name)


class CaseRow(SQLModel, table=True):
    """The two slides of one block that an assay pairs, and their result."""

    __tablename__ = "case"
    __table_args__ = (
        UniqueConstraint("accession", "block", "assay"),
        Index("ix_case_state_changed", "state", "changed_at"),
        Index("ix_case_claim", "state", "stat", "id", "not_before", "assay", sqlite_where=_FREE),
        Index("ix_case_claimed", "claimed_by", sqlite_where=_CLAIMED),
        Index("ix_case_review", "id", sqlite_where=text("review != '[]'")),
    )
    id: int | None = Field(default=None, primary_key=True)
    accession: str
    block: str
    assay: str
    anatomy: str  # stains of the assay's two slides, kept for a time when it is not installed
    target: str
    state: str
    reason: str = ""  # code of what the case waits for; words of kind "case"
    params: str = "{}"  # of the reason, a JSON object
    score: str = ""
    review: str = "[]"  # JSON list of {"code": …, "params": {…}}
    overruled: str = "[]"  # differences of its slides that a person accepted, a JSON list
    findings_key: str = ""
    objects_key: str = ""
    worker_crashes: int = 0
    step_tries: int = 0  # attempts past the deadline of the present step; `LOOKED`, `SHORT`: others
    not_before: float = 0.0
    claimed_by: str = ""
    claim_token: str = ""  # of the present claim; an answer with another one comes too late
    stat: bool = False  # STAT: first in every lane
    created_at: float
    changed_at: float

    @property
    def subject(self) -> str:
        """Name in events and commands."""
        return f"case-{self.id}"


class DeliveryRow(SQLModel, table=True):
    """One DICOM object to one destination: the outbox. `case_id` is the first case that has it."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("destination", "sop_instance_uid"),
        Index("ix_delivery_due", "state", "not_before"),
    )
    id: int | None = Field(default=None, primary_key=True)
    case_id: int = Field(foreign_key="case.id", index=True)
    destination: str
    kind: str  # one of settings.ObjectKind
    path: str  # of the object's file, relative to the artifacts folder
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    state: str
    attempts: int = 0
    not_before: float = 0.0
    reason: str = ""  # code of the last trouble; words of kind "delivery"
    params: str = "{}"  # of the reason, a JSON object
    created_at: float
    changed_at: float

    @property
    def subject(self) -> str:
        """Name in events."""
        return f"delivery-{self.id}"


class CaseDeliveryRow(SQLModel, table=True):
    """An object of a case on its way: cases of one block share the objects of their slides."""

    __tablename__ = "case_delivery"
    case_id: int = Field(foreign_key="case.id", primary_key=True)
    delivery_id: int = Field(foreign_key="delivery.id", primary_key=True, index=True)


class EventRow(SQLModel, table=True):
    """An event: facts in columns, no sentence. Events are appended and never changed.

    `code` says what happened (words of kind "event"), `params` holds what no column does. A step
    has `step`, `seconds` and `reused` (its artifact was there); a change of state has the states,
    and `reason` where a trouble caused it.
    """

    __tablename__ = "event"
    id: int | None = Field(default=None, primary_key=True)
    at: float
    subject: str = Field(index=True)
    kind: str  # state, step, note
    code: str
    from_state: str = ""
    to_state: str = ""
    step: str = ""
    seconds: float = 0.0
    reused: bool = False
    reason: str = ""
    score: str = ""  # of a case after the change of state
    by: str = ""  # person who caused it
    params: str = "{}"  # a JSON object
    hash: str


def set_reason(
    row: SlideRow | CaseRow | DeliveryRow, code: str = "", params: Mapping[str, Any] | None = None
) -> None:
    """Set the reason of a row with its parameters; without a code, clear it."""
    row.reason = code
    row.params = readable(json.dumps(dict(params or {}), ensure_ascii=False, default=str))


def params_of(row: SlideRow | CaseRow | DeliveryRow | EventRow) -> dict[str, Any]:
    """Return the parameters of a row's reason, or of an event."""
    params: dict[str, Any] = json.loads(row.params)
    return params


def id_named(subject: str, kind: Literal["slide", "case"]) -> int | None:
    """Return the id in a subject such as ``case-3``; None where it is no subject of this kind."""
    named, _, number = subject.partition("-")
    digits = number.isascii() and number.isdecimal() and len(number) <= LONGEST_ID
    return int(number) if named == kind and digits else None


def facts_of(slide: SlideRow) -> SlideFacts:
    """Return the facts that a slide's row holds."""
    return SlideFacts(
        path=slide.path,
        fingerprint=slide.fingerprint,
        format=slide.format,
        width_px=slide.width_px,
        height_px=slide.height_px,
        mpp=slide.mpp,
        level_count=slide.level_count,
        is_dicom=slide.is_dicom,
    )


def id_of(row: SlideRow | CaseRow) -> int:
    """Return the id of a row that came from the ledger.

    Raises
    ------
    ValueError
        If the row was never stored.
    """
    if row.id is None:
        raise ValueError("a row that came from the ledger has an id")
    return row.id


def fact(kind: str, code: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a fact, to be stored as a parameter of another."""
    return {"kind": kind, "code": code, "params": dict(params or {})}
