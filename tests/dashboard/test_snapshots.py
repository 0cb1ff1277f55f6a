"""Answers that sessions share: one read for all, again once the ledger has changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from appliance.ledger.reader import LedgerReader
from dashboard import snapshots
from dashboard.snapshots import MOST, Snapshots

if TYPE_CHECKING:
    from conftest import Lab


class Source:
    """Read that is counted; it takes a moment, so that sessions meet."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> int:
        time.sleep(0.05)
        self.reads += 1
        return self.reads


@pytest.fixture
def reader(lab: Lab) -> Iterator[LedgerReader]:
    made = LedgerReader(lab.settings.ledger_url)
    yield made
    made.close()


def test_sessions_share_one_read_until_somebody_commits(lab: Lab, reader: LedgerReader) -> None:
    kept, source = Snapshots(reader), Source()
    sessions = [threading.Thread(target=kept.of, args=("queue", source)) for _ in range(5)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    with reader.reading() as tx:
        assert tx.slides() == []  # reads change nothing
    assert kept.of("queue", source) == source.reads == 1
    lab.arrive("one.svs")
    assert kept.of("queue", source) == source.reads == 2
    # Keys are answered apart, and the oldest ones are let go.
    for number in range(MOST):
        kept.of(number, lambda: 0)
    assert kept.of("queue", source) == 3


def test_progress_and_files_beside_the_ledger_are_looked_at_again(
    reader: LedgerReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, source = Snapshots(reader), Source()
    monkeypatch.setattr(snapshots, "MOVING_SECONDS", 0.0)
    assert [kept.of("still", source), kept.of("still", source)] == [1, 1]
    moving = [kept.of("moving", source, lambda _: True) for _ in range(2)]
    assert moving == [2, 3]
    monkeypatch.setattr(snapshots, "LONGEST_SECONDS", 0.0)
    assert kept.of("still", source) == 4


def test_the_version_tells_of_another_file_in_the_ledgers_place(
    lab: Lab, reader: LedgerReader
) -> None:
    assert reader.ready
    first = reader.version()
    assert reader.version() == first
    lab.ledger.close()
    file = lab.settings.ledger_file
    file.with_suffix(".copy").write_bytes(file.read_bytes())
    file.with_suffix(".copy").replace(file)
    assert reader.ready
    assert reader.version() != first
