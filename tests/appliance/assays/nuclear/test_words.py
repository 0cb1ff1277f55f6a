"""Words of ER and PR that a site replaced: their slides are asked about, and do not disappear."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.receptors import register_receptors

from appliance.intake.identity.vocabulary import folded
from appliance.intake.identity.words import OF_STAINS, OTHER_STAINS
from appliance.operations.identify import identify_paths
from appliance.settings.settings import Settings

SITE = Settings(identify={"stains": {"ER": ["OER"]}})


def outcome(name: str, settings: Settings) -> tuple[str, str]:
    (found,) = identify_paths([Path(f"/scans/S26-00001_A1_{name}.svs")], settings)
    return found["outcome"], found["stain"]


@pytest.mark.parametrize("name", ["ESTROGEN", "ER-SP1", "ERA"])
def test_a_replaced_word_of_an_installed_assay_is_asked_about(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert outcome(name, Settings())[0] == "other"  # no assay has the stain
    register_receptors(monkeypatch)
    assert outcome(name, Settings()) == ("identified", "ER")
    assert outcome("OER", SITE) == outcome("ER", SITE) == ("identified", "ER")
    assert outcome(name, SITE)[0] not in ("identified", "other")
    assert outcome("PGR", SITE) == ("identified", "PR")
    own = Settings(identify={"stains": {"ER": ["OER"]}, "other_stains": [name]})
    assert outcome(name, own)[0] == "other"  # the site says so


def test_words_that_are_of_no_assay_where_none_has_them_are_those_of_the_assays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {word for words in OF_STAINS.values() for word in words} <= {*OTHER_STAINS}
    for assay in register_receptors(monkeypatch):
        known = {folded(word) for word in assay.target.words}
        assert {folded(word) for word in OF_STAINS[assay.target.code]} <= known
