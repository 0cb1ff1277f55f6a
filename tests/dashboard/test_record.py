"""The record of access: who opened which case and did what, for an admin, without hidden names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from appliance.domain import HE, HER2
from appliance.ledger.reader import LedgerReader
from appliance.operations import word
from appliance.operations.audited import Word
from appliance.operations.users import Role, User
from dashboard import record as record_module
from dashboard.actions import note_access
from dashboard.masking import hiding
from dashboard.record import Record, read_record
from dashboard.views import look

if TYPE_CHECKING:
    from conftest import Lab

FIRST, SECOND = "S26-0000001", "S26-0000002"


@pytest.fixture(autouse=True)
def fresh_caches() -> Iterator[None]:
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


@pytest.fixture
def seen(lab: Lab) -> Lab:
    """Return a laboratory in which two people opened cases, and one of them left a slide out."""
    for accession in (FIRST, SECOND):
        for stain in (HE, HER2):
            case = lab.slide(accession, stain)
    assert case == 2
    for who, case in (("Meyer^Anna", 1), ("Zweig^Ida", 2), ("Meyer^Anna", 2)):
        answer = note_access(lab.settings, "case-opened", by=who, about=case, case=f"case-{case}")
        assert answer.done
    said = Word(by="Zweig^Ida", why="S26-0000002 is a control")
    word.exclude_slide(lab.settings, "slide-4", said)
    note_access(lab.settings, "sign-in-failed", by="", name="zweig", address="10.0.0.7")
    return lab


def read(lab: Lab, **wanted: str | int) -> Record:
    reader = LedgerReader(lab.settings.ledger_url)
    assert reader.ready
    found = read_record(reader, lab.settings, **wanted)  # type: ignore[arg-type]
    reader.close()
    return found


def told(found: Record) -> list[tuple[str, str]]:
    return [(line.by, line.about) for line in found.lines]


def test_people_are_found_by_name_and_by_case(seen: Lab) -> None:
    left_out = [("Zweig^Ida", f"{SECOND}_A1_HER2.svs")] * 2  # the word, and the state it caused
    first, second = ("Meyer^Anna", f"{FIRST} · A1"), ("Zweig^Ida", f"{SECOND} · A1")
    again = ("Meyer^Anna", f"{SECOND} · A1")
    # The newest first; the appliance's own steps are left out, a failed sign-in is not.
    assert told(read(seen)) == [("", ""), *left_out, again, second, first]
    assert told(read(seen, who="meyer")) == [again, first]
    for name in (SECOND, "case-2", "2", "s26 0000002", "S26/0000002"):
        assert told(read(seen, case=name)) == [*left_out, again, second]
    nobody = read(seen, case=FIRST, who="zweig")
    assert not nobody.lines and nobody.is_case
    for nothing in ("S26", "case-99", "%"):  # no part of an accession, and no pattern
        found = read(seen, case=nothing)
        assert not found.lines and not found.is_case
    assert told(read(seen, who="%")) == []


def test_pages_and_the_events_that_are_read_are_bounded(
    seen: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = told(read(seen))
    monkeypatch.setattr(record_module, "PAGE_EVENTS", 2)
    monkeypatch.setattr(record_module, "MOST_READ", 4)
    before, rows = 0, []
    for _ in range(40):
        found = read(seen, before=before)
        assert len(found.lines) <= 2
        rows += told(found)
        if found.older is None:
            break
        assert before == 0 or found.older < before
        before = found.older
    assert rows == everything and found.older is None


def test_hidden_names_are_in_no_line_and_find_nothing(seen: Lab) -> None:
    reader = LedgerReader(seen.settings.ledger_url)
    assert reader.ready
    hidden = hiding(seen.settings)
    shown = repr(read_record(reader, hidden))
    assert "S26" not in shown and "control" not in shown and "Zweig^Ida" in shown
    assert read_record(reader, hidden, case=SECOND).lines == ()
    assert len(read_record(reader, hidden, case="2").lines) == 4
    reader.close()


def record_page() -> None:
    from dashboard.views import record

    record.render()


@pytest.mark.parametrize("role", [Role.PATHOLOGIST, Role.ADMIN])
def test_an_admin_alone_sees_the_page(
    seen: Lab, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    class Server:
        required = True

        def hides(self, *_: object, **__: object) -> bool:
            return False

    user = User(name="x", role=role, person="X", password="")
    monkeypatch.setattr(look, "user", lambda: user)
    monkeypatch.setattr("dashboard.access._SERVER", [Server()])
    page = AppTest.from_function(record_page)
    page.query_params["who"] = "zweig"
    page.run(timeout=180)
    assert not page.exception
    markup = "".join(element.proto.body for element in page.get("html"))
    sees = role is Role.ADMIN
    assert ("Zweig^Ida" in markup and "case?case=2" in markup) is sees
    assert "Meyer^Anna" not in markup
    if sees:
        page.text_input(key="record-who").set_value("meyer").run(timeout=180)
        assert page.query_params["who"] == "meyer"
        for case, says in (("S26-9999999", "no such case"), (FIRST, "Nobody did this")):
            page.text_input(key="record-who").set_value("nobody")
            page.text_input(key="record-case").set_value(case).run(timeout=180)
            shown = "".join(element.proto.body for element in page.get("html"))
            assert says in shown
