"""Rows of the ledger as frozen facts for the pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.left_out import REPLACED
from appliance.ledger.hints import Hint
from appliance.ledger.lifecycle import SLIDES_UNDER_WAY, CaseState, DeliveryState, SlideState
from appliance.ledger.progress import StepProgress, read_progress
from appliance.ledger.second_opinions import SecondOpinion
from appliance.ledger.tables import CaseRow, DeliveryRow, EventRow, SlideRow, id_of, params_of
from appliance.operations.seen import shown_name
from appliance.settings.settings import Settings
from appliance.words.say import say
from appliance.words.template import OTHER
from dashboard.masking import case_name, event_shown, facts_shown, hides, slide_name

CASES_HELD = (CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN)
SIGNED = ("corrected-by", "confirmed-by")
"""Codes of events of a pathologist's word on a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseLine:
    """Case in the table; `score` is empty until there is one, times in seconds since epoch.

    `accession` is a stand-in on a screen with hidden names.

    `picture` is the version of its small picture, empty until there is a result. `held` is the
    sentence that tells what a case under way waits for, or empty.
    """

    id: int
    accession: str
    block: str
    assay: str
    state: CaseState
    score: str
    review: tuple[str, ...]
    claimed: bool
    progress: StepProgress | None
    picture: str
    held: str
    created_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideLine:
    """Slide in the table.

    `reason` is the sentence that tells why the slide is set aside, or empty; `held` the one that
    tells what a slide under way waits for. `thumbnail` is None until the slide has been inspected.
    `seen` is the name of the slide as it is shown (`operations.seen`).
    """

    id: int
    case_id: int | None
    name: str
    stain: str
    state: SlideState
    reason: str
    held: str
    detail: str
    claimed: bool
    progress: StepProgress | None
    thumbnail: Path | None
    changed_at: float
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLine:
    """Objects of one kind to one destination in the same state; a slide is many objects.

    `attempts` is the largest number of any object, `next_try_at` and `changed_at` the latest time.
    `is_taken_out`: they are not to be sent any more, by what became of their case.
    """

    objects: int
    kind: str
    destination: str
    state: DeliveryState
    attempts: int
    error: str
    is_taken_out: bool
    next_try_at: float
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLine:
    """Row of a timeline; `who` is the case, a slide or an object in plain words.

    `by` is the person whose word it was, empty for the appliance's own. An event of several objects
    is one row with their `count` and the time of the last event.
    """

    count: int
    at: float
    who: str
    text: str
    by: str


def delivery_lines(rows: Sequence[DeliveryRow], *, hidden: bool) -> tuple[DeliveryLine, ...]:
    """Return one line for all objects of a kind in the same state at a destination.

    `hidden`: on a screen with hidden names.
    """
    alike: dict[tuple[str, str, str, str, str], list[DeliveryRow]] = {}
    for row in rows:
        key = (row.kind, row.destination, row.state, row.reason, row.params)
        alike.setdefault(key, []).append(row)
    return tuple(
        DeliveryLine(
            objects=len(group),
            kind=kind,
            destination=destination,
            state=DeliveryState(state),
            attempts=max(row.attempts for row in group),
            error=say("delivery", reason, facts_shown(params_of(group[0]), hidden=hidden)),
            is_taken_out=state == DeliveryState.REFUSED and reason in REPLACED,
            next_try_at=max(row.not_before for row in group),
            changed_at=max(row.changed_at for row in group),
        )
        for (kind, destination, state, reason, _), group in alike.items()
    )


def person_of(event: EventRow) -> str:
    """Return the person whose word an event was; earlier builds kept it among the facts."""
    if event.by or event.code not in SIGNED:
        return event.by
    return str(params_of(event).get("by", ""))


def event_lines(
    events: Sequence[EventRow], who: Mapping[str, str], *, hidden: bool
) -> tuple[EventLine, ...]:
    """Return the timeline of some subjects, whose names `who` gives; `hidden`: without names."""
    lines: dict[object, EventLine] = {}
    for event in events:
        name, text = who[event.subject], event_shown(event, hidden=hidden)
        # Objects of one kind to one destination share a name; other subjects have their own.
        joins = event.subject.startswith("delivery-") and event.kind == "state"
        key: object = (name, event.from_state, text, event.by) if joins else event.id
        known = lines.pop(key, None)
        lines[key] = EventLine(
            count=1 if known is None else known.count + 1,
            at=event.at,
            who=name,
            text=text,
            by=person_of(event),
        )
    return tuple(lines.values())


def case_line(row: CaseRow, settings: Settings) -> CaseLine:
    """Return the line of a case."""
    hidden = hides(settings)
    return CaseLine(
        id=id_of(row),
        accession=case_name(id_of(row)) if hidden else row.accession,
        block=row.block,
        assay=row.assay,
        state=CaseState(row.state),
        score=row.score,
        review=tuple(
            say("review", fact["code"], facts_shown(fact["params"], hidden=hidden))
            for fact in json.loads(row.review)
        ),
        claimed=row.claimed_by != "",
        progress=read_progress(settings, row.subject) if row.claimed_by else None,
        picture=ArtifactKey.parse(row.findings_key).digest if row.findings_key else "",
        held=_held(row, hidden=hidden),
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _held(row: CaseRow, *, hidden: bool) -> str:
    if not row.reason or row.state not in (CaseState.WAITING, *CASES_HELD):
        return ""
    return say("case", row.reason, facts_shown(params_of(row), hidden=hidden))


def interim_words(hint: Hint | None, case: CaseRow) -> str:
    """Return the sentence on a hint beside its case: a hint, or superseded; empty without one."""
    if hint is None:
        return ""
    if not hint.said:
        code = "no-opinion"
    elif not case.findings_key:
        code = "waiting"
    elif not case.score:
        code = "without-score"
    else:
        code = "agreed" if case.score == hint.said else "differed"
    return say("interim", code, hint.params | {"score": case.score})


def second_words(said: Sequence[SecondOpinion], stain: str, case: CaseRow) -> tuple[str, ...]:
    """Return the sentences on second readers' opinions on a case's target slide.

    None once the case has findings, which hold its opinions.
    """
    if case.findings_key:
        return ()
    return tuple(say("second", "waiting", {**asdict(each), "stain": stain}) for each in said)


def slide_line(row: SlideRow, case_id: int | None, settings: Settings) -> SlideLine:
    """Return the line of a slide; `case_id` is the case that its name links to."""
    thumbnail, hidden = None, hides(settings)
    waits, facts = row.state in SLIDES_UNDER_WAY, facts_shown(params_of(row), hidden=hidden)
    if row.inspect_key:
        folder = ArtifactStore(settings.artifacts_dir).path(ArtifactKey.parse(row.inspect_key))
        thumbnail = folder / "thumbnail.png"
    return SlideLine(
        id=id_of(row),
        case_id=case_id,
        name=slide_name(id_of(row)) if hidden else row.file_name,
        stain=row.stain,
        state=SlideState(row.state),
        reason="" if waits else say("quarantine", row.reason),
        held=say("case", row.reason, facts) if waits else "",
        detail=say("slide-detail", row.reason or OTHER, facts),
        claimed=row.claimed_by != "",
        progress=read_progress(settings, row.subject) if row.claimed_by else None,
        thumbnail=thumbnail if thumbnail is not None and thumbnail.is_file() else None,
        changed_at=row.changed_at,
        seen=shown_name(row),
    )
