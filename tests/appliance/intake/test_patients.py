"""Patients of two slides: what differs, what is unknown, and what holds a case."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.pairings import HER2_PAIR
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain import HE, HER2, Identity
from appliance.intake.block import make_ready
from appliance.intake.patients import Patient, combined, held_for
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState, SlideState
from appliance.ledger.tables import CaseRow, params_of
from appliance.line.whose import let_merged_go
from appliance.settings.intake import Patients
from appliance.settings.settings import Settings
from appliance.words.say import say
from dicom.order import Order, one_patient
from dicom.patients import NamedPatient, another_patient, patient_differences, without_given_up

JANE: dict[str, Any] = {
    "patient_id": "PAT-0001",
    "issuer": "HOSP",
    "name": "Müller^Jana^Maria^Dr.",
    "birth_date": "19610203",
    "sex": "F",
    "study_uid": "1.2.3",
}


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({}, []),
        ({"patient_id": "PAT-0002"}, ["patient ID"]),
        ({"patient_id": " pat-0001 "}, []),
        ({"patient_id": "PAT-0001^^^HOSP", "issuer": ""}, []),
        ({"patient_id": "PAT-0001^^^OTHER", "issuer": ""}, ["patient ID"]),
        ({"issuer": "OTHER"}, ["patient ID"]),
        ({"issuer": ""}, []),
        ({"issuer": "hosp&1.2.3&ISO"}, []),
        ({"patient_id": "X-9", "other_ids": ("7", "PAT-0001^^^HOSP")}, []),
        ({"patient_id": "X-9", "other_ids": ("PAT-0001^^^OTHER",)}, ["patient ID"]),
        ({"patient_id": "PAT-0001", "other_ids": ("X-9",)}, []),
        ({"patient_id": ""}, []),
        ({"patient_id": "Unknown"}, []),
        ({"patient_id": "UNKNOWN^^^HOSP", "name": "Unknown^Unknown"}, []),
        ({"patient_id": "NA", "name": "NA^NA"}, []),
        ({"patient_id": "n.a.", "name": "Unknown Patient"}, []),
        ({"patient_id": "N/A", "name": "Anonymized"}, []),
        ({"patient_id": "0", "name": "-"}, []),
        ({"patient_id": "000-00", "name": "?^?"}, []),
        ({"patient_id": "?", "name": "Müller^Unknown"}, []),
        ({"patient_id": "Unspecified", "name": "Unknown, Jana"}, []),
        ({"patient_id": "NOT AVAILABLE"}, []),
        ({"patient_id": "100"}, ["patient ID"]),
        ({"name": "Na^Jana"}, ["name"]),
        ({"name": "Null^Jana"}, ["name"]),
        ({"name": "Maier^Unknown"}, ["name"]),
        ({"name": "MUELLER^JANA"}, []),
        ({"name": "Mu\u0308ller^Jana^^Prof.^^^"}, []),
        ({"name": "Müller, Jana"}, []),
        ({"name": "Müller"}, []),
        ({"name": "Müller^Jana=="}, []),
        ({"name": "Müller^Anna"}, ["name"]),
        ({"name": "Maier^Jana"}, ["name"]),
        ({"name": "Müller^Jana^Maria^Dr.^Jr."}, []),
        ({"name": "山田^花子"}, []),
        ({"name": "=山田^花子"}, []),
        ({"name": ""}, []),
        ({"name": "^^^"}, []),
        ({"birth_date": "1961-02-03"}, []),
        ({"birth_date": "03.02.1961"}, []),
        ({"birth_date": "3.2.1961"}, []),
        ({"birth_date": "196102"}, []),
        ({"birth_date": "1961"}, []),
        ({"birth_date": "00000000"}, []),
        ({"birth_date": ""}, []),
        ({"birth_date": "19610302"}, ["birth date"]),
        ({"birth_date": "1962"}, ["birth date"]),
        ({"sex": "M"}, ["sex"]),
        ({"sex": "f"}, []),
        ({"sex": "O"}, []),
        ({"sex": "U"}, []),
        ({"sex": ""}, []),
        ({"study_uid": "1.2.4"}, []),
        ({"study_uid": ""}, []),
        (
            {"patient_id": "PAT-2", "name": "Maier^Eva", "birth_date": "19700101", "sex": "M"},
            ["patient ID", "name", "birth date", "sex"],
        ),
    ],
)
def test_what_differs(changes: dict[str, Any], differing: list[str]) -> None:
    first, second = Patient(**JANE), Patient(**(JANE | changes))
    assert patient_differences(first, second) == differing
    assert patient_differences(second, first) == differing


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Yamada^Hanako=山田^花子", "Yamada^Hanako=山田^華子", False),
        ("Yamada^Hanako=山田^花子", "YAMADA^HANAKO=山田^花子=やまだ^はなこ", True),
        ("Yamada^Hanako=山田^花子", "山田^花子", True),
        ("Yamada^Hanako=山田^花子", "山本^花子", False),
        ("Wang^XiaoDong=王^小東", "Wang^XiaoDong", True),
        ("Yamada^Hanako==やまだ^はなこ", "Yamada^Hanako==やまた^はなこ", False),
        ("Muster^Max^^^Jr.", "Muster^Max^^^Sr.", False),
    ],
)
def test_groups_of_a_name_are_compared_with_their_like(one: str, other: str, same: bool) -> None:
    assert (patient_differences(Patient(name=one), Patient(name=other)) == []) is same


SAME_NAMES = [
    *(("Müller^A", "Muller^A"), ("Müller^A", "Mueller^A"), ("Öztürk^A", "OZTURK^A")),
    *(("Müller, Jörg", "Muller^Jorg"), ("Yılmaz^A", "YILMAZ^A"), ("Işık^A", "ISIK^A")),
    *(("Sørensen^A", "Sorensen^A"), ("Sørensen^A", "Soerensen^A"), ("Łukasz^A", "Lukasz^A")),
    *(("Đorđević^A", "Dordevic^A"), ("Kjær^A", "Kjaer^A"), ("Åberg^A", "Aberg^A")),
    *(("Åberg^A", "Aaberg^A"), ("Weiß^A", "WEISS^A"), ("O'Brien^M", "OBrien^M")),
    *(("O'Brien^M", "O’Brien^M"), ("O'Brien^M", "O Brien^M"), ("D'Angelo^A", "D`Angelo^A")),
    *(("Meier-Huber^A", "Meier Huber^A"), ("Meier-Huber, A", "Meier Huber^A")),
    *(("Smith^John^Q", "SMITH^JOHN^QUINCY"), ("Smith^John^Q.", "Smith^John^Q")),
    *(("Meier^Anna Maria", "Meier^Anna^Maria"), ("Meier^Anna-Maria", "Meier^Anna^Maria")),
    *(("Doe^Jane M", "Doe^Jane^Mary"), ("Doe^Jane M^Lee", "Doe^Jane^Mary Lee")),
    *((f"{title} Meier^Anna", "Meier^Anna") for title in ("Dr.", "Dr", "Prof. Dr. med.", "PD Dr.")),
    *((f"{title} Meier^Anna", "Meier^Anna^^Dr.") for title in ("Dr.med.", "Dipl.-Ing. (FH)")),
    *((f"Meier^{name}", "Meier^Anna") for name in ("Anna Dr.", "Dr. Anna", "Anna, Ph.D.")),
    *(("Meier Dr.^Anna", "Meier, Anna"), ("Dr. Meier", "Meier^Anna"), ("Prof^Anna", "PROF^Anna")),
    ("Univ.-Prof. Dr. h.c. mult. Meier^Anna", "Dr. rer. nat. Meier^Anna"),
    *((f"Dr. {word} Anna", "Anna Meier") for word in ("vet.", "med.")),
]
OTHER_NAMES = [
    *(("Müller^A", "Miller^A"), ("Meier^A", "Meier^Anna"), ("Smith^John^Q", "Smith^John^Robert")),
    *(("Meier^Anna Maria", "Meier^Anna^Eva"), ("Meier^Anna Maria", "Meier^Maria^Anna")),
    *(("M^Anna", "Meier^Anna"), ("Doe^Jane M", "Doe^June^Mary"), ("O'Brien^M", "Brien^M")),
    *(("Prof^Anna", "Huber^Anna"), ("Prof, Anna", "Huber^Anna"), ("Dr. Meier^A", "Dr. Huber^A")),
    *((f"Dr. {word} Anna", "Anna Meier") for word in ("Vet", "Ing", "Med")),
    *(("Meier^Phil Jan", "Meier^Jan"), ("Meier^Prof. Phil", "Meier^Anna"), ("Drach^A", "Ach^A")),
    *(
        ("山田^花子", "山本^花子"),
        ("=やまだ^は", "=やまた^は"),
        ("Yamada^H=山田^花", "Yamada^H=山田^華"),
    ),
]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(*names, True) for names in SAME_NAMES] + [(*names, False) for names in OTHER_NAMES],
)
def test_writings_of_one_name(one: str, other: str, same: bool) -> None:
    """Names of headers and orders, and of two orders, are compared alike."""
    slides = Patient(patient_id="7", name=one), Patient(patient_id="7", name=other)
    orders = [Order(patient_id="7", patient_name=name) for name in (one, other)]
    for first, second in (slides, slides[::-1]):
        assert patient_differences(first, second) == ([] if same else ["name"])
    assert one_patient(orders) is one_patient(orders[::-1]) is same
    another = Patient(patient_id="8", name=other)
    assert "patient ID" in patient_differences(slides[0], another)


@pytest.mark.parametrize(
    ("group", "same"),
    [
        (("PAT-0001", "PAT-0002"), True),
        (("7", "pat-0002 ", "PAT-0001^^^HOSP"), True),
        (("PAT-0001^^^OTHER", "PAT-0002"), False),
        (("PAT-0001", "PAT-0003"), False),
    ],
)
def test_ids_that_the_site_declares_to_be_one_are_one_patient(
    group: tuple[str, ...], same: bool
) -> None:
    first, second = Patient(**JANE), Patient(**(JANE | {"patient_id": "PAT-0002", "sex": "M"}))
    assert (patient_differences(first, second, [group]) == []) is same


TEXTS = st.text(st.sampled_from("AaÄß0^=-.& 山や\u0308\\\n"), max_size=12)
PATIENTS = st.builds(
    Patient,
    patient_id=TEXTS,
    issuer=TEXTS,
    name=TEXTS,
    birth_date=st.one_of(st.sampled_from(["", "19610203", "1961", "3.2.1961"]), TEXTS),
    sex=st.sampled_from(["", "F", "M", "O", "f", "x"]),
    other_ids=st.lists(TEXTS, max_size=2).map(tuple),
    study_uid=st.sampled_from(["", "1.2", "1.3"]),
)


@given(PATIENTS, PATIENTS)
def test_texts_of_any_kind_are_compared_the_same_both_ways(first: Patient, second: Patient) -> None:
    assert patient_differences(first, first) == []
    assert patient_differences(first, Patient()) == []
    assert patient_differences(first, second) == patient_differences(second, first)
    both = combined([first, second])
    assert Patient.of_json(both.as_json()) == both


def test_an_order_adds_what_the_header_leaves_open_and_never_another_patient() -> None:
    header = Patient(patient_id="PAT-0001", study_uid="1.2.3", source="header")
    order = Patient(**JANE, source="worklist", stains=("HER2",), accession_issuer="LAB")
    both = combined([header, order])
    assert (both.source, both.issuer, both.name) == ("header", "HOSP", JANE["name"])
    assert (both.stains, both.accession_issuer, both.also) == (("HER2",), "LAB", ())
    other = Patient(patient_id="PAT-0002", name="Maier^Eva", source="worklist")
    both = combined([Patient(), header, other])
    assert (both.patient_id, both.name, both.also) == ("PAT-0001", "", (other,))
    assert combined([Patient(), other]) == other


def test_an_issuer_goes_with_its_own_id_alone() -> None:
    header = Patient(patient_id="A-1", other_ids=("B-1^^^B",))
    order = Patient(patient_id="B-1", issuer="B")
    assert combined([header, order]).issuer == ""
    # An ID of the order stays known beside another one of the header.
    header = Patient(patient_id="B-1", issuer="B", other_ids=("C-1",))
    order = Patient(patient_id="A-1", issuer="A", other_ids=("B-1^^^B",))
    both = combined([header, order])
    assert (both.also, both.patient_id, both.issuer) == ((), "B-1", "B")
    assert both.other_ids == ("A-1^^^A", "C-1")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield made
    made.close()


def read_pair(ledger: Ledger, he: Patient, ihc: Patient, overruled: str = "[]") -> None:
    """Add a block whose slides are read, and let its case become ready."""
    with ledger.transaction() as tx:
        for stain, patient in ((HE, he), (HER2, ihc)):
            slide = tx.add_slide(f"S26-1_A1_{stain}.svs", 1.0)
            slide.accession, slide.block, slide.stain = "S26-1", "A1", stain
            slide.patient = patient.as_json()
            for state in ("arrived", "identified", "inspected", "read"):
                tx.advance(slide, SlideState(state), now=1.0)
        identity = Identity(accession="S26-1", block="A1", stain=HER2)
        case = tx.case_for(identity, 1.0, HER2_PAIR)
        case.overruled = overruled
        make_ready(tx, case, 2.0)


def only_case(ledger: Ledger) -> CaseRow:
    with ledger.transaction() as tx:
        (case,) = tx.cases()
    return case


def test_a_case_of_two_patients_is_held_with_both_shown(ledger: Ledger) -> None:
    other = Patient(**(JANE | {"patient_id": "PAT-0002", "birth_date": "19700101"}))
    read_pair(ledger, Patient(**JANE), other)
    case = only_case(ledger)
    assert (case.state, case.reason) == (CaseState.HELD, "patients-differ")
    told = say("case", case.reason, params_of(case) | {"subject": case.subject})
    assert told.startswith(
        "The two slides name different patients: ID PAT-0001 of HOSP, born 19610203 and ID "
        "PAT-0002 of HOSP, born 19700101."
    )
    assert "tandem identify keep case-1 --by" in told
    assert JANE["name"] not in told


def test_the_order_of_another_patient_holds_the_case_and_is_named(ledger: Ledger) -> None:
    order = Patient(patient_id="PAT-0002", source="worklist")
    header = Patient(**JANE, source="header")
    read_pair(ledger, combined([header, order]), header)
    case = only_case(ledger)
    assert (case.state, case.reason) == (CaseState.HELD, "patients-differ")
    assert say("case-trouble", case.reason, params_of(case)) == (
        "The HE slide and its order name different patients: ID PAT-0001 of HOSP (header) and ID "
        "PAT-0002 (worklist)."
    )


def test_orders_that_contradict_each_other_hold_the_case(ledger: Ledger) -> None:
    orders = [Patient(patient_id=f"P-{n}", source=s) for n, s in ((1, "worklist"), (2, "csv"))]
    read_pair(ledger, combined([Patient(), *orders]), combined([Patient(), *orders]))
    case = only_case(ledger)
    assert case.state == CaseState.HELD
    assert say("case-trouble", case.reason, params_of(case)) == (
        "Orders of the HE slide name different patients: ID P-1 (worklist) and ID P-2 (csv)."
    )


@pytest.mark.parametrize(
    ("changes", "overruled"),
    [
        ({}, []),
        ({"study_uid": "9.9"}, []),
        ({"patient_id": "", "name": ""}, []),
        ({"patient_id": "PAT-0002"}, ["patients-differ"]),
    ],
)
def test_one_patient_and_a_persons_word_let_the_case_go(
    ledger: Ledger, changes: dict[str, Any], overruled: list[str]
) -> None:
    read_pair(ledger, Patient(**JANE), Patient(**(JANE | changes)), json.dumps(overruled))
    assert only_case(ledger).state == CaseState.READY


def test_a_merge_in_the_settings_lets_held_cases_go(ledger: Ledger, tmp_path: Path) -> None:
    read_pair(ledger, Patient(**JANE), Patient(**(JANE | {"patient_id": "PAT-0002"})))
    for merged, state in (
        ((("PAT-0001", "PAT-0009"),), CaseState.HELD),
        ((("PAT-0001", "PAT-0002"),), CaseState.READY),
    ):
        settings = Settings(state_dir=tmp_path, patients=Patients(merged=merged))
        with ledger.transaction() as tx:
            let_merged_go(tx, settings, 3.0)
        assert only_case(ledger).state == state
    case = only_case(ledger)
    assert (case.reason, json.loads(case.overruled)) == ("", ["patients-differ"])


def test_what_the_rows_of_an_earlier_schema_hold_is_no_difference(ledger: Ledger) -> None:
    read_pair(ledger, Patient(), Patient(**JANE))
    case = only_case(ledger)
    with ledger.transaction() as tx:
        slides = tx.current_slides("S26-1", "A1", (HE, HER2))
        assert slides[HE].patient == "{}"
    assert case.state == CaseState.READY and held_for(case, slides) is None


def test_an_order_names_the_patient_in_place_of_a_placeholder() -> None:
    header = Patient(patient_id="NA", issuer="SCANNER", name="NA^NA", sex="F", source="header")
    said = combined([header, Patient(**JANE, source="worklist")])
    assert (said.patient_id, said.issuer, said.name) == ("PAT-0001", "HOSP", JANE["name"])
    assert said.also == () and said.is_known and not header.is_known


BORN, LATER = "19610203", "19330101"


@pytest.mark.parametrize("issuers", [("", ""), ("KLINIK", ""), ("KLINIK", "KLINIK&1.2&ISO")])
@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        (("Muster^Anna", BORN, "F"), ("Schmidt^Anna", BORN, "F"), 1),
        (("Muster^Anna", BORN, "F"), ("Muster^Anna", LATER, "F"), 1),
        (("Muster^Anna", BORN, "F"), ("Huber^Eva", "1961-02-03", ""), 1),
        (("Muster^Anna", "", ""), ("Anna^Schmidt", BORN, "F"), 1),
        (("Muster^Anna", BORN, "F"), ("Schmidt^Anna", LATER, "F"), 2),
        (("Muster^Anna", BORN, "F"), ("Muster^Anna", LATER, "M"), 2),
        (("Muster^Anna", BORN, "F"), ("Huber^Otto", BORN, "M"), 2),
        # Nothing of the name is left, and no day of birth says that it is one patient.
        (("Muster^Anna", "", ""), ("Huber^Otto", "", ""), 2),
        (("Muster^Dr. Anna", BORN, ""), ("Huber^Dr. Otto", "1961", ""), 2),
        (("Muster^Anna^^Dr.", "", ""), ("Huber^Otto^^Dr.", "", ""), 2),
        (("Muster, Anna", "", ""), ("Anna Schmidt", "", ""), 1),
        (("Müller^Eva", "", ""), ("Lang-Mueller^Ina", "", ""), 1),
        (("Yamada^Hanako=山田^花子", "", ""), ("=山田^太郎", "", ""), 1),
        (("Muster^Anna", "", "F"), ("Huber^Otto", "", "M"), 3),
        (("Muster^Anna", BORN, "F"), ("Schmidt^Anna", LATER, "M"), 3),
    ],
)
def test_one_number_is_one_patient_as_far_as_the_rest_allows(
    one: tuple[str, str, str], other: tuple[str, str, str], far: int, issuers: tuple[str, str]
) -> None:
    first, second = (
        NamedPatient(patient_id="P-1", issuer=issuer, name=name, birth_date=born, sex=sex)
        for issuer, (name, born, sex) in zip(issuers, (one, other), strict=True)
    )
    told = patient_differences(first, second)
    is_day = one[1] == other[1].replace("-", "") == BORN
    is_other = far > 2 if all(issuers) else not (told == ["name"] and is_day)
    for pair in ((first, second), (second, first)):
        assert another_patient(*pair) == (told if is_other else [])


@pytest.mark.parametrize(
    ("types", "goes"),
    [
        (("MR", "MR"), True),
        (("mr", "MR"), True),
        (("", "MR"), True),  # tables, and orders of earlier editions, state no types
        (("MR", ""), True),
        (("MR", "AN"), False),
        (("", "VN"), False),
        (("MR", "NH"), False),
    ],
)
def test_an_id_takes_the_place_of_one_that_may_be_of_its_type(
    types: tuple[str, str], goes: bool
) -> None:
    former = NamedPatient(patient_id="4711", issuer="KLINIK", other_ids=("N1^^^NHS",))
    stated = NamedPatient(patient_id="N1", issuer="NHS", other_ids=("5^^^KLINIK",))
    ids = ("4711^^^KLINIK", "5^^^KLINIK")
    typed = [f"{each}^{kind}" for each, kind in zip(ids, types, strict=True) if kind]
    left = without_given_up(former, stated, typed=typed)
    assert (left.patient_id, left.other_ids) == ("" if goes else "4711", ("N1^^^NHS",))
