"""The tables of statuses: each code has a verdict, a sentence and a remedy."""

from __future__ import annotations

import re

import pytest
from pynetdicom.status import (
    STATUS_FAILURE,
    STATUS_SUCCESS,
    STATUS_WARNING,
    STORAGE_SERVICE_CLASS_STATUS,
    code_to_category,
)

from dicom.http_status import HTTP_STATUSES, classify_http, find_http_status
from dicom.status import STATUSES, Service, Status, Verdict, classify, find_status

NAMED_FAILURES_THAT_ARE_DELIVERED = {0x0111, 0xA770}
"""The object, or what it asks for, is there already."""


@pytest.mark.parametrize(
    ("status", "verdict", "words"),
    [
        (0x0000, "stored", ""),
        (0xB000, "stored with a warning", "coercion"),
        (0xB006, "stored with a warning", "discarded elements"),
        (0xB007, "stored with a warning", "SOP class"),
        (0xB123, "stored with a warning", "its own"),
        (0x0107, "stored with a warning", "attributes"),
        (0x0111, "stored with a warning", "has an object of this UID already"),
        (0xA700, "later", "out of resources.*disk space.*tried again"),
        (0x0213, "later", "resources.*tried again"),
        (0x0110, "later", "failed while processing.*tried again"),
        (0xFE00, "later", "canceled"),
        (0xA770, "stored with a warning", "note already"),
        (0xA772, "never", "lacks an object that the note.*by hand"),
        (0xA773, "never", "lacks an object that the note.*by hand"),
        (0xA774, "never", "rejected an object of the note by another.*by hand"),
        (0xA775, "never", "rules of rejection and retention"),
        (0xA777, "never", "no Patient ID.*tandem retry.*later cases"),
        (0xA778, "never", "another patient's.*tandem retry"),
        (0xA7FF, "never", "rule of its own.*tandem retry"),
        (0xA900, "never", "does not fit its SOP class.*tandem retry"),
        (0xC000, "never", "cannot understand.*tandem retry"),
        (0x0122, "never", "does not take this SOP class.*Allow it in the PACS"),
        (0x0124, "never", "does not authorize.*calling_aet"),
        (0x0117, "never", "UID for invalid"),
        (0x0119, "never", "another SOP class under this UID"),
        (0x01F0, "never", "failure"),
        (0xA123, "never", "failure"),
        (0x4321, "never", "outside of the standard"),
        (0xFF00, "never", "outside of the standard"),
        (70000, "never", "outside of the standard"),
    ],
)
def test_what_a_status_of_a_store_means(status: int, verdict: str, words: str) -> None:
    outcome = classify(status, "what it says")
    assert (outcome.verdict, outcome.status) == (verdict, status)
    if status:
        assert f"(0x{status:04X}, what it says)" in outcome.text
    assert re.search(words, outcome.text)


@pytest.mark.parametrize(
    ("service", "status", "verdict", "words"),
    [
        (Service.STOW, 0xC122, "never", "refused it: it takes no such transfer syntax"),
        (Service.STORE, 0xC122, "never", "refused it: it cannot understand the object"),
        (Service.FIND, 0xA700, "later", "cannot answer C-FIND now: it is out of resources"),
        (Service.FIND, 0xA900, "never", "refused C-FIND: the keys of the query"),
        (Service.FIND, 0xC001, "never", "refused C-FIND: it is unable to process the query"),
        (Service.COMMIT, 0x0131, "later", "cannot answer N-ACTION now.*transaction"),
        (Service.REPORT, 0x0119, "never", "does not commit.*another SOP class under this UID"),
    ],
)
def test_a_status_of_other_services(
    service: Service, status: int, verdict: str, words: str
) -> None:
    outcome = classify(status, service=service)
    assert outcome.verdict == verdict
    assert re.match(words, outcome.text)


def test_no_row_hides_behind_others() -> None:
    def is_met(row: Status) -> bool:
        codes = (row.first, row.last, *range(row.first, row.last, 64), 0x0101, 0xA000, 0xC000)
        return any(find_status(code, service) is row for code in codes for service in row.services)

    assert [row for row in STATUSES if not is_met(row)] == []


def test_unknown_codes_follow_their_class() -> None:
    """pynetdicom has the classes of PS3.7 Annex C."""
    for code in {*range(0, 0x10000, 61), *STORAGE_SERVICE_CLASS_STATUS}:
        verdict = find_status(code, Service.STORE).verdict
        delivered = verdict in (Verdict.STORED, Verdict.WARNED)
        category = code_to_category(code)
        if category in (STATUS_SUCCESS, STATUS_WARNING):
            assert delivered, hex(code)
        elif category == STATUS_FAILURE:
            assert delivered == (code in NAMED_FAILURES_THAT_ARE_DELIVERED), hex(code)
        elif code != 0x0001:
            assert not delivered, hex(code)


def test_each_verdict_but_success_has_words() -> None:
    for row in STATUSES:
        assert row.sentence or row.verdict is Verdict.STORED
        if row.verdict is Verdict.NEVER and Service.STORE in row.services:
            assert row.remedy, row.sentence
    named = [row for row in HTTP_STATUSES if row.verdict is not Verdict.STORED]
    assert all(row.sentence and row.remedy for row in named)


@pytest.mark.parametrize(
    ("http", "verdict", "of_server"),
    [
        *((http, "stored", False) for http in (200, 201, 202, 204)),
        *((http, "never", True) for http in (301, 308, 401, 403, 404, 405, 407, 501)),
        *((http, "never", False) for http in (400, 406, 409, 413, 415, 418, 422)),
        *((http, "later", True) for http in (424, 429, 502, 503, 504, 507)),
        *((http, "later", False) for http in (100, 102, 103, 408, 423, 500, 599)),
        (999, "never", False),
    ],
)
def test_what_an_http_status_means(http: int, verdict: str, of_server: bool) -> None:
    outcome = classify_http(http)
    assert (outcome.verdict, find_http_status(http).of_server) == (verdict, of_server)
    assert (f"(HTTP {http})" in outcome.text) == (verdict != "stored")


def test_an_object_that_is_too_large_becomes_smaller_by_a_rerun_alone() -> None:
    text = classify_http(413).text
    assert re.search("limit, then: tandem retry.*max_mib, then: tandem rerun", text)
