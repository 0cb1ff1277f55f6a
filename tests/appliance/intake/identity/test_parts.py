"""Marks of parts of a specimen in names, and numbers that count slides or levels."""

from __future__ import annotations

import pytest

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.intake.identity.names import read_name
from appliance.intake.identity.vocabulary import Vocabulary

VOCABULARY = Vocabulary({stain.code: stain.words for stain in HER2_ASSAY.stains})


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((f"_{word}_2_A1", "") for word in ("Wdh", "Repeat", "Version", "Coupe", "Corte")),
        *((f"_{word}_2_A1", "") for word in ("Vetrino", "Objektträger", "OT", "Preparat")),
        *((f"_{word}_3_A1", "") for word in ("Scanner", "Ventana", "Station", "Hopper", "Ebene")),
        *((name, "") for name in ("_Muster_45_A1", "_A1_Präparat2", "_A1_Glas2", "_Glas2_A1")),
        *((name, "") for name in ("_Nummer_4_A1", "_Muster_Präparat_2_A1", "_2026-11-20_2_A1")),
        *((f"_{word}_2_A1", "2") for word in ("Pot", "Jar", "Topf", "Präparat", "Praeparat")),
        *((name, "2") for name in ("-2_A1", ".2 A1", "(2)_A1", " - 2-A1", "_Präparat2_A1")),
        *((name, "2") for name in ("_Teil2_A1", "_A1_Teil_2")),
        *((name, "2") for name in ("_Bottle 2_A1", "_Vial2_A1", "_Flasche_2_A1", "_Gefäß_2_A1")),
        *((name, "B") for name in ("_Specimen_B_A1", "_PräparatB_A1")),
    ],
)
def test_a_number_behind_a_word_is_a_part_where_the_word_is_ones(name: str, part: str) -> None:
    found = read_name(f"S26-00031{name}_HE", VOCABULARY)
    assert (found.block, found.part, found.doubts) == ("A1", part, ())
