"""Commands of a word on a slide: with ``--seen`` it holds for the file that a person looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.lab import Lab
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.intake.block import hold
from appliance.intake.changes import Change, Kind, apply_changes
from appliance.intake.completeness import Signature
from appliance.ledger.lifecycle import SlideState
from appliance.ledger.tables import set_reason
from appliance.operations.audited import Word
from appliance.operations.word import SlideWords, say_slide

PATH = "/scans/S26-1_A1_HE.svs"


def run(config: Path, *args: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*args, "--config", str(config)])
    return done.exit_code, done.output or str(done.exception)


def named(config: Path, table: str, key: str) -> str:
    """Return the name of the first slide as it is, or of what holds the first case."""
    return str(json.loads(run(config, "status", "--json")[1])[table][0][key])


def write(lab: Lab, size: int, kind: Kind = "changed") -> None:
    """Let the scan find that slide-1 has other bytes, or that they are whole."""
    change = Change(kind=kind, path=PATH, signature=Signature(size, size))
    assert apply_changes(lab.ledger, [change], lab.now) == []


@pytest.mark.parametrize(
    "words",
    [
        ("set", "slide-1", "--block", "B2", "--seen"),
        ("pair", "slide-1", "slide-2", "--seen-he"),
        ("pair", "slide-3", "slide-1", "--seen-ihc"),
        ("exclude", "slide-1", "--seen"),
        ("keep", "slide-1", "--seen"),
    ],
)
def test_a_word_holds_for_the_file_that_was_looked_at(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    lab = Lab(tmp_path)
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    lab.arrive("S26-1_A1_HE")
    lab.arrive("S26-1_A1_HER2")
    lab.arrive("S26-1_A2_HE")
    seen = named(config, "slides", "bytes")
    write(lab, 7)
    before = lab.slides()
    said = ("--by", "Meyer^Anna", "--why", "Seen.")
    failed, told = run(config, "identify", *words, seen, *said)
    assert failed and "its file, its name or its state changed since you opened it" in told
    assert lab.slides() == before
    arriving = named(config, "slides", "bytes")
    write(lab, 8)  # it is still being written
    assert arriving != seen and named(config, "slides", "bytes") == arriving
    write(lab, 8, "arrived")
    assert named(config, "slides", "bytes") not in (seen, arriving)
    assert run(config, "identify", *words, named(config, "slides", "bytes"), *said)[0] == 0
    lab.close()


@pytest.mark.parametrize(
    "words",
    [
        ("set", "slide-1", "--block", "B2", "--seen"),
        ("pair", "slide-1", "slide-2", "--seen-he"),
        ("exclude", "slide-1", "--seen"),
        ("keep", "slide-1", "--seen"),
    ],
)
def test_a_word_holds_for_the_name_that_was_looked_at(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """The bytes are the same; a colleague said meanwhile whose they are."""
    lab = Lab(tmp_path)
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    lab.arrive("S26-1_A1_HE")
    lab.arrive("S26-7_A1_HER2")
    seen = [named(config, "slides", "bytes")]
    say_slide(lab.settings, "slide-1", SlideWords(accession="S26-2"), Word(by="Bert", why="label"))
    seen.append(named(config, "slides", "bytes"))
    lab.work()
    before = lab.slides()
    said = ("--by", "Meyer^Anna", "--why", "Seen.")
    for name in seen:
        failed, told = run(config, "identify", *words, name, *said)
        assert failed and "its file, its name or its state changed since you opened it" in told
        assert lab.slides() == before
    assert run(config, "identify", *words, named(config, "slides", "bytes"), *said)[0] == 0
    lab.close()


def test_a_word_is_not_for_another_reason_than_that_which_was_looked_at(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    lab.arrive("S26-1_A1_HE")
    names = []
    for reason in ("no-tissue", "wrong-picture"):
        with lab.transaction() as tx:
            row = tx.slides()[0]
            if row.state != SlideState.QUARANTINED:
                tx.advance(row, SlideState.QUARANTINED, now=lab.now)
            set_reason(row, reason)
        names.append(named(config, "slides", "bytes"))
    words = ("identify", "keep", "slide-1", "--by", "Meyer^Anna", "--why", "Seen.", "--seen")
    assert run(config, *words, names[0])[0] and not run(config, *words, names[1])[0]
    lab.close()


def test_keep_accepts_what_held_the_case_that_was_looked_at(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path / "state"}"\n')
    lab.arrive("S26-1_A1_HE")
    lab.arrive("S26-1_A1_HER2")
    names = []
    for likeness in (97, 98):
        with lab.transaction() as tx:
            hold(tx, tx.cases()[0], "same-section", {"likeness": likeness}, lab.now)
        names.append(named(config, "cases", "held"))
    words = ("identify", "keep", "case-1", "--by", "Meyer^Anna", "--why", "Seen.", "--seen")
    failed, told = run(config, *words, names[0])
    assert failed and "what holds it changed" in told and lab.case().state == "held"
    assert run(config, *words, names[1])[0] == 0 and lab.case().state == "ready"
    lab.close()
