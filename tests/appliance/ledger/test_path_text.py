"""Paths in the ledger: any bytes that Linux takes for a name come back as the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.ledger.ledger import Ledger
from appliance.ledger.tables import params_of, set_reason


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"S26-1_A1_HE.svs", "S26-1_A1_HE.svs"),
        ("Müller.svs".encode(), "Müller.svs"),
        (b"M\xfcller.svs", "M\ufffdller.svs"),
        (b"M%FCller.svs", "M%FCller.svs"),
        (b"file:\xff.svs", "file:\ufffd.svs"),
        (bytes(range(0x80, 0x100)), "\ufffd" * 128),
    ],
)
@pytest.mark.parametrize("folder", [b"/scans", b"scans", b"file:/s\xe9"])
def test_a_path_comes_back_as_it_was(
    tmp_path: Path, folder: bytes, name: bytes, shown: str
) -> None:
    path = os.fsdecode(folder + b"/" + name)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(url)
    with ledger.transaction() as tx:
        row = tx.add_slide(path, 0.0)
        set_reason(row, "failed", {"message": f"cannot open {path}"})
    ledger.close()
    ledger = Ledger(url)
    with ledger.transaction() as tx:
        found = tx.slide_of_path(path)
        assert found is not None
        assert os.fsencode(found.path) == folder + b"/" + name
        assert found.file_name == shown
        assert params_of(found)["message"].endswith(shown)
        assert tx.slide_of_path(path + "x") is None
    ledger.close()
