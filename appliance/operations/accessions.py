"""Search for an accession, in any way of writing that the site takes for the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import Mapped
from sqlmodel import col, select

from appliance.intake.identity.evidence import accession_key
from appliance.ledger.queries import Queries
from appliance.ledger.tables import CaseRow
from appliance.settings.settings import Settings


def cases_of_accession(tx: Queries, text: str, settings: Settings) -> list[CaseRow]:
    """Return the cases of an accession, however the site writes it, oldest first."""
    wanted = accession_key(text, settings.identify)
    known = tx.session.exec(select(CaseRow.accession).distinct()).all()
    same = [each for each in known if wanted and accession_key(each, settings.identify) == wanted]
    if not same:
        return []
    query = select(CaseRow).where(col(CaseRow.accession).in_(same)).order_by(col(CaseRow.id))
    return list(tx.session.exec(query).all())


def holds_text(accession: Mapped[Any], text: str, settings: Settings) -> ColumnElement[bool]:
    """Return the condition that an accession holds a text, as typed or as the site writes it."""
    texts = {text, settings.identify.writing.of_accession(text) or text}
    return or_(*(accession.icontains(each, autoescape=True) for each in sorted(texts)))
