"""The list of a case's objects, as an edition without checksums left it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.delivery.index import sound_contents
from appliance.settings.settings import Settings


@pytest.mark.parametrize("text", ["", '{"objects": [', None])
def test_an_index_that_is_gone_or_cut_is_none_where_no_checksum_tells_it(
    tmp_path: Path, text: str | None
) -> None:
    settings = Settings(state_dir=tmp_path)
    folder = settings.artifacts_dir / "objects" / "1"
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "objects.json").write_text(text)
    assert sound_contents("objects/1", settings) is None
    (folder / "objects.json").write_text('{"objects": []}')
    assert sound_contents("objects/1", settings) == {"objects": []}
