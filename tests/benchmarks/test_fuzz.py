"""A short fuzz of every reader of outside bytes; the long one is ``benchmarks/fuzz.py``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fuzz import all_targets, fuzz, writes_outside
from benchmarks.fuzz_target import Target
from dicom.errors import PacsRejectedError

BROKE = {
    "WADO-RS": (1, 27),  # a length of the file's meta information that fits no value
    "C-FIND worklist": (1, 225),  # an item that ends in the middle of a tag
}
"""Readers that a mutated input broke once: its seed and number."""

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def targets(scratch: Path) -> Iterator[Mapping[str, Target]]:
    logging.disable()
    with ExitStack() as stack:
        yield all_targets(scratch, stack)
    logging.disable(logging.NOTSET)


def test_nothing_breaks_a_reader_or_is_written_elsewhere(
    targets: Mapping[str, Target], scratch: Path
) -> None:
    with writes_outside(scratch) as outside:
        for name, target in targets.items():
            found = fuzz(name, target, each=25, seed=2)
            assert found.broken == []
            assert found.read + sum(found.refused.values()) == 25
    assert outside == []


@pytest.mark.parametrize("name", BROKE)
def test_what_broke_a_reader_once(targets: Mapping[str, Target], name: str) -> None:
    seed, number = BROKE[name]
    assert fuzz(name, targets[name], each=1, seed=seed, first=number).broken == []


def test_the_fuzz_can_find(targets: Mapping[str, Target], scratch: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"

    def careless(data: bytes) -> None:
        elsewhere.write_bytes(data)
        raise ZeroDivisionError

    target = replace(targets["QIDO-RS"], call=careless, documented=(PacsRejectedError,))
    with writes_outside(scratch) as outside:
        assert len(fuzz("careless", target, each=3, seed=1).broken) == 3
    assert f"open {elsewhere}" in outside
