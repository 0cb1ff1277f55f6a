"""Sentences from facts: a code and its parameters.

A fact is a mapping with `kind`, `code` and `params`. A parameter may itself be a fact; templates
receive its sentence. Texts that come from elsewhere (a server's answer, the message of an error)
are parameters, and nothing reads them but people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from appliance.words.english.alerts import ALERTS
from appliance.words.english.cases import CASE_REASONS, CASE_REMEDIES, CASE_TROUBLES
from appliance.words.english.deliveries import DELIVERY_REASONS
from appliance.words.english.events import EVENTS
from appliance.words.english.folders import FOLDERS
from appliance.words.english.interim import INTERIM
from appliance.words.english.review import REVIEW, SECOND
from appliance.words.english.slides import (
    DETAILS,
    NOT_FOR_AN_ASSAY,
    QUARANTINE,
    REMEDIES,
    SLIDE_ERRORS,
)
from appliance.words.template import OTHER, Params, Template, Words

_LANGUAGES: dict[str, dict[str, Words]] = {
    "en": {
        "event": EVENTS,
        "quarantine": QUARANTINE,
        "remedy": REMEDIES,
        "slide-detail": DETAILS,
        "slide-error": SLIDE_ERRORS,
        "not-for-an-assay": NOT_FOR_AN_ASSAY,
        "case": CASE_REASONS,
        "case-trouble": CASE_TROUBLES,
        "case-remedy": CASE_REMEDIES,
        "folder": FOLDERS,
        "delivery": DELIVERY_REASONS,
        "review": REVIEW,
        "alert": ALERTS,
        "interim": INTERIM,
        "second": SECOND,
    }
}


def say(kind: str, code: str, params: Params | None = None, language: str = "en") -> str:
    """Return the sentence of a fact.

    A code without template, or a template that misses a parameter, gives the fact as text:
    ``code (name=value, …)``. An empty code gives an empty text. A language without words for the
    code gives the English sentence.
    """
    if not code:
        return ""
    given = {name: _told(value, language) for name, value in (params or {}).items()}
    if kind == "review" and "sentence" in given:
        # Findings of earlier versions stored the sentence alone.
        return str(given["sentence"])
    template = _template(kind, code, language)
    try:
        if callable(template):
            return template({"code": code, **given})
        if template is not None:
            return template.format_map({"code": code, **given})
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        # Facts of another version; a fact that reads badly is better than a page that fails.
        pass
    listed = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"{code} ({listed})" if listed else code


def _template(kind: str, code: str, language: str) -> Template | None:
    tables = [_LANGUAGES.get(name, {}).get(kind, {}) for name in (language, "en")]
    found = (table[key] for key in (code, OTHER) for table in tables if key in table)
    return next(found, None)


def add_words(kind: str, words: Mapping[str, Template], language: str = "en") -> None:
    """Add templates of an extension's codes; templates of known codes are replaced."""
    _LANGUAGES.setdefault(language, {}).setdefault(kind, {}).update(words)


def _told(value: Any, language: str) -> Any:
    if isinstance(value, Mapping) and value.keys() >= {"kind", "code"}:
        return say(value["kind"], value["code"], value.get("params"), language)
    return value
