"""Words beside a stain: those that may name another method, and those that say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.intake.identity.evidence import Outcome, Verdict
from appliance.intake.identity.identify import Identifier
from appliance.operations.identify import identify_paths
from appliance.settings.identify import Identify
from appliance.settings.settings import Settings

WORDS = {stain.code: stain.words for stain in HER2_ASSAY.stains}
OF_CONTROLS = (
    *("Diluent", "diluent", "Omitted", "secondary", "noprimary", "Buffer", "Puffer", "Nullserum"),
    *("Universal", "Reagenz", "Leer", "Negat", "Rabbit", "Destained", "Bleached", "Fluor"),
    *("Ringversuch", "Zellblock", "Validierung", "Test", "Kalibrator", "TMA"),
    *("Puffer", "Waschpuffer", "Gebleicht", "Bleichung", "Diluted", "Dilution", "diluentonly"),
    *("leer", "LEER", "null", "NULL", "Null", "Leer_Probe", "Null_Antikörper"),
    *("Leer_Mamma", "leer_Anna"),
)


def verdict(name: str) -> Verdict:
    return Identifier(WORDS, Identify()).verdict(Path(f"{name}.svs"))


@pytest.mark.parametrize("word", OF_CONTROLS)
@pytest.mark.parametrize("form", ["S26-00031_A1_HER2_{}", "S26-00031_A1_{}_HER2"])
def test_a_word_of_a_control_does_not_pass_as_a_name(form: str, word: str) -> None:
    found = verdict(form.format(word))
    assert found.outcome is Outcome.UNIDENTIFIED
    assert word.split("_")[0] in found.detail


@pytest.mark.parametrize(
    "name",
    [
        *("S26-00031_A1_p-HER2", "S26-00031_A1_TMA_HER2", "S26-00031_P1_A-1_L2_Diluent_HER2"),
        *("S26-00031_A1_HER2_XQZ", "S26-00031_A1_XQZ_HER2_XQZ", "S26-00031_HER2_XQZ_A1"),
    ],
)
def test_another_antibody_or_an_unknown_word_behind_the_stain_is_asked_about(name: str) -> None:
    assert verdict(name).outcome is Outcome.UNIDENTIFIED


@pytest.mark.parametrize("stain", ["HE", "HER2"])
@pytest.mark.parametrize(
    "word",
    [
        *("MUSTER", "MUSTER_ANNA", "MUELLER", "KIM", "Kim", "Lee", "Ng", "Wu", "Öz", "mayer"),
        *("meier", "McKay", "von_Berg", "van_Dam", "De_Leon", "Cut_2", "block", "Pat_12", "Run_5"),
        *("Box_2", "1of2", "12of20", "LK", "CNB", "DCIS", "VAB", "Met", "bl", "OP", "12Uhr"),
        *("DX200", "3DH", "XQZ"),
    ],
)
def test_a_name_or_an_unknown_word_between_block_and_stain_says_nothing(
    word: str, stain: str
) -> None:
    found = verdict(f"S26-00031_A1_{word}_{stain}")
    assert found.outcome is Outcome.IDENTIFIED
    assert (found.accession, found.block, found.stain) == ("S26-00031", "A1", stain)


@pytest.mark.parametrize("form", ["S26-00031_A1_HER2_{}", "S26-00031_A1_{}_HER2"])
@pytest.mark.parametrize(
    "word",
    [
        *("Bleicher", "Bleichert", "Bleichenbacher", "Diluzio", "Omisore", "Contreras"),
        *("Leer_Anna", "Anna_Leer", "Null_Jana"),
    ],
)
def test_a_surname_that_begins_as_a_reagent_says_nothing(form: str, word: str) -> None:
    found = verdict(form.format(word))
    assert (found.outcome, found.stain) == (Outcome.IDENTIFIED, "HER2")


@pytest.mark.parametrize(
    "name",
    [
        "Contreras_S26-00031_A1_HER2",
        "Leer_S26-00031_A1_HER2",
        "XQZ_S26-00031_A1_HER2",
        "S26-00031 A1 Müller, Änne HER2",
        "S26-00031 MUELLER A1 HER2",
        "S26-00031_A1_L2_HER2",
        "S26-00031_A1_2_Mamma_li_GT450_HER2",
        "S26-00031_A1_anti-HER2 rabbit",
        "S26-00031_A1_HER2 rabbit monoclonal",
        "S26-00031_A1_c-erbB-2",
    ],
)
def test_names_of_persons_and_organs_leave_the_stain(name: str) -> None:
    found = verdict(name)
    assert found.outcome is Outcome.IDENTIFIED
    assert (found.accession, found.block, found.stain) == ("S26-00031", "A1", "HER2")


@pytest.mark.parametrize(
    "stain",
    [
        *("HE_R2", "HE-R2", "HE R2", "HE (R2)", "HE_R_2", "H&E_R2", "H_E_R2", "HE_R1", "HE R3"),
        *("HE_R4", "HE_R2_neu"),
    ],
)
@pytest.mark.parametrize("form", ["S26-00031_A1_{}", "S26-00031_{}_A1", "S26-00031_{}"])
def test_a_count_behind_an_he_makes_no_other_stain_of_it(
    tmp_path: Path, stain: str, form: str
) -> None:
    path = tmp_path / f"{form.format(stain)}.svs"
    found = next(iter(identify_paths([path], Settings(state_dir=tmp_path))))
    assert (found["outcome"], found["stain"]) == ("unidentified", "")


@pytest.mark.parametrize(
    ("stain", "code"),
    [
        *((word, "HER2") for word in ("HER_2", "HER-2-neu", "HER2_neu", "c-erb-B-2", "HER2 IHC")),
        *((word, "HE") for word in ("H_E", "H-E-S", "HE_Rescan2", "HE_R02", "HE stain")),
    ],
)
def test_a_word_is_one_however_its_parts_are_separated(
    tmp_path: Path, stain: str, code: str
) -> None:
    path = tmp_path / f"S26-00031_A1_{stain}.svs"
    found = next(iter(identify_paths([path], Settings(state_dir=tmp_path))))
    assert (found["outcome"], found["stain"]) == ("identified", code)


@pytest.mark.parametrize(
    "behind",
    [
        *("HER2 SP3", "HER2_EP3", "HER2 EP1045Y", "29D8", "HER2 UltraView", "HER2_OptiView"),
        *("HE_SG300", "HE_VS200", "HE_NZ2", "HE_SS12345", "HE_z0", "HE_ROI1", "HE_ID12"),
        *("HE tief", "HE_20-Nov-2026", "HE_2026-11-20T101112Z"),
    ],
)
def test_a_clone_a_scanner_or_a_time_behind_the_stain_is_known(tmp_path: Path, behind: str) -> None:
    path = tmp_path / f"S26-00031_A1_{behind}.svs"
    found = next(iter(identify_paths([path], Settings(state_dir=tmp_path))))
    assert (found["outcome"], found["block"]) == ("identified", "A1")


@pytest.mark.parametrize("block", ["Z1", "SP3", "W1", "S60_A1"])
def test_a_block_that_looks_like_a_scanners_count_is_read(tmp_path: Path, block: str) -> None:
    path = tmp_path / f"S26-00031_{block}_HE.svs"
    found = next(iter(identify_paths([path], Settings(state_dir=tmp_path))))
    assert (found["outcome"], found["block"]) == ("identified", block.removeprefix("S60_"))
