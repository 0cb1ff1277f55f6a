"""Search without regard to case, in all letters: SQLite's own knows those of English alone."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func

from appliance.ledger.queries import Queries


def folded(tx: Queries, column: Any, text: str) -> ColumnElement[bool]:
    """Return the condition that a column holds `text`, in capitals or not."""
    driver: Any = tx.session.connection().connection.driver_connection
    driver.create_function("casefold", 1, _folded, deterministic=True)
    found: ColumnElement[bool] = func.casefold(column).contains(text.casefold(), autoescape=True)
    return found


def _folded(value: object) -> str:
    return str(value or "").casefold()
