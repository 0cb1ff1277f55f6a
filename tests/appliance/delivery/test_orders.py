"""Orders of several sources: joined where they agree, told where they do not, and kept."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from fixtures.orthanc import free_port

from appliance.artifacts import ArtifactKey, ArtifactStore
from appliance.delivery.order_stains import asked_stains
from appliance.delivery.orders import (
    ask_orders,
    kept_order,
    order_of,
    ordered_specimen,
    told_by,
)
from appliance.delivery.requests import answered_request
from appliance.errors import WorklistUnavailableError
from appliance.intake.patients import Patient, combined
from appliance.line.ordered import Ordered, ordered_for
from appliance.operations.doctor import Examined, examine
from appliance.operations.identify import identify_paths
from appliance.settings.identify import Identify, Writing
from appliance.settings.intake import Patients
from appliance.settings.orders import Orders
from appliance.settings.settings import Settings
from appliance.settings.tls import Worklist
from dicom.errors import ObjectError
from dicom.order import Order, block_in, fitting_name, one_patient
from dicom.request import NO_REQUEST, OrderedRequest, one_request
from dicom.study import StudyFacts

WORDS = {"HE": ("HE", "H&E"), "HER2": ("HER2", "HER-2")}
HL7 = (
    "MSH|^~\\&|LIS|LAB|TANDEM|PATH|20261120||ORM^O01|42|P|2.5.1\r"
    "PID|1||4711^^^KLINIK^MR||Mueller^Jana||19610203|F\rORC|NW|P-1\rOBR|1|P-1|S26-1|HE^H&E\r"
)


class Laboratory:
    """Files of orders; each change is a minute old."""

    def __init__(self, folder: Path) -> None:
        self.csv, self.hl7 = folder / "orders.csv", folder / "hl7"
        self.hl7.mkdir()
        self.age_s = 600
        self.table("S26-1;4711;Müller^Jana;KLINIK;A1;HER2 IHC;S26-1-A1-2")
        self.message(HL7)
        self.settings = Settings(
            state_dir=folder / "state", orders=Orders(csv=self.csv, hl7=self.hl7)
        )

    def table(self, *rows: str) -> None:
        head = "Accession;Patient ID;Name;Issuer;Block;Stain;Container"
        self.write(self.csv, "\n".join((head, *rows)) + "\n")

    def message(self, text: str) -> None:
        self.write(self.hl7 / "one.hl7", text)

    def write(self, path: Path, text: str) -> None:
        path.write_text(text)
        self.age_s -= 10
        os.utime(path, (time.time() - self.age_s, time.time() - self.age_s))


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)


def test_sources_that_agree_are_joined_and_kept(lab: Laboratory) -> None:
    order = ask_orders("S26-1", lab.settings).order
    assert order is not None
    assert (order.source, order.patient_name, order.issuer) == ("hl7", "Mueller^Jana", "KLINIK")
    assert order.asked == ("H&E", "HER2 IHC")
    assert order.patient_birth_date == date(1961, 2, 3)
    study, note = order_of("S26-1", lab.settings)
    assert study is not None and note == ""
    assert (study.uid, study.patient_id) == (order.uid, "4711")
    assert order.uid.startswith("2.25.")
    # The laboratory's system drops an order when it is done.
    lab.table()
    (lab.hl7 / "one.hl7").unlink()
    assert ask_orders("S26-1", lab.settings).order == order
    assert order_of("S26-1", lab.settings) == (study, "")


@pytest.mark.parametrize(
    ("rule", "accession", "patients"),
    [
        (Writing(), "S26-00031", ["4711"]),
        (Writing(), "S26-31", []),
        (Writing(leading_zeros="drop"), "S26-31", ["4711"]),
        (Writing(separators="drop"), "S2600031", ["4711"]),
        (Writing(separators="drop", leading_zeros="drop"), "S2631", ["4711"]),
    ],
)
def test_the_sites_rule_of_writing_holds_for_orders_too(
    rule: Writing, accession: str, patients: list[str], lab: Laboratory
) -> None:
    lab.table("S26-00031;4711;Müller^Jana;KLINIK;A1;HER2 IHC;S26-00031-A1-2")
    lab.message(HL7.replace("S26-1|", "S26-00031|"))
    settings = lab.settings.model_copy(update={"identify": Identify(writing=rule)})
    (facts,) = identify_paths([Path("S26-00031_A1_HE.svs")], settings)
    assert (facts["accession"] == accession) == bool(patients)
    order = ask_orders(accession, settings).order
    assert ([] if order is None else [order.patient_id]) == patients
    assert order is None or (order.issuer, order.asked) == ("KLINIK", ("H&E", "HER2 IHC"))


def test_two_orders_that_the_rule_makes_one_are_a_conflict(lab: Laboratory) -> None:
    lab.table("S26-001;4711;Müller^Jana;KLINIK;A1;;", "S26-1;4712;Maier^Eva;KLINIK;A1;;")
    (lab.hl7 / "one.hl7").unlink()
    rule = Identify(writing=Writing(leading_zeros="drop"))
    answer = ask_orders("S26-1", lab.settings.model_copy(update={"identify": rule}))
    assert answer.order is None and len(answer.conflict) == 2


def test_sources_that_name_different_patients_give_no_patient(lab: Laboratory) -> None:
    lab.table("S26-1;815;Huber^Anna;KLINIK;A1;HER2;")
    answer = ask_orders("S26-1", lab.settings)
    assert answer.order is None
    assert {order.patient_id for order in answer.conflict} == {"4711", "815"}
    study, note = order_of("S26-1", lab.settings)
    assert study is None and "orders of several patients" in note
    ordered = ordered_for("S26-1", lab.settings, WORDS)
    patient = combined(ordered.patients)
    assert (patient.patient_id, patient.source) == ("4711", "hl7")
    assert [(each.patient_id, each.source) for each in patient.also] == [("815", "csv")]
    assert "several patients" in ordered.note
    # Nothing of it is kept: the laboratory corrects it.
    lab.table("S26-1;4711;;;A1;HER2;")
    assert ask_orders("S26-1", lab.settings).order is not None


def two_orders(lab: Laboratory, first: str, second: str) -> None:
    """Two messages of S26-1: the segments PID, without their beginning."""
    lab.table()
    texts = []
    for number, (pid, stain) in enumerate(((first, "HE^H&E"), (second, "HER2^HER2"))):
        head, _, rest = HL7.partition("PID|1||4711^^^KLINIK^MR||Mueller^Jana||19610203|F")
        order = rest.replace("P-1", f"P-{number}").replace("HE^H&E", stain)
        texts.append(f"{head.replace('20261120', f'2026112{number}')}PID|1||{pid}{order}")
    lab.message("".join(texts))


@pytest.mark.parametrize(
    ("first", "second", "known"),
    [
        ("4711", "0815^^^C^MR~4711^^^H^MR", ("4711", "H", ("0815^^^C",))),
        ("0815^^^C^MR~4711^^^H^MR", "4711", ("0815", "C", ("4711", "4711^^^H"))),
        ("4711", "0815^^^C^MR~4711^^^H^MR~4711^^^P^PI", ("4711", "", None)),
        ("4711", "4711^^^H^MR", ("4711", "H", ())),
        ("4711^^^H^MR~K-7^^^K", "4711^^^H^MR~K-8", ("4711", "H", ("K-7^^^K", "K-8"))),
        ("UNKNOWN", "4711^^^H^MR", ("4711", "H", ())),
    ],
)
def test_an_issuer_goes_with_its_own_id_and_no_id_is_lost(
    first: str, second: str, known: tuple[str, str, tuple[str, ...] | None], lab: Laboratory
) -> None:
    two_orders(lab, f"{first}||Mueller^Jana", f"{second}||Mueller^Jana")
    ask_orders("S26-1", lab.settings)
    study, note = order_of("S26-1", lab.settings)
    assert study is not None and note == ""
    assert (study.patient_id, study.issuer) == known[:2]
    assert known[2] is None or study.other_ids == known[2]
    # A header with any of the numbers is of this patient.
    for number in {text.partition("^")[0] for text in f"{first}~{second}".split("~")}:
        header = Patient(patient_id=number, source="header")
        (ordered,) = ordered_for("S26-1", lab.settings, WORDS).patients
        assert combined([header, ordered]).also == ()


def test_a_number_of_two_issuers_is_that_of_two_patients(lab: Laboratory) -> None:
    lab.table("S26-1;4711;;KLINIK;A1;HER2;")
    pid = "815^^^PRAXIS^MR~4711^^^PRAXIS^PI||Huber^Eva||19500101|F"
    lab.message(HL7.replace("4711^^^KLINIK^MR||Mueller^Jana||19610203|F", pid))
    assert order_of("S26-1", lab.settings)[0] is None
    ordered = ordered_for("S26-1", lab.settings, WORDS)
    assert [each.patient_id for each in combined(ordered.patients).also] == ["4711"]


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("4711||Meyer^Anna||19610203|F", "0815||Huber^Anna||19610204|F", "Meyer^Anna"),
        ("4711||Unbekannt^Unbekannt", "4711||Meyer^Anna", "Meyer^Anna"),
        ("4711||Meyer^Unknown", "4711||Meyer^Anna", "Meyer^Unknown"),
        ("4711||山田^太郎", "4711||Yamada^Tarou^^^^^L~山田^太郎^^^^^L^I", "山田^太郎"),
    ],
)
def test_orders_are_compared_with_each_other_as_slides_are(
    first: str, second: str, name: str, lab: Laboratory
) -> None:
    """Objects name the patient where two slides with these facts would not differ."""
    two_orders(lab, first, second)
    merged = Patients(merged=(("4711", "0815"),))
    settings = lab.settings.model_copy(update={"patients": merged})
    study, note = order_of("S26-1", settings)
    assert study is not None and note == ""
    assert (study.patient_id, study.patient_name) == ("4711", name)
    first_uid = study.uid
    # Where the sources tell them one after the other, the blocks stay in one study.
    two_orders(lab, second, second)
    answer = ask_orders("S26-1", settings)
    assert answer.order is not None and (answer.order.uid, answer.note) == (first_uid, "")


def test_a_corrected_order_replaces_the_kept_one_and_is_told(lab: Laboratory) -> None:
    first = ask_orders("S26-1", lab.settings).order
    lab.table()
    lab.message(HL7.replace("4711", "815").replace("Mueller^Jana", "Huber^Anna"))
    answer = ask_orders("S26-1", lab.settings)
    assert first is not None and answer.order is not None
    assert (answer.order.patient_id, answer.order.uid != first.uid) == ("815", True)
    assert "another patient than before" in answer.note
    study, _ = order_of("S26-1", lab.settings)
    assert study is not None and study.patient_id == "815"


def test_later_orders_of_the_patient_add_stains_and_stay_in_the_study(lab: Laboratory) -> None:
    lab.table()
    first = ask_orders("S26-1", lab.settings).order
    lab.table("S26-1;4711;;;A1;HER2;")
    later = ask_orders("S26-1", lab.settings).order
    assert first is not None and later is not None
    assert (first.asked, later.asked) == (("H&E",), ("H&E", "HER2"))
    assert later.uid == first.uid


def test_what_the_row_of_a_slide_holds(lab: Laboratory) -> None:
    (patient,) = ordered_for("s26-1", lab.settings, WORDS).patients
    told = json.loads(patient.as_json())
    assert told == {
        "patient_id": "4711",
        "issuer": "KLINIK",
        "name": "Mueller^Jana",
        "birth_date": "19610203",
        "sex": "F",
        "study_uid": told["study_uid"],
        "stains": ["HE", "HER2"],
        "source": "hl7",
    }
    assert ordered_for("S26-2", lab.settings, WORDS) == Ordered()
    nothing = Settings(state_dir=lab.settings.state_dir)
    assert ordered_for("S26-1", nothing, WORDS) == Ordered()


def test_the_specimen_is_that_of_the_block_and_the_container_that_of_the_stain(
    lab: Laboratory,
) -> None:
    lab.message(HL7 + "SPM|1|S26-1;A1||TISS\r")
    ask_orders("S26-1", lab.settings)
    her2 = ordered_specimen("S26-1", "A1", "HER2", lab.settings)
    he = ordered_specimen("S26-1", "A1", "HE", lab.settings)
    assert her2 is not None and he is not None
    assert (her2.specimen_id, her2.container_id) == ("S26-1;A1", "S26-1-A1-2")
    assert (he.specimen_id, he.container_id) == ("S26-1;A1", "")
    assert ordered_specimen("S26-1", "B1", "HER2", lab.settings) is None
    assert ordered_specimen("S26-2", "A1", "HER2", lab.settings) is None


def test_a_result_answers_the_order_of_its_block_and_stain(lab: Laboratory) -> None:
    head = HL7.partition("ORC")[0]
    her2 = "ORC|NW|P-2^EHR|F-2\rOBR|2|||HER2^HER2 IHC"
    lab.message(
        f"{head}ORC|NW|P-1\rOBR|1|P-1|S26-1|HE^H&E\r"
        f"{her2}{'|' * 14}S26-1|RP-2\rSPM|1|S26-1;A1||TISS\r"
        f"ORC|NW|P-3\rOBR|3|||FISH^HER2 FISH{'|' * 14}S26-1\r"
    )
    lab.table()
    ask_orders("S26-1", lab.settings)
    request, note = answered_request("S26-1", "A1", "HER2", lab.settings)
    assert (request.placer, request.placer_issuer, request.filler) == ("P-2", "EHR", "F-2")
    assert (request.procedure_id, request.procedure, note) == ("RP-2", "HER2 IHC", "")
    # Neither another block's order, nor one for another stain or for in situ hybridization.
    for block, stain in (("B1", "HER2"), ("A1", "ER")):
        request, note = answered_request("S26-1", block, stain, lab.settings)
        assert (request, note) == (NO_REQUEST, "")
    assert answered_request("S26-9", "A1", "HER2", lab.settings) == (NO_REQUEST, "")


@pytest.mark.parametrize(
    ("cell", "block", "same"),
    [
        *((cell, "A1", True) for cell in ("A1", "a1", "A-1", "A 1", "A_1", "A01", "A-01")),
        *((cell, "A1", True) for cell in ("Block A1", "BLOCK A-1", "Block: A 1", "BlockA1")),
        *((cell, "1", True) for cell in ("Block 1", "#1", "Nr. 1", "(01)")),
        *((cell, "A1", True) for cell in ("A/1", "A.1", "A:1", "(A1)", "Blk A1", "Kapsel A1")),
        *(("01", "1", True), ("1A", "1A", True), ("A-10", "A10", True)),
        *((cell, "A1", False) for cell in ("B1", "A10", "A11", "1", "1A")),
        ("1-1", "11", False),
        *(("1-A1", "1A1", False), ("A1-2", "A12", False)),
    ],
)
def test_a_block_of_a_table_is_that_of_the_slide_however_it_is_written(
    cell: str, block: str, same: bool, lab: Laboratory
) -> None:
    rows = f"S26-1;4711;{cell};HER2;P-7;S26-1-X\n"
    lab.write(lab.csv, f"Accession;Patient ID;Block;Stain;Placer;Specimen\n{rows}")
    (lab.hl7 / "one.hl7").unlink()
    (patient,) = ordered_for("S26-1", lab.settings, WORDS, block).patients
    assert ("HER2" in patient.stains) is same
    request, _ = answered_request("S26-1", block, "HER2", lab.settings)
    assert (request.placer == "P-7") is same
    specimen = ordered_specimen("S26-1", block, "HER2", lab.settings)
    assert (specimen is not None and (specimen.block, specimen.specimen_id)) == (
        same and (block, "S26-1-X")
    )


@pytest.mark.parametrize(
    ("rows", "block", "ids"),
    [
        (("A1 Mamma;HER2;SP-1;G1", "A2 Mamma;HER2;SP-2;G2"), "A1", ("SP-1", "G1")),
        (("A1 Mamma;HER2;SP-1;G1", "A1;HE;SP-2;G2"), "A1", ("SP-2", "")),
        (("A1 Mamma;HER2;SP-1;G1", "A1 Haut;HER2;SP-2;G2"), "A1", None),
        # One glass is not that of both blocks.
        (("A1;HER2;SP-1;G1", "A2, A3;HER2;SP-2;G2"), "A3", ("SP-2", "")),
        # Whose blocks cannot be read may be of any, and names none.
        (("Mamma;HER2;SP-1;G1",), "A1", None),
        ((";HER2;SP-1;G1",), "A1", None),
    ],
)
def test_the_specimen_of_a_row_with_more_than_the_block(
    rows: tuple[str, ...], block: str, ids: tuple[str, str] | None, lab: Laboratory
) -> None:
    head = "Accession;Patient ID;Block;Stain;Specimen;Container\n"
    lab.write(lab.csv, head + "".join(f"S26-1;4711;{row}\n" for row in rows))
    ask_orders("S26-1", lab.settings)
    specimen = ordered_specimen("S26-1", block, "HER2", lab.settings)
    assert (specimen and (specimen.specimen_id, specimen.container_id)) == ids


def test_an_order_for_all_stains_counts_where_none_names_the_stain(lab: Laboratory) -> None:
    lab.table()
    lab.message(HL7.replace("HE^H&E", "B^Breast biopsy"))
    ask_orders("S26-1", lab.settings)
    assert answered_request("S26-1", "A1", "HER2", lab.settings) == (NO_REQUEST, "")
    orders = lab.settings.orders.model_copy(update={"general": ("breast biopsy",)})
    general = lab.settings.model_copy(update={"orders": orders})
    assert answered_request("S26-1", "A1", "HER2", general)[0].placer == "P-1"


def test_of_several_orders_for_a_stain_what_they_share_is_stated(lab: Laboratory) -> None:
    lab.csv.write_text(
        "Accession;Patient ID;Stain;Placer;Filler\n"
        "S26-1;4711;HER2;P-1;F-1\nS26-1;4711;HER2;P-1;F-2\n"
    )
    lab.message(HL7.replace("HE^H&E", "HER2^HER2"))
    ask_orders("S26-1", lab.settings)
    request, note = answered_request("S26-1", "A1", "HER2", lab.settings)
    assert (request.placer, request.filler) == ("P-1", "")
    assert "several orders for this stain" in note
    # Sources that contradict each other add nothing to what is kept, however often they are asked.
    store = ArtifactStore(lab.settings.artifacts_dir)
    before = len(list(store.path(ArtifactKey.of("order")).parent.iterdir()))
    rows = "S26-1;4711;HER2;P-1;F-2\nS26-1;4711;HER2;P-1;F-1\n"
    lab.write(lab.csv, f"Accession;Patient ID;Stain;Placer;Filler\n{rows}")
    ask_orders("S26-1", lab.settings)
    assert len(list(store.path(ArtifactKey.of("order")).parent.iterdir())) == before


def test_numbers_that_come_later_are_kept_and_numbers_of_orders_that_are_done_stay(
    lab: Laboratory,
) -> None:
    def numbers(stain: str) -> tuple[str, str]:
        ask_orders("S26-1", lab.settings)
        found, note = answered_request("S26-1", "A1", stain, lab.settings)
        assert note == ""
        return found.placer, found.filler

    lab.table()
    assert numbers("HE") == ("P-1", "S26-1")
    her2 = HL7.replace("P-1", "P-2").replace("|S26-1|HE^H&E", "||HER2" + "|" * 14 + "S26-1")
    lab.message(her2)
    assert (numbers("HER2"), numbers("HE")) == (("P-2", ""), ("P-1", "S26-1"))
    for filler in ("F-1", "F-2"):  # given when the order is taken, and changed
        lab.message(her2.replace("|P-2\r", f"|P-2|{filler}\r"))
        assert numbers("HER2") == ("P-2", filler)
    (lab.hl7 / "one.hl7").unlink()
    assert numbers("HER2") == ("P-2", "F-2")


@pytest.mark.parametrize(
    ("kept", "later", "answered"),
    [
        # One number of the placer for the case; the system drops what is done, or adds a test.
        (["A1;HER2;F-1", "A1;HE;F-2"], ["A1;HE;F-2"], "F-1"),
        (["A1;HER2;F-1"], ["A1;HE;F-2"], "F-1"),
        (["A1;HER2;F-1", "B1;HER2;F-2"], ["B1;HER2;F-2"], "F-1"),
        # The same test, or none that is stated, has another number now.
        (["A1;HER2;F-1", "A1;HE;F-2"], ["A1;her2;F-3"], "F-3"),
        (["A1;HER2;F-1"], [";HER2;F-3"], "F-3"),
        (["A1;;F-1"], ["A1;HER2;F-3"], "F-3"),
        # However the block and the test are written.
        (["Block A1;HER2;F-1"], ["A1;HER2;F-3"], "F-3"),
        (["A1-A3;HER2;F-1"], ["A1;HER2;F-3"], "F-3"),
        (["A1;HER2;F-1"], ["A-01;HER2 IHC;F-3"], "F-3"),
        (["A1;HER2 IHC;F-1"], ["A1;HER-2  neu;F-3"], "F-3"),
        (["A1;HER2;F-1"], ["A1;H&E, HER2;F-3"], "F-3"),
        # Not all that the kept one asks for, or another method.
        (["A1;H&E, HER2;F-1"], ["A1;HE;F-3"], "F-1"),
        (["A1;HER2;F-1"], ["A1;HER2 FISH;F-3"], "F-1"),
    ],
)
def test_an_order_stays_beside_others_of_its_placers_number(
    kept: list[str], later: list[str], answered: str, lab: Laboratory
) -> None:
    lab.message("")
    for rows in (kept, later):
        lines = "".join(f"S26-1;4711;P-1;{row}\n" for row in rows)
        lab.write(lab.csv, f"Accession;Patient ID;Placer;Block;Stain;Filler\n{lines}")
        ask_orders("S26-1", lab.settings)
    request, note = answered_request("S26-1", "A1", "HER2", lab.settings)
    assert (request.placer, request.filler, note) == ("P-1", answered, "")


HER2, ER = "H2^HER2 IHC^L", "E^ER IHC^L"
BILLED = "^99^IHC stain^C"
"""One billing text of several stains."""


@pytest.mark.parametrize(("later", "left"), [("CD-3", ["F-2"]), ("CD4", ["F-1", "F-2"])])
def test_texts_without_a_stain_are_compared_by_their_letters(
    later: str, left: list[str], lab: Laboratory
) -> None:
    lab.message("")
    for row in ("CD 3;F-1", f"{later};F-2"):
        lab.write(lab.csv, f"Accession;Patient ID;Placer;Stain;Filler\nS26-1;4711;P-1;{row}\n")
        ask_orders("S26-1", lab.settings)
    order = kept_order("S26-1", lab.settings)
    assert order is not None
    assert [each.filler for each in order.requests] == left


@pytest.mark.parametrize(
    "tests",
    [(HER2 + BILLED, ER + BILLED), ("88342^IHC^CPT^HER2^HER2 IHC^L", "88342^IHC^CPT^HE^H&E^L")],
)
def test_a_test_with_the_billing_text_of_a_kept_one_replaces_it_not(
    tests: tuple[str, str], lab: Laboratory
) -> None:
    lab.table()
    for filler, test in zip(("F-1", "F-2"), tests, strict=True):
        obr = f"OBR|1|P-1|{filler}|{test}" + "|" * 14 + "S26-1"
        lab.message(HL7.partition("ORC")[0] + f"ORC|NW|P-1|{filler}\r{obr}\r")
        ask_orders("S26-1", lab.settings)
    order = kept_order("S26-1", lab.settings)
    assert order is not None
    assert [each.filler for each in order.requests] == ["F-1", "F-2"]


def test_what_an_order_tells_later_is_stated(lab: Laboratory) -> None:
    """The first table has the H&E slide alone, as it is when it is scanned."""
    (lab.hl7 / "one.hl7").unlink()
    lab.table("S26-1;4711;;;A1;H&E;S26-1-A1-1")
    ask_orders("S26-1", lab.settings)
    before, _ = order_of("S26-1", lab.settings)
    rows = (f"S26-1;4711;Müller^Jana;KLINIK;A1;{stain}" for stain in ("H&E;", "HER2;S26-1-A1-2"))
    lab.table(*rows)
    ask_orders("S26-1", lab.settings)
    study, _ = order_of("S26-1", lab.settings)
    assert before is not None and study is not None
    assert (study.uid, study.patient_name, study.issuer) == (before.uid, "Müller^Jana", "KLINIK")
    containers = {"HE": "S26-1-A1-1", "HER2": "S26-1-A1-2"}
    for stain, container in containers.items():
        specimen = ordered_specimen("S26-1", "A1", stain, lab.settings)
        assert specimen is not None and specimen.container_id == container
    # The laboratory's system drops what is done.
    lab.table()
    (patient,) = ordered_for("S26-1", lab.settings, WORDS).patients
    assert (patient.name, patient.stains) == ("Müller^Jana", ("HE", "HER2"))


@pytest.mark.parametrize(
    ("kept", "gone", "change", "left"),
    [
        ((HER2 + BILLED, ER + BILLED), 1, ("CA", "P-1^HIS", "", HER2 + BILLED), ["ER IHC"]),
        ((HER2 + BILLED, ER + BILLED), 2, ("CA", "P-1^HIS", "", HER2 + BILLED), ["ER IHC"]),
        # One order of two tests, taken back by the code of one.
        ((f"{HER2}\rOBR|2|P-1^HIS|F-1|{ER}",), 0, ("CA", "P-1^HIS", "", "E^^L"), ["HER2 IHC"]),
        ((HER2, ER), 0, ("CA", "P-1^HIS", "", ""), []),
        # Of another patient, or with another number of the filler.
        ((HER2,), 0, ("SC", "P-1^HIS", "", HER2, "815", "S9"), ["HER2 IHC"]),
        ((HER2,), 1, ("CA", "P-1^HIS", "", "", "815"), ["HER2 IHC"]),
        ((HER2,), 1, ("CA", "P-1^HIS", "F-9", HER2), ["HER2 IHC"]),
        # It has another accession now.
        ((HER2,), 0, ("XO", "P-1^HIS", "", HER2, "4711", "S9"), []),
        ((HER2,), 1, ("CA", "P-1^HIS^1.2.3^ISO", "", HER2), []),
    ],
)
def test_only_what_is_taken_back_leaves_the_kept_order(
    kept: tuple[str, ...], gone: int, change: tuple[str, ...], left: list[str], lab: Laboratory
) -> None:
    """The first `gone` messages are away when the change comes."""

    def put(
        number: int,
        control: str,
        placer: str,
        filler: str,
        test: str,
        patient: str = "4711",
        accession: str = "S1",
    ) -> Path:
        head = HL7.partition("ORC")[0].replace("20261120", f"2026112{number}")
        obr = f"OBR|1|{placer}|{filler}|{test}".replace("\r", "|" * 14 + f"{accession}\r")
        obr += "|" * 14 + accession
        file = lab.hl7 / f"{number}.hl7"
        orc = f"ORC|{control}|{placer}|{filler}\r"
        lab.write(file, f"{head.replace('4711', patient)}{orc}{obr}\r")
        return file

    (lab.hl7 / "one.hl7").unlink()
    lab.table()
    files = [put(at, "NW", "P-1^HIS", "F-1", test) for at, test in enumerate(kept)]
    ask_orders("S1", lab.settings)
    for file in files[:gone]:
        file.unlink()
    put(9, *change)
    ask_orders("S1", lab.settings)
    order = kept_order("S1", lab.settings)
    assert order is not None
    assert [each.procedure for each in order.requests] == left
    assert [text for text in order.asked if text in ("HER2 IHC", "ER IHC")] == left


@pytest.mark.parametrize("is_written", [False, True])
def test_an_id_that_the_laboratory_corrects_leaves_the_kept_order(
    is_written: bool, lab: Laboratory
) -> None:
    """Objects that are written state the ID, and those of their study go on to."""
    lab.table()
    lab.message(HL7.replace("4711^^^KLINIK^MR", "99^^^KLINIK^MR~4711^^^ZENTRAL^PI"))
    first = ask_orders("S26-1", lab.settings).order
    assert first is not None and first.patient_id == "99"
    if is_written:
        store = ArtifactStore(lab.settings.artifacts_dir)
        with store.writing(ArtifactKey.of("study", uid=first.uid)) as folder:
            (folder / "scanned.txt").write_text("2026-01-01T00:00:00")
    corrected = HL7.replace("4711^^^KLINIK^MR", "4711^^^ZENTRAL^PI~100^^^KLINIK^MR")
    lab.write(lab.hl7 / "two.hl7", corrected.replace("NW", "XO").replace("20261120", "20261121"))
    ask_orders("S26-1", lab.settings)
    order = kept_order("S26-1", lab.settings)
    assert order is not None and order.uid == first.uid
    other_ids = order.other_ids if is_written else ("100^^^KLINIK",)
    expected = ("99", "KLINIK") if is_written else ("4711", "ZENTRAL")
    assert ((order.patient_id, order.issuer), order.other_ids) == (expected, other_ids)


MRN, HEALTH = "4711^^^KLINIK^MR", "N1^^^NHS^PI"


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([("SC", "5^^^KLINIK^AN")], ("4711", ("5^^^KLINIK", "N1^^^NHS"))),
        ([("SC", "5^^^KLINIK^MR")], ("4711", ("5^^^KLINIK", "N1^^^NHS"))),
        ([("XO", "5^^^KLINIK^AN")], ("4711", ("5^^^KLINIK", "N1^^^NHS"))),
        ([("XO", "5^^^KLINIK^PI")], ("4711", ("5^^^KLINIK", "N1^^^NHS"))),
        ([("XO", "04711^^^KLINIK^MR")], ("4711", ("04711^^^KLINIK", "N1^^^NHS"))),
        ([("XO", "5^^^KLINIK^MR")], ("N1", ("5^^^KLINIK",))),
        (
            [("XO", "5^^^KLINIK^MR"), ("SC", "6^^^KLINIK^AN")],
            ("N1", ("5^^^KLINIK", "6^^^KLINIK")),
        ),
    ],
)
def test_the_first_id_of_a_kept_order_goes_by_a_message_that_lists_all_alone(
    changes: list[tuple[str, str]],
    told: tuple[str, tuple[str, ...]],
    is_gone: bool,
    lab: Laboratory,
) -> None:
    """The message of the order itself may be gone; the changes come before it is asked again."""
    lab.table()
    lab.message(HL7.replace(MRN, f"{MRN}~{HEALTH}"))
    ask_orders("S26-1", lab.settings)
    if is_gone:
        lab.message("")
    for at, (control, number) in enumerate(changes, start=1):
        text = HL7.replace(MRN, f"{HEALTH}~{number}").replace("20261120", f"2026112{at}")
        lab.write(lab.hl7 / f"{at}.hl7", text.replace("NW", control))
    ask_orders("S26-1", lab.settings)
    order = kept_order("S26-1", lab.settings)
    assert order is not None and (order.patient_id, order.other_ids) == told
    kept = len(list(lab.settings.artifacts_dir.rglob("order.json")))
    ask_orders("S26-1", lab.settings)  # nothing is new
    assert len(list(lab.settings.artifacts_dir.rglob("order.json"))) == kept


def test_an_id_in_place_of_a_placeholder_that_was_converted_is_told(lab: Laboratory) -> None:
    lab.table()
    lab.message(HL7.replace("4711", "UNKNOWN"))
    first = ask_orders("S26-1", lab.settings).order
    assert first is not None
    store = ArtifactStore(lab.settings.artifacts_dir)
    with store.writing(ArtifactKey.of("study", uid=first.uid)) as folder:
        (folder / "scanned.txt").write_text("2026-01-01T00:00:00")
    lab.message(HL7)
    assert "another patient than before" in ask_orders("S26-1", lab.settings).note
    study, _ = order_of("S26-1", lab.settings)
    assert study is not None and (study.patient_id, study.uid != first.uid) == ("4711", True)


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        (("A1;HER2;SP-1A;G-1B",), ("SP-1A", "G-1B")),
        (("A1;HER2;SP-1;G-2",), ("SP-1", "G-2")),
        # A slide that was cut later; a row without its container; the rows of other slides.
        (("A1;HER2;SP-1;G-1", "A1;HER2;SP-1;G-2"), None),
        (("A1;HER2;SP-1;",), ("SP-1", "G-1")),
        (("A1;HE;SP-1;G-9", "B1;HER2;SP-9;G-9"), ("SP-1", "G-1")),
        (("B1;HER2;SP-1;G-1",), None),
    ],
)
def test_a_corrected_row_replaces_the_kept_specimen(
    rows: tuple[str, ...], ids: tuple[str, str] | None, lab: Laboratory
) -> None:
    head = "Accession;Patient ID;Block;Stain;Specimen;Container\n"
    (lab.hl7 / "one.hl7").unlink()
    for each in (("A1;HER2;SP-1;G-1",), rows):
        lab.write(lab.csv, head + "".join(f"S26-1;4711;{row}\n" for row in each))
        ask_orders("S26-1", lab.settings)
    specimen = ordered_specimen("S26-1", "A1", "HER2", lab.settings)
    assert (specimen and (specimen.specimen_id, specimen.container_id)) == ids


@pytest.mark.parametrize(
    ("changes", "block", "ids"),
    [
        ((("XO", "P-1", "S26-1;A1;9", "C2"),), "A1", ("P-1", "S26-1;A1;9")),
        ((("XO", "P-1", "S26-1;B1", "C1"),), "B1", ("P-1", "S26-1;B1")),
        ((("XO", "P-1", "S26-1;B1", "C1"),), "A1", ("", None)),
        (
            (("CA", "P-1", "S26-1;A1", "C1"), ("NW", "P-2", "S26-1;A1;9", "C2")),
            *("A1", ("P-2", "S26-1;A1;9")),
        ),
        # Another order of the block has another slide.
        ((("NW", "P-2", "S26-1;A1;9", "C2"),), "A1", ("", None)),
    ],
)
def test_a_change_of_an_order_replaces_its_specimen_and_its_block(
    changes: tuple[tuple[str, ...], ...],
    block: str,
    ids: tuple[str, str | None],
    lab: Laboratory,
) -> None:
    lab.table()
    (lab.hl7 / "one.hl7").unlink()
    head = HL7.partition("ORC")[0]
    for number, change in enumerate((("NW", "P-1", "S26-1;A1", "C1"), *changes)):
        control, placer, specimen, container = change
        obr = f"OBR|1|{placer}||HER2^HER2 IHC^L" + "|" * 14 + "S26-1"
        text = f"{head.replace('20261120', f'2026112{number}')}ORC|{control}|{placer}\r{obr}\r"
        lab.write(lab.hl7 / f"{number}.hl7", f"{text}SPM|1|{specimen}\rSAC|||{container}\r")
        ask_orders("S26-1", lab.settings)
    found = ordered_specimen("S26-1", block, "HER2", lab.settings)
    request, _ = answered_request("S26-1", block, "HER2", lab.settings)
    assert (request.placer, found and found.specimen_id) == ids


def test_an_order_that_is_taken_back_leaves_the_kept_one(lab: Laboratory) -> None:
    """An order in its place, or the others of its number, are asked for and answered."""

    def tell(*orders: tuple[str, str, str], only_last: bool = False) -> None:
        head = HL7.partition("ORC")[0]
        texts = [
            f"{head.replace('20261120', f'202611{20 + at}')}ORC|{control}|{number}|S26-1\r"
            f"OBR|1|{number}|S26-1|{stain}^{stain}\r"
            for at, (control, number, stain) in enumerate(orders)
        ]
        lab.message("".join(texts[-1:] if only_last else texts))

    def known(stain: str = "HER2") -> tuple[tuple[str, ...], str, str]:
        (patient,) = ordered_for("S26-1", lab.settings, WORDS).patients
        request, note = answered_request("S26-1", "A1", stain, lab.settings)
        return patient.stains, request.placer, note

    lab.table()
    orders = [("NW", "P-1", "HER2"), ("NW", "P-1", "HE")]
    tell(*orders)
    assert known() == (("HER2", "HE"), "P-1", "")
    orders.append(("CA", "P-1", "HER2"))
    tell(*orders)
    assert (known(), known("HE")) == ((("HE",), "", ""), (("HE",), "P-1", ""))
    # The file of the order itself may be gone, and the sources be silent afterwards.
    tell(*orders, ("NW", "P-2", "HER2"))
    assert known() == (("HE", "HER2"), "P-2", "")
    tell(*orders, ("NW", "P-2", "HER2"), ("OC", "p-2", "HER2"), only_last=True)
    assert known() == (("HE",), "", "")
    lab.message("")
    assert known() == (("HE",), "", "")
    # Asked for again under the number that was taken back.
    tell(*orders, ("NW", "P-1", "HER2"))
    assert known() == (("HE", "HER2"), "P-1", "")


MERGED = (("4711", "0815"),)


@pytest.mark.parametrize("is_gone", [False, True])
@pytest.mark.parametrize(
    ("ids", "merged", "left"),
    [
        ("4711^^^KLINIK^MR", (), ["P-2"]),
        ("0815^^^LAB^MR~4711^^^KLINIK^MR", (), ["P-2"]),
        ("\uff14\uff17\uff11\uff11^^^KLINIK^MR", (), ["P-2"]),
        ("0815^^^KLINIK^MR", MERGED, ["P-2"]),
        ("UNKNOWN", (), ["P-2"]),
        ("0815^^^KLINIK^MR", (), ["P-1", "P-2"]),
        ("4711^^^LAB^MR", (), ["P-2"]),
    ],
)
def test_an_order_is_taken_back_under_any_id_of_its_patient(
    ids: str, merged: tuple[tuple[str, ...], ...], left: list[str], is_gone: bool, lab: Laboratory
) -> None:
    """The message of the order itself may be gone."""
    settings = lab.settings.model_copy(update={"patients": Patients(merged=merged)})
    head = HL7.partition("ORC")[0]
    obr = "|HER2^HER2 IHC^L" + "|" * 14 + "S26-1\r"
    (lab.hl7 / "one.hl7").unlink()
    lab.table()
    for at, (control, placer) in enumerate((("NW", "P-1"), ("CA", "P-1"), ("NW", "P-2"))):
        text = head.replace("20261120", f"2026112{at}")
        text = text.replace("4711^^^KLINIK^MR", ids) if control == "CA" else text
        lab.write(lab.hl7 / f"{at}.hl7", f"{text}ORC|{control}|{placer}\rOBR|1|{placer}|{obr}")
        ask_orders("S26-1", settings)
        if is_gone and at == 0:
            (lab.hl7 / "0.hl7").unlink()
    order = kept_order("S26-1", settings)
    assert order is not None
    assert [each.placer for each in order.requests] == left


def test_a_change_with_a_wrong_patient_is_corrected_by_a_change_and_the_note_says_so(
    lab: Laboratory,
) -> None:
    (lab.hl7 / "one.hl7").unlink()
    lab.table()
    steps = (("NW", "1", "4711"), ("NW", "2", "4711"), ("SC", "2", "815"), ("NW", "2", "4711"))
    for at, (control, number, patient) in enumerate((*steps, ("XO", "2", "4711"))):
        text = HL7.partition("ORC")[0].replace("20261120", f"2026112{at}").replace("4711", patient)
        obr = f"OBR|1|P-1|F-{number}|T{number}^Test {number}^L" + "|" * 14 + "S26-1\r"
        lab.write(lab.hl7 / f"{at}.hl7", f"{text}ORC|{control}|P-1|F-{number}\r{obr}")
        answer = ask_orders("S26-1", lab.settings)
        assert bool(answer.conflict) == (at == 3)
        assert ("A change (XO)" in answer.note) == (at == 3)
    assert answer.order is not None and answer.order.patient_id == "4711"
    assert sorted(each.filler for each in answer.order.requests) == ["F-1", "F-2"]


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("control", ["SC", "XO"])
@pytest.mark.parametrize("merged", [(), MERGED])
@pytest.mark.parametrize(
    ("test", "stain"), [("HE^H&E^L", "HE"), ("HER2^HER2 IHC^L", "HER2"), ("", "HE")]
)
def test_a_change_of_one_test_with_another_patient_leaves_the_others(
    test: str,
    stain: str,
    merged: tuple[tuple[str, ...], ...],
    control: str,
    is_kept: bool,
    lab: Laboratory,
) -> None:
    settings = lab.settings.model_copy(update={"patients": Patients(merged=merged)})
    (lab.hl7 / "one.hl7").unlink()
    lab.table()
    other = test or "HE^H&E^L"
    changes = (("NW", "F-1", "HER2^HER2 IHC^L"), ("NW", "F-2", other), (control, "F-2", test))
    for at, (code, filler, asked) in enumerate(changes):
        text = HL7.partition("ORC")[0].replace("20261120", f"2026112{at}")
        text = text if code == "NW" else text.replace("4711", "0815")
        block = f"SPM|1|S26-1;{'AB'[at % 2]}1\r" if code == "NW" else ""
        obr = f"OBR|1|P-1|{filler}|{asked}" + "|" * 14 + f"S26-1\r{block}"
        lab.write(lab.hl7 / f"{at}.hl7", f"{text}ORC|{code}|P-1|{filler}\r{obr}")
        if is_kept or code != "NW":
            answer = ask_orders("S26-1", settings)
    assert answer.order is not None
    assert answer.order.patient_id == ("4711" if merged else "0815")
    assert ("another patient" in answer.note) == (is_kept and not merged)
    for block, asked, filler in (("A1", "HER2", "F-1"), ("B1", stain, "F-2")):
        request, note = answered_request("S26-1", block, asked, settings)
        assert (request.placer, request.filler, note) == ("P-1", filler, "")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"placer": "1"}, {"placer": "1", "filler": "2"}, True),
        ({"placer": "1"}, {"filler": "2"}, False),
        ({"placer": "1", "filler": "2"}, {"placer": "1", "filler": "3"}, False),
        ({"placer": "1", "placer_issuer": "A"}, {"placer": "1", "placer_issuer": "B"}, False),
        ({"procedure_id": "R"}, {"placer": "1"}, True),
        ({"procedure_id": "R"}, {"placer": "1", "procedure_id": "S"}, False),
        ({"placer": "1", "procedure_id": "R"}, {"placer": "1", "procedure_id": "S"}, True),
    ],
)
def test_what_two_sources_say_of_one_order(
    one: dict[str, str], other: dict[str, str], same: bool
) -> None:
    pair = [OrderedRequest(**one), OrderedRequest(**other)]
    for requests in (pair, pair[::-1]):
        united = one_request(requests)
        assert (united is not None) == same
        if united is not None:
            assert all(getattr(united, name) for name in one | other)


def test_bad_files_are_told_once_and_stop_nothing(lab: Laboratory) -> None:
    lab.write(lab.csv, "Nummer;Name\nS26-1;Müller\n")
    lab.write(lab.hl7 / "bad.hl7", "no message\rat all")
    answer = ask_orders("S26-1", lab.settings)
    assert answer.order is not None and answer.order.patient_id == "4711"
    assert ["bad.hl7, line 1" in told for told in answer.problems] == [True, False]
    assert "no column for the accession" in answer.problems[1]
    first, other = Path("/scans/S26-1_HE.svs"), Path("/scans/S26-2_HE.svs")
    assert tuple(told_by(first, answer.problems, lab.settings)) == answer.problems
    assert not list(told_by(other, answer.problems, lab.settings))
    # The first one is finished again: its transaction may have failed.
    assert tuple(told_by(first, answer.problems, lab.settings)) == answer.problems


def test_slides_that_are_finished_at_one_moment_tell_a_bad_file_once(lab: Laboratory) -> None:
    lab.message("no message\rat all")
    slides = [Path(f"/scans/S26-{n}_HE.svs") for n in range(16)]
    start = Barrier(len(slides))

    def told(slide: Path) -> int:
        start.wait(timeout=600)
        return len(list(told_by(slide, ("orders.csv, line 7",), lab.settings)))

    with ThreadPoolExecutor(len(slides)) as threads:
        assert sum(threads.map(told, slides)) == 1


def test_orders_that_are_away_hold_the_slide_unless_one_is_kept(lab: Laboratory) -> None:
    lab.csv.unlink()
    with pytest.raises(WorklistUnavailableError, match=r"orders\.csv cannot be read"):
        ask_orders("S26-1", lab.settings)
    lab.table()
    kept = ask_orders("S26-1", lab.settings)
    lab.csv.unlink()
    assert ask_orders("S26-1", lab.settings).order == kept.order
    closed = Worklist(host="127.0.0.1", port=free_port(), called_aet="RIS")
    away = lab.settings.model_copy(update={"worklist": closed, "orders": Orders(hl7=lab.hl7)})
    assert ask_orders("S26-1", away).order == kept.order
    with pytest.raises(WorklistUnavailableError, match="worklist"):
        ask_orders("S26-3", away)


def test_an_order_that_an_earlier_edition_kept_is_read(lab: Laboratory) -> None:
    store = ArtifactStore(lab.settings.artifacts_dir)
    study = StudyFacts(uid="1.2.3", patient_id="P-9", patient_birth_date=date(1950, 1, 2))
    named = ("study_id", "referring_physician", "patient_name", "patient_sex", "started")
    kept = dict.fromkeys(named, "") | {"uid": "1.2.3", "patient_id": "P-9"}
    kept["patient_birth_date"] = "1950-01-02"
    with store.writing(ArtifactKey.of("order", accession="S25-9")) as folder:
        (folder / "order.json").write_text(json.dumps(kept))
        (folder / "note.txt").write_text("")
    assert order_of("S25-9", lab.settings) == (study, "")


def test_doctor_tells_each_source_with_its_number_of_orders(
    lab: Laboratory, tmp_path: Path
) -> None:
    config = tmp_path / "tandem.toml"
    config.write_text(
        f"state_dir = '{tmp_path / 'state'}'\n[orders]\ncsv = '{lab.csv}'\nhl7 = '{lab.hl7}'\n"
    )

    def told() -> dict[str, Examined]:
        return {line.what: line for line in examine(config) if line.what.startswith("orders.")}

    assert {(line.ok, line.text) for line in told().values()} == {(True, "orders of 1 accessions")}
    lab.table("S26-1;4711;;;;;", "S26-2;;;;;;")
    csv = told()["orders.csv"]
    assert csv.ok and "orders.csv, line 3: the row is not used: it has no patient ID" in csv.text
    lab.write(lab.csv, "Nummer\n1\n")
    assert not told()["orders.csv"].ok and "set orders.columns" in told()["orders.csv"].text
    lab.csv.unlink()
    assert not told()["orders.csv"].ok and "mount or create it" in told()["orders.csv"].text


@pytest.mark.parametrize(
    ("texts", "stains"),
    [
        ((), []),
        (("HER2 IHC", "H&E"), ["HER2", "HE"]),
        (("her-2/neu",), ["HER2"]),
        (("Her 2", "H.&E."), ["HER2", "HE"]),
        (("Immunhistochemie HER2-neu",), ["HER2"]),
        (("HER2 + ER",), ["HER2"]),
        (("",), [""]),
        (("HER2 FISH", "HER2-DISH"), ["HER2 FISH", "HER2-DISH"]),
        (("Ki-67", "SHER2X"), ["Ki-67", "SHER2X"]),
        (("HER2 IHC with reflex to FISH",), ["HER2"]),
        (("HER2 IHC / FISH reflex",), ["HER2"]),
        (("HER2 (4B5) IHC, reflex FISH",), ["HER2"]),
        (("H&E and HER2 FISH",), ["HE"]),
        (("FISH HER2; H & E",), ["HE"]),
        (("H&E, HER2, HER2 FISH",), ["HE", "HER2"]),
        (("H&E, HER2 and FISH",), ["HE", "HER2"]),
        (("HER2 IHC, Ki-67 NGS",), ["HER2"]),
        (("HER2 IHC with controls",), ["HER2"]),
        (("HER2 Verlaufskontrolle",), ["HER2"]),
        *(((f"{text} Kontrolle",), ["HER2"]) for text in ("IHC HER2 pos.", "HER2 (4B5) IHC neg.")),
        (("HER2 IHC (pos. control)",), ["HER2"]),
        *(((f"HER2 {text}",), ["HER2"]) for text in ("bei bekannter BRCA-Mutation", "vor NGS")),
        *(((f"ER PR HER2{text} NGS",), ["HER2"]) for text in (" Ki67,", "")),
        (("Nachbestellung HER2 zu NGS",), ["HER2"]),
        *(((text,), ["HER2"]) for text in ("HER2 prior to NGS", "NGS then HER2", "HER2 and NGS")),
        (("IHC HER2 mit pos. Kontrolle",), ["HER2"]),
        (("ER, H&E, HER2 by NGS",), ["HE"]),
        (("BRAF mutation, HER2",), ["HER2"]),
        (("Fishman biopsy HER2",), ["HER2"]),
        (("Probe HER2",), ["HER2"]),
        (("HE R2", "H&E_R2"), ["HE"]),
        (("HE R2, Her-2 neu",), ["HE", "HER2"]),
    ],
)
def test_stains_of_an_order(texts: tuple[str, ...], stains: list[str]) -> None:
    assert asked_stains(texts, WORDS) == stains


@pytest.mark.parametrize(
    "text",
    [
        *("HER2 DDISH", "HER2 D-DISH", "HER2 BDISH", "HER2 CDISH", "HER2 BRISH", "HER2 IQFISH"),
        *("HER2/CEP17", "PathVysion HER2", "HER2 Amplifikation", "HER2 gene amplification"),
        *("HER2 Dual Probe", "HER2-Sonde", "HER2 Zytolight", "HER2 RNAscope", "HER2 FISHplus"),
        *("HER2 Hybridisierung", "HER2 in situ hybridization", "HER2 FISH検査", "FISH for HER-2"),
        *("HER2 Amplification NGS", "HER2 mutation", "HER2, breast, FISH", "HER-2 (HER2) FISH"),
        *("HER2 NGS", "PCR für HER2", "HER2 Exon 20 Mutation", "Control of HER2", "HER2 (NGS)"),
        *("HER2 by NGS", "NGS panel: HER2", "HER2 gene panel (NGS)", "HER2 via PCR"),
        *("HER2 tissue NGS", "HER2/neu mRNA RT-PCR", "HER2 point mutation", "HER2, breast, NGS"),
        *("HER2 exon 20 insertion mutation", "HER2 status by NGS", "ER, HER2 by NGS"),
        *("HER2 negative control", "HER2 Neg. Kontrolle", "HER2 IHC control", "Control: HER2"),
        *("HER2 IHC negative control", "Negativkontrolle HER2 IHC", "IHC control HER2"),
        *("HER2 (IHC) control", "HER2 IHC neg. control", "HER2 ICC control", "(HER2 IHC control)"),
    ],
)
def test_hybridization_sequencing_and_controls_are_no_immunostain(text: str) -> None:
    assert asked_stains([text], WORDS) == [text]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"patient_name": "Huber^Anna"}, True),
        ({"patient_id": "4712"}, {}, False),
        ({"issuer": "KLINIK"}, {"issuer": "klinik&1.2&ISO"}, True),
        ({"issuer": "KLINIK"}, {"issuer": "PRAXIS"}, False),
        ({"other_ids": ("K-7^^^KASSE",)}, {"patient_id": "K-7", "issuer": "KASSE"}, True),
        ({"other_ids": ("K-7",)}, {"patient_id": "K-8", "other_ids": ("K-7",)}, False),
        ({"patient_name": "Müller^Jana^^Prof."}, {"patient_name": "MUELLER^JANA^^Dr."}, True),
        ({"patient_name": "Müller, Jana"}, {"patient_name": "Müller^Jana"}, True),
        ({"patient_name": "Müller^Jana"}, {"patient_name": "Müller^Anna"}, False),
        ({"patient_name": "Yamada^H=山田^花子"}, {"patient_name": "Yamada^H=山田^太郎"}, False),
        ({"patient_sex": "F"}, {"patient_sex": "M"}, False),
        ({"patient_sex": "F"}, {"patient_sex": "O"}, True),
        (
            {"patient_birth_date": date(1961, 2, 3)},
            {"patient_birth_date": date(1961, 3, 2)},
            False,
        ),
    ],
)
def test_what_an_order_does_not_say_is_no_difference(
    one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    orders = [Order(**({"patient_id": "4711"} | values)) for values in (one, other)]
    assert one_patient(orders) is same
    assert one_patient(orders[::-1]) is same


@pytest.mark.parametrize(
    ("identifier", "block"),
    [
        ("S26-31;A1;2", "A1"),
        ("s26-31-b12", "B12"),
        ("A1", "A1"),
        ("S26-31", ""),
        ("S26-99;A1", ""),
        ("S26-31;4", ""),
        ("", ""),
    ],
)
def test_the_block_in_the_identifier_of_a_specimen(identifier: str, block: str) -> None:
    assert block_in(identifier, "S26-31") == block


@pytest.mark.parametrize(
    "values",
    [
        {"patient_id": "a\nb"},
        {"patient_id": "a\\b"},
        {"issuer": "x" * 193},
        {"other_ids": ("y" * 257,)},
        {"patient_sex": "W"},
        {"uid": "1.2.03"},
    ],
)
def test_an_order_with_odd_values_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ObjectError):
        Order(**({"patient_id": "4711"} | values))


def test_a_name_may_have_wide_spaces_and_letters_of_a_site() -> None:
    name = "Yamada^Tarou=山田\u3000太郎=\ue000"
    assert Order(patient_id="1", patient_name=name).patient_name == name
    assert fitting_name(name) == name
    for wrong in ("A\x1bB", "A\nB", "A\u2028B", "\ud800"):
        assert fitting_name(wrong) == ""
        with pytest.raises(ObjectError, match="cannot be printed"):
            Order(patient_id="1", patient_name=wrong)
