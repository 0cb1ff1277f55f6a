"""Words that people say in the dashboard while a restore runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.ledger.backups import Backup
from appliance.ledger.ledger import Ledger
from appliance.operations import backup as restoring
from appliance.operations.audited import Word
from appliance.operations.word import exclude_slide
from appliance.settings.settings import Settings


def test_words_said_while_a_restore_runs_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    ledger = Ledger(settings.ledger_url)
    with ledger.transaction() as tx:
        for name in "ab":
            tx.add_slide(f"/scans/{name}.svs", now=1.0)
    ledger.close()
    restoring.back_up(settings)
    exclude_slide(settings, "slide-1", Word(by="Meyer^Anna", why="said before"))
    take_up = restoring._take_up

    def meanwhile(copy: Path, backup: Backup) -> None:
        take_up(copy, backup)
        exclude_slide(settings, "slide-2", Word(by="Ito^Bert", why="wrong patient"))

    monkeypatch.setattr(restoring, "_take_up", meanwhile)
    lost = restoring.restore_ledger(settings).lost
    assert lost is not None
    assert [text.partition(" (")[0] for text in lost] == [
        "slide-1: a person left it out: said before, by Meyer^Anna",
        "slide-2: a person left it out: wrong patient, by Ito^Bert",
    ]
