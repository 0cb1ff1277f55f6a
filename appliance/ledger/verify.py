"""Verification of a ledger: SQLite's own check, the chain of events, and the rows against it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.ledger.events import hash_of
from appliance.ledger.schema import SCHEMA

MOST_PROBLEMS = 20
"""Most problems that are listed."""
_FACTS = (
    "at, subject, kind, code, from_state, to_state, step, seconds, reused, reason, score, "
    '"by", params'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Result of a verification; `head` is the hash of the last event, which covers all of them.

    `older` means that an earlier build made the ledger: its events and rows are not compared.
    """

    events: int
    head: str
    older: bool
    problems: tuple[str, ...]


def verify(file: Path) -> Verified:
    """Verify a ledger, or a backup of one, without writing to it.

    Raises
    ------
    sqlite3.Error
        If it cannot be read at all.
    """
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        connection.execute("BEGIN")  # one view of all
        problems: list[str] = [
            f"SQLite: {message}"
            for (message,) in connection.execute(f"PRAGMA integrity_check({MOST_PROBLEMS})")
            if message != "ok"
        ]
        number = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if not problems and number == SCHEMA:
            problems += _chain(connection)
            problems += _rows(connection)
        events, head = connection.execute(
            "SELECT count(*), coalesce((SELECT hash FROM event ORDER BY id DESC LIMIT 1), '') "
            "FROM event"
        ).fetchone()
    finally:
        connection.close()
    return Verified(
        events=int(events),
        head=str(head),
        older=number < SCHEMA,
        problems=tuple(problems[:MOST_PROBLEMS]),
    )


def _chain(connection: sqlite3.Connection) -> Iterator[str]:
    names = [name.strip().strip('"') for name in _FACTS.split(",")]
    previous = ""
    for row_id, stored, *values in connection.execute(
        f"SELECT id, hash, {_FACTS} FROM event ORDER BY id"  # noqa: S608
    ):
        facts = dict(zip(names, values, strict=True))
        facts["reused"] = bool(facts["reused"])
        if hash_of(previous, facts) != stored:
            yield f"event {row_id} was changed, or an event before it was removed"
            return
        previous = stored


def _rows(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield rows whose state or score is not what their last event says, and rows that are gone."""
    said: dict[str, tuple[str, str]] = {}
    for subject, kind, state, score in connection.execute(
        "SELECT subject, kind, to_state, score FROM event "
        "WHERE kind = 'state' OR code = 'carried-over' ORDER BY id"
    ):
        before = said.get(subject, ("", ""))
        said[subject] = (state if kind == "state" else before[0], score)
    for table, score in (("slide", "''"), ("case", "score"), ("delivery", "''")):
        for row_id, state, scored in connection.execute(
            f'SELECT id, state, {score} FROM "{table}"'  # noqa: S608
        ):
            subject = f"{table}-{row_id}"
            state_said, score_said = said.pop(subject, ("", ""))
            if state != state_said:
                yield f"{subject} is '{state}', and its last event says '{state_said}'"
            if table == "case" and scored != score_said:
                yield f"{subject} has the score '{scored}', and its last event '{score_said}'"
    yield from (f"{subject} has events and no row" for subject in said)
