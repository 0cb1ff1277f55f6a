"""Names of laboratories: what a person would say they are, and nothing is misread."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures.receptors import register_receptors
from hypothesis import given
from hypothesis import strategies as st

from appliance.assays.her2.assay import HER2_ASSAY
from appliance.intake.identity.evidence import Claim, Outcome, Verdict, weigh
from appliance.intake.identity.identify import Evidence, Identifier, Told
from appliance.intake.identity.names import NameReading, read_name
from appliance.intake.identity.vocabulary import Vocabulary
from appliance.settings.identify import Identify, Writing

WORDS = {stain.code: stain.words for stain in HER2_ASSAY.stains}
VOCABULARY = Vocabulary(WORDS)
PEOPLE_SAY = {
    "HES": "S26-00031 A1 HE",
    "TCGA": "",
    "copy": "S26-00031 A1 HER2",
    "rescan": "S26-00031 A1 HER2",
    "name in front": "S26-00031 A1 HE",
    "00031": "00031 A1 HE",
    "9 digits": "S26-000310000 A1 HE",
    "ABC1": "S26-00031 ABC1 HE",
    "HP-1234-26 A1 (India)": "HP-1234-26 A1 HE",
    "B-1234-2026 A1 (India)": "B-1234-2026 A1 HE",
    "BX 1234/26 A1": "BX 1234/26 A1 HE",
}
"""Identity that the short remarks of the list stand for."""
OTHER = ("other stain", "known other stain", "not IHC", "negative reagent", "control slide")
HELD = ("two stains", "two blocks", "two accessions")
NOBODY = (
    "-",
    "rack/slot",
    "not an accession",
    "no identity",
    "no stain",
    "odd",
    "26S-31 A1",
    "TCGA",
)


def verdict(name: str, settings: Identify | None = None, **known: object) -> Verdict:
    identifier = Identifier(WORDS, settings or Identify())
    return identifier.verdict(Path(f"{name}.svs"), Evidence(**({"properties": {}} | known)))


def identity(found: Verdict) -> str:
    return f"{found.accession} {found.block} {found.stain}"


def test_names_of_the_world_are_read_as_a_person_reads_them(cases: Path) -> None:
    lines = (cases / "names.tsv").read_text().splitlines()[1:]
    asked = []
    for line in lines:
        name, said = line.split("\t")
        found = verdict(name)
        if said.startswith(OTHER):
            assert found.outcome is Outcome.OTHER, name
        elif said.startswith(HELD):
            assert found.outcome is Outcome.CONFLICT, name
        elif said.startswith(NOBODY) or said.endswith("no stain"):
            assert found.outcome is Outcome.UNIDENTIFIED, name
        elif found.outcome is Outcome.IDENTIFIED:
            assert identity(found) == PEOPLE_SAY.get(said, said), name
        else:
            asked.append(name)
    assert asked == []


def test_an_assay_of_receptors_changes_the_meaning_of_its_own_names_alone(
    cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    er, pr = register_receptors(monkeypatch)
    more = WORDS | {assay.target.code: assay.target.words for assay in (er, pr)}
    identifier = Identifier(more, Identify())
    names = [line.split("\t")[0] for line in (cases / "names.tsv").read_text().splitlines()[1:]]
    told = {
        name: (verdict(name), identifier.verdict(Path(f"{name}.svs"), Evidence(properties={})))
        for name in [*names, "S26-00031_A1_PR", "S26-00031_A1_PgR-636", "S26-00031_A1_HER2 ER"]
    }
    changed = {
        name: (before.outcome, identity(after))
        for name, (before, after) in told.items()
        if (before.outcome, identity(before)) != (after.outcome, identity(after))
    }
    assert changed == {
        "S26-00031_A1_ER": (Outcome.OTHER, "S26-00031 A1 ER"),
        "S26-00031_A1_PR": (Outcome.OTHER, "S26-00031 A1 PR"),
        "S26-00031_A1_PgR-636": (Outcome.OTHER, "S26-00031 A1 PR"),
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("S24-01234_B12_her-2_001", "S24-01234 B12 HER2"),
        ("T26-7_A1_4B5-2", "T26-7 A1 HER2"),
        ("HP19.754.A5 H&E", "HP19.754 A5 HE"),
        ("HE_S26-00031_A1", "S26-00031 A1 HE"),
        ("S26-00031-A1-HE", "S26-00031 A1 HE"),
        ("S26-00031_A1-2_HER2", "S26-00031 A1 HER2"),
        ("S26-00031_A1.2_HER2", "S26-00031 A1 HER2"),
        ("S26-00031_A1_HER2_GT450_40x", "S26-00031 A1 HER2"),
        ("S26-00031_1_HE", "S26-00031 1 HE"),
        ("2026-11-20_S26-00031_A1_HER2", "S26-00031 A1 HER2"),
        ("S26-00031_A1_HER2_Mu\u0308ller", "S26-00031 A1 HER2"),
        ("S26-00031_A1_HÄMATOXYLIN-EOSIN", "S26-00031 A1 HE"),
        ("S26-00031_A1_HER2 (4B5)", "S26-00031 A1 HER2"),
        ("S26-00031_A1_Hematoxylin and Eosin", "S26-00031 A1 HE"),
        ("S26-00031_A1_haematoxylin_and_eosin_stain", "S26-00031 A1 HE"),
        ("S26-00031_A1_Hämatoxylin und Eosin", "S26-00031 A1 HE"),
        ("S26-00031_A1_H und E", "S26-00031 A1 HE"),
        ("S26-00031_A1_HämEo", "S26-00031 A1 HE"),
        ("S26-00031_A1_Hercep", "S26-00031 A1 HER2"),
        ("S26-00031_A1_hes", "S26-00031 A1 HE"),
        ("T2026-12345_A1_HE", "T2026-12345 A1 HE"),
        ("H2026.012345_1_HE", "H2026.012345 1 HE"),
        ("12345-26_A1_HE", "12345-26 A1 HE"),
        ("2026-12345_A1_HE", "2026-12345 A1 HE"),
        ("S26-12345;A;1;HE", "S26-12345 A1 HE"),
        ("S26-12345_A_1_HE", "S26-12345 A1 HE"),
        ("S26-00031_A_1_2_HE", "S26-00031 A1 HE"),
        ("S26-00031_A_HE-12", "S26-00031 A HE"),
        ("S26-00031_1_HE_2", "S26-00031 1 HE"),
        ("E26-012345 II-1 HE", "E26-012345 II1 HE"),
        ("E26-012345_1.1_HE", "E26-012345 1-1 HE"),
        ("S26-00031_A1HE_2", "S26-00031 A1 HE"),
        ("S26-00031_A1HER2", "S26-00031 A1 HER2"),
        ("S26–00031_A1_HE", "S26-00031 A1 HE"),
        ("Ｓ２６－０００３１_A1_HE", "S26-00031 A1 HE"),
        ("S26-00031_A1_HER2染色", "S26-00031 A1 HER2"),
        ("山田_S26-00031_A1_HER2", "S26-00031 A1 HER2"),
        ("S26-60_A1_HE", "S26-60 A1 HE"),
        ("S26-00031_A1_HER2_Fisher", "S26-00031 A1 HER2"),
        ("H26-12345 A1 HER2 (4B5) rpt", "H26-12345 A1 HER2"),
        ("MRN12345678_S26-12345_A1_HE", "S26-12345 A1 HE"),
        ("E26-012345_A1_HER2_Wdh", "E26-012345 A1 HER2"),
        ("TCGA-A2-A0T2_A1_HE", "TCGA-A2-A0T2 A1 HE"),
    ],
)
def test_more_ways_of_writing(name: str, said: str) -> None:
    assert identity(verdict(name)) == said
    assert verdict(name).outcome is Outcome.IDENTIFIED


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("20261120_A1_HE", Outcome.UNIDENTIFIED),
        ("20112026_A1_HE", Outcome.UNIDENTIFIED),
        ("261120_A1_HE", Outcome.UNIDENTIFIED),
        ("3.11.2026 A1 HE", Outcome.UNIDENTIFIED),
        ("CD20-1_A1_HE", Outcome.CONFLICT),
        ("IMG-0001_A1_HE", Outcome.UNIDENTIFIED),
        ("DSC01234_A1_HE", Outcome.UNIDENTIFIED),
        ("scan 0001 HE", Outcome.UNIDENTIFIED),
        ("S26-00031_L2_HE", Outcome.UNIDENTIFIED),
        ("S26-00031_HE", Outcome.UNIDENTIFIED),
        ("S26-00031_A1", Outcome.UNIDENTIFIED),
        ("S26-00031_A1_THERAPY", Outcome.UNIDENTIFIED),
        ("S26-00031_A1_HER2_XQZ", Outcome.UNIDENTIFIED),
        ("S26-00031_A1_HER2_NK", Outcome.OTHER),
        ("S26-00031_A1_HER2-Kontrolle", Outcome.OTHER),
        ("S26-00031_A1_HER2_CISH", Outcome.OTHER),
        ("S26-00031_A1_PAS", Outcome.OTHER),
        ("S26-00031_A1_CD3", Outcome.OTHER),
        ("S26-00031_A1_PgR", Outcome.OTHER),
        ("E26-012345_A1_HER2 Sonde", Outcome.OTHER),
        ("H26-12345 A1 HER2 Dual Probe", Outcome.OTHER),
        ("H26-12345_A1_HER2 témoin", Outcome.OTHER),
        ("S26-00031_A1_HER2_FISH2", Outcome.OTHER),
        ("S26-00031_A1_HER2_IQFISH", Outcome.OTHER),
        ("S26-12345_A1_HER2NEG", Outcome.OTHER),
        ("S26-00031_A1_HER2_陰性", Outcome.OTHER),
        ("コントロール_S26-00031_A1_HER2", Outcome.OTHER),
        ("S26-00031_A1_HER2-контроль", Outcome.OTHER),
        ("E26-012345_A1_ER_SP1", Outcome.OTHER),
        ("E26-012345_A1_PDL1_SP142", Outcome.OTHER),
        ("E26-012345_A1_p120", Outcome.OTHER),
        ("1234.26_A1_HE", Outcome.UNIDENTIFIED),
        ("261120-01_A1_HE", Outcome.UNIDENTIFIED),
        ("112026_A1_HE", Outcome.UNIDENTIFIED),
        ("1120-26_A1_HE", Outcome.UNIDENTIFIED),
        ("P1000-12_A1_HE", Outcome.UNIDENTIFIED),
        ("TMA26-0001_A1_HER2", Outcome.UNIDENTIFIED),
        ("KW47-26_A1_HE", Outcome.UNIDENTIFIED),
        ("S26-00031_1_2_HE", Outcome.UNIDENTIFIED),
        ("E26-012345_A1_HER2-K", Outcome.UNIDENTIFIED),
        ("S26-00031_A1_fluorescence_HER2", Outcome.UNIDENTIFIED),
        ("S26-00031_A1_HER2_multiplex", Outcome.UNIDENTIFIED),
        ("S26-00031_A1_HER2_Dishventana", Outcome.UNIDENTIFIED),
        ("S26-00031_A1_HER2_山田", Outcome.UNIDENTIFIED),
        ("S26-00031_B2_HE_A1", Outcome.CONFLICT),
    ],
)
def test_what_is_no_identity_of_an_assay(name: str, outcome: Outcome) -> None:
    assert verdict(name).outcome is outcome


@pytest.mark.parametrize("barcode", ["AB12", "S26A", "1a2B", "abcd"])
def test_a_short_barcode_stays_as_it_is(barcode: str) -> None:
    found = verdict("S26-00031_A1_HE", properties={"aperio.Barcode": barcode})
    assert barcode in [claim.text for claim in found.claims]
    assert identity(found) == "S26-00031 A1 HE"


def test_sources_that_disagree_hold_the_slide_with_both_shown() -> None:
    barcode = {"aperio.Barcode": "S26-00031 A1"}
    found = verdict("S26-00099_B2_HER2", properties=barcode)
    assert found.outcome is Outcome.CONFLICT
    assert "S26-00031" in found.detail
    assert "S26-00099" in found.detail
    header = {"dicom.AccessionNumber": "S26-1", "dicom.ContainerIdentifier": "S26-2_A1_HE"}
    assert verdict("1.2.3", properties=header).outcome is Outcome.CONFLICT
    same = {"dicom.AccessionNumber": "s2600031", "aperio.Barcode": "S26-00031;A1;HER2"}
    found = verdict("S26-00031_A1_HER2", properties=same)
    assert found.outcome is Outcome.IDENTIFIED


def test_rack_and_slot_of_a_scanner_contradict_no_barcode() -> None:
    barcode = {"aperio.Barcode": "S26-00031;A1;HER2"}
    for name in ("R03-S07", "r03_s07", "R03-S07_2026-11-20"):
        found = verdict(name, properties=barcode)
        assert (found.outcome, identity(found)) == (Outcome.IDENTIFIED, "S26-00031 A1 HER2")
    assert verdict("R03-S07").block == ""


def test_a_persons_word_ends_the_question() -> None:
    barcode = {"aperio.Barcode": "S26-00031 A1"}
    told = Told(accession="S26-00099", block="B2", stain="HER-2/neu")
    for source in ("said", "sidecar"):
        found = verdict("S26-00098_B1_HE", properties=barcode, **{source: told})
        assert (found.outcome, identity(found)) == (Outcome.IDENTIFIED, "S26-00099 B2 HER2")
    found = verdict("x", said=told, sidecar=Told(accession="S26-1", block="A1", stain="HE"))
    assert identity(found) == "S26-00099 B2 HER2"
    found = verdict("S26-00031_A1_HER2_HE", said=Told(stain="HE"))
    assert identity(found) == "S26-00031 A1 HE"


def test_a_folder_fills_gaps_and_contradicts_an_accession_only() -> None:
    identifier = Identifier(WORDS, Identify())
    assert identity(identifier.verdict(Path("S26-00031/A1_HE.svs"))) == "S26-00031 A1 HE"
    mixed = identifier.verdict(Path("S26-00031_B2_HER2/S26-00031_A1_HE.svs"))
    assert identity(mixed) == "S26-00031 A1 HE"
    assert mixed.outcome is Outcome.IDENTIFIED
    other = identifier.verdict(Path("S26-00032/S26-00031_A1_HE.svs"))
    assert other.outcome is Outcome.CONFLICT


def test_a_stain_that_a_person_states_and_nobody_knows_is_asked_about() -> None:
    told = Told(stain="Weigert")
    found = verdict("S26-00031_A1_HER2", sidecar=told)
    assert (found.outcome, found.stain) != (Outcome.IDENTIFIED, "HER2")
    found = verdict("S26-00031_A1_HER2", sidecar=told, said=Told(stain="HE"))
    assert (found.outcome, identity(found)) == (Outcome.IDENTIFIED, "S26-00031 A1 HE")


@pytest.mark.parametrize(
    "filler", ["UNKNOWN", "N/A", "0", "0000", "-", "*", "S26*", "20261120", "20.11.2026", "Slide1"]
)
def test_a_header_without_a_worklist_states_no_accession(filler: str) -> None:
    header = {"dicom.AccessionNumber": filler}
    for name in ("Müller_A1_HE", "Meier_A1_HER2", "A1_HE"):
        found = verdict(name, properties=header)
        assert (found.outcome, found.accession) == (Outcome.UNIDENTIFIED, "")
        assert filler in [claim.text for claim in found.claims]
    found = verdict("S26-00031_A1_HE", properties=header)
    assert (found.outcome, identity(found)) == (Outcome.IDENTIFIED, "S26-00031 A1 HE")


@pytest.mark.parametrize("stated", ["123", "2026-1120", "S26-7", "1", "U20261120"])
def test_a_header_that_states_an_accession_is_believed(stated: str) -> None:
    found = verdict("A1_HE", properties={"dicom.AccessionNumber": stated})
    assert (found.outcome, identity(found)) == (Outcome.IDENTIFIED, f"{stated} A1 HE")


def test_one_source_counts_once_however_many_fields_hold_it() -> None:
    header = {
        "dicom.AccessionNumber": "S26-00031",
        "dicom.BarcodeValue": "S26-00031 A1",
        "dicom.ContainerIdentifier": "S26-00031 A1",
    }
    found = verdict("S26-00099_A1_HER2", properties=header, labels=("S26-00031 A1",))
    assert found.outcome is Outcome.CONFLICT


def test_block_1_1_is_not_block_11() -> None:
    barcode = {"aperio.Barcode": "S26-00031_11"}
    assert verdict("S26-00031_1-1_HE", properties=barcode).outcome is Outcome.CONFLICT


def test_words_in_other_alphabets_are_words() -> None:
    own = Identify(other_stains=("銀染色",))
    assert verdict("S26-00031_A1_銀染色", own).outcome is Outcome.OTHER
    assert verdict("山田_S26-00031_A1_HE", own).outcome is Outcome.IDENTIFIED
    one = Claim(source="header", text="", accession="山31", block="A1", stain="HE", kind="stain")
    other = replace(one, source="barcode", accession="川31")
    assert weigh((one, other), Identify()).outcome is Outcome.CONFLICT


def test_the_site_says_what_makes_two_numbers_one() -> None:
    loose = Identify(writing=Writing(separators="drop", leading_zeros="drop"))
    assert verdict("s26-00031_A1_HE", loose).accession == "S2631"
    assert verdict("S26-31_A1_HE", loose).accession == "S2631"
    barcode = {"aperio.Barcode": "S26-31;A1;HE"}
    strict = verdict("S26-00031_A1_HE", properties=barcode)
    assert strict.outcome is Outcome.CONFLICT
    assert verdict("S26-00031_A1_HE", loose, properties=barcode).outcome is Outcome.IDENTIFIED


def test_a_sites_own_form_comes_first() -> None:
    own = Identify(patterns=(r"^(?P<accession>PX\d+)x(?P<block>\d)",), other_stains=("ABCD",))
    assert identity(verdict("PX4711x3 HE", own)) == "PX4711 3 HE"
    assert verdict("S26-00031_A1_ABCD", own).outcome is Outcome.OTHER
    with pytest.raises(ValueError, match="accession"):
        Identify(patterns=(r"(?P<block>\d)",))
    with pytest.raises(ValueError, match="regular expression"):
        Identify(patterns=(r"(?P<accession>[",))


def test_accessions_that_no_object_can_carry_are_refused() -> None:
    for accession in ("A\nB", "A\\B", "S26-0123456789012345", "S26-*", "S?", "UNKNOWN", "0"):
        told = Told(accession=accession, block="A1", stain="HE")
        found = verdict("x", sidecar=told)
        assert found.outcome is Outcome.UNIDENTIFIED
        assert found.detail


@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error(text: str) -> None:
    found = read_name(text, VOCABULARY)
    assert found.accession == "" or len(found.accession) <= len(text) + 1


@given(
    st.text(alphabet="S26-0031_A1HER2;. /+&()ptK", max_size=40),
    st.text(alphabet="S26-0031_A1HER2;. /+&()ptK=", max_size=40),
)
def test_any_name_and_barcode_have_a_verdict(name: str, barcode: str) -> None:
    found = verdict(name.replace("/", "_"), properties={"aperio.Barcode": barcode})
    assert found.outcome in Outcome
    if found.outcome is Outcome.IDENTIFIED:
        assert found.accession and found.block and found.stain in WORDS


@given(st.integers(0, 99), st.integers(1, 99999), st.sampled_from("ABCD"), st.integers(1, 30))
def test_what_is_written_in_the_usual_way_is_read_back(
    year: int, number: int, letter: str, block: int
) -> None:
    accession = f"S{year:02d}-{number:05d}"
    for form in (
        "{a}_{b}_{s}",
        "{a} {b} {s}",
        "{a};{b};2_{s} - 2026-11-20 10.11.12",
        "{a}.{b}.{s}",
    ):
        for stain in ("HE", "HER2"):
            name = form.format(a=accession, b=f"{letter}{block}", s=stain)
            assert identity(verdict(name)) == f"{accession} {letter}{block} {stain}"


def test_a_header_that_names_two_stains_is_a_conflict() -> None:
    header = {"a.Stain": "H&E", "b.StainName": "HER2", "dicom.AccessionNumber": "S26-00031"}
    found = verdict("S26-00031_A1_HER2", properties=header)
    assert found.outcome is Outcome.CONFLICT
    assert "two stains" in found.detail


def test_a_new_accession_leaves_the_stain_of_the_name() -> None:
    found = verdict("S26-00031_A1_HER2", said=Told(accession="S26-77777", block="B1"))
    assert (found.outcome, identity(found)) == (Outcome.IDENTIFIED, "S26-77777 B1 HER2")


@pytest.mark.parametrize(
    "name",
    [
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "78e51061-ab12-4cd2-8bd9-48fd8712aa31",  # 78e51061 and S26 have one form
        "0a1b2c3d-48fd-8712-BD91-0123456789ab",
        "{5C6D7E8F-CD12-4D40-A1B2-C3D4E5F60718}",  # CD12 is an antibody
        "SM000001",
        "IM000001",
        "WSM000001",
        "dcm00001",
    ],
)
def test_a_name_of_the_devices_own_contradicts_nothing(name: str) -> None:
    alone = verdict(f"/scans/2026/{name}")
    assert (alone.outcome, alone.reason) == (Outcome.UNIDENTIFIED, "no-accession")
    assert identity(verdict(f"/scans/S26-00031_A1_HE/{name}")) == "S26-00031 A1 HE"
    header = {"dicom.AccessionNumber": "S26-00031", "dicom.ContainerIdentifier": "S26-00031 A1 HE"}
    found = verdict(name, properties=header)
    assert (found.outcome, identity(found)) == (Outcome.IDENTIFIED, "S26-00031 A1 HE")
    found = verdict(f"S26-00031_A1_HE_{name}")
    assert identity(found) == "S26-00031 A1 HE"


def test_letters_of_a_file_set_may_be_a_laboratorys() -> None:
    assert identity(verdict("SM26-00031_A1_HE")) == "SM26-00031 A1 HE"
    assert identity(verdict("SM0000312_A1_HE")) == "SM0000312 A1 HE"
    assert verdict("IM2600031").accession == "IM2600031"
    own = Identify(patterns=(r"(?P<accession>[0-9a-f]{8})-",))
    name = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    assert verdict(name, own).accession == "3F2504E0"


def test_uuids_are_read_as_nothing() -> None:
    for number in range(2000):
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))
        assert read_name(name, VOCABULARY) == NameReading(), name


@pytest.mark.parametrize(
    "stain", ["Hematoxylin and Eosin", "Haematoxylin and eosin stain", "HämEo"]
)
def test_plain_words_of_a_header_name_the_stain(stain: str) -> None:
    header = {
        "dicom.AccessionNumber": "S26-00031",
        "dicom.ContainerIdentifier": "S26-00031 A1",
        "dicom.StainName": stain,
    }
    assert identity(verdict("1.2.3", properties=header)) == "S26-00031 A1 HE"
