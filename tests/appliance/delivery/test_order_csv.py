"""Orders of a table, as spreadsheets and laboratory systems write it."""

from __future__ import annotations

import os
import time
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.delivery import order_csv, order_files
from appliance.delivery.order_csv import parse_csv, read_csv
from appliance.delivery.order_files import OrdersRead, decoded
from appliance.delivery.orders import ask_orders, check_order_files, order_of
from appliance.errors import WorklistUnavailableError
from appliance.settings.orders import Orders
from appliance.settings.settings import Settings
from dicom.order import Order, one_patient

GERMAN = (
    "Fallnummer;Pat.-Nr.;Nachname;Vorname;Geb.-Datum;Geschlecht;Färbung;Block;Objektträger-ID\n"
    "S26-00031;4711;Müller;Jana;03.02.1961;w;HER2, H&E;A1;S26-00031-A1-3\n"
)


def parsed(text: str, form: str = "", **columns: str) -> OrdersRead:
    return parse_csv("orders.csv", text, columns, form)


def written(path: Path, data: bytes) -> Path:
    """Write a file whose last change is a minute ago."""
    path.write_bytes(data)
    os.utime(path, (time.time() - 60, time.time() - 60))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_table_is_read_in_any_writing(
    encoding: str, delimiter: str, ending: str, tmp_path: Path
) -> None:
    text = GERMAN.replace("HER2, H&E", "HER2").replace(";", delimiter).replace("\n", ending)
    read = read_csv(written(tmp_path / "orders.csv", text.encode(encoding)), Orders())
    (order,) = read.of("s26-00031")
    assert read.problems == ()
    assert (order.patient_id, order.patient_name) == ("4711", "Müller^Jana")
    assert (order.patient_birth_date, order.patient_sex) == (date(1961, 2, 3), "F")
    (specimen,) = order.specimens
    assert (specimen.block, specimen.container_id) == ("A1", "S26-00031-A1-3")
    assert order.asked == ("HER2",)


def test_columns_have_the_names_of_the_site_or_those_that_are_known() -> None:
    text = "Nr;Accession Number;Patient ID;Name;DOB\n7;S26-1;P1;Muster, Anna;12/31/1960\n"
    (order,) = parsed(text, "%m/%d/%Y").of("S26-1")
    assert (order.patient_name, order.patient_birth_date) == ("Muster^Anna", date(1960, 12, 31))
    assert not parsed(text, accession="Nr").of("S26-1")
    assert parsed(text, accession="Nr").of("7")


@pytest.mark.parametrize(
    ("head", "accession", "told"),
    [
        ("Fallnummer;Histologienummer;Patientennummer", "2", ""),
        ("Order Number;Accession Number;MRN", "2", ""),
        ("Accession;Case;MRN", "1", ""),
        ("Fall-Nr;Eingangsnummer;Pat-Nr", "2", ""),
        (
            "Fallnummer;Auftragsnummer;Pat-Nr",
            "",
            "may be the accession: Fallnummer, Auftragsnummer",
        ),
        ("Accession;Histo-Nr;Pat-Nr", "", "may be the accession: Accession, Histo-Nr"),
        ("Accession;PID;MRN", "", "may be the patient ID: PID, MRN"),
        ("Accession;MRN;MRN", "", "may be the patient ID: MRN, MRN"),
    ],
)
def test_two_columns_that_may_be_one_fact(head: str, accession: str, told: str) -> None:
    read = parsed(f"{head}\n1;2;3\n")
    assert list(read.orders) == ([accession] if accession else [])
    assert [told in problem.sentence for problem in read.problems] == [True] * bool(told)
    if told:
        with pytest.raises(WorklistUnavailableError, match=r"Set orders\.columns"):
            check_order_files(read)
    chosen = parsed("Accession;PID;MRN\nS26-1;1;4711\n", patient_id="MRN")
    assert [order.patient_id for order in chosen.of("S26-1")] == ["4711"]


@pytest.mark.parametrize("columns", [{}, {"patient_id": "MRN"}])
def test_a_column_that_is_there_twice_is_one_where_its_cells_agree(
    columns: dict[str, str],
) -> None:
    head = "Accession;MRN;Stain;mrn;Accession\n"
    rows = "S1;4711;HE;4711;S1\nS2;4711;HE;4712;S2\nS3;;HE;4713;S3\nS4;1;HE;1;S5\nS6;;HE;;S6\n"
    read = parsed(head + rows, **columns)
    found = {accession: order.patient_id for accession, (order,) in read.orders.items()}
    assert found == {"s1": "4711", "s3": "4713"}
    assert [(each.line, each.whole, each.text[21:]) for each in read.problems] == [
        (3, False, "its columns of the patient ID differ"),
        (5, False, "its columns of the accession differ"),
        (6, False, "it has no patient ID"),
    ]
    assert parsed(head).problems == ()


@pytest.mark.parametrize(
    ("head", "cells", "name"),
    [
        ("Name;Vorname", "Meier;Anna", "Meier^Anna"),
        ("Name;Vorname", "von der Berg;Anna", "von der Berg^Anna"),
        ("Name;Vorname", "Meier;", "Meier"),
        ("Name;Vorname", ";Anna", "^Anna"),
        ("Patient Name;First Name", '"Meier, Anna";Anna', "Meier^Anna"),
        ("Patient Name;First Name", "Meier^Anna;Anna", "Meier^Anna"),
        ("Patient Name;First Name", "Meier Anna;Anna", "Meier Anna"),
        ("Name;Vorname", "MEIER ANNA;Anna", "MEIER ANNA"),
        ("Name;Vorname", "Meier Anna;Anna Maria", "Meier Anna"),
        ("Name;Vorname", "Peter;Peter", "Peter^Peter"),
        ("Name;Vorname", "PETER;Peter Karl", "PETER^Peter Karl"),
        ("Nachname;Vorname;Name", "Meier;Anna;A. Meier", "Meier^Anna"),
        ("Nachname;Vorname;Name", ";;Meier", "Meier"),
    ],
)
def test_a_name_beside_a_given_name_is_that_of_the_family(head: str, cells: str, name: str) -> None:
    (order,) = parsed(f"Fall-Nr;PID;{head}\nS26-1;4711;{cells}\n").of("S26-1")
    assert order.patient_name == name
    slide = Order(patient_id="4711", patient_name="Huber^Anna")
    assert one_patient([order, slide]) is (name == "^Anna")


def test_a_row_has_the_numbers_of_its_order() -> None:
    head = (
        "Accession;Patient ID;Stain;Block;Placer Order Number;Filler No.;Requested Procedure ID\n"
    )
    row = "S26-1;P1;HER2;A1;A-1;F-1;RP-1\n"
    (order,) = parsed(head + row, filler="Filler No.").of("S26-1")
    (request,) = order.requests
    assert (request.placer, request.filler, request.procedure_id) == ("A-1", "F-1", "RP-1")
    assert (request.procedure, request.asked, request.blocks) == ("HER2", ("HER2",), ("A1",))
    assert parsed(GERMAN).of("S26-00031")[0].requests == ()


def test_excels_line_quotes_remarks_and_several_stains() -> None:
    text = (
        "sep=;\n\n"
        'Accession;"Patient ID";Stain;Remark\n'
        'S26-1;"P1";HER2, ER;"two\nlines; of text"\n'
        "\n;;;\n"
        "S26-1;P1;H&E;\n"
    )
    read = parsed(text)
    assert read.problems == ()
    assert [order.asked for order in read.of("S26-1")] == [("HER2", "ER"), ("H&E",)]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "is empty"),
        ("\n\n", 1, "is empty"),
        ("S26-1;P1;Müller\n", 1, "no column for the accession and for the patient ID"),
        ("Fallnummer;Name\nS26-1;Müller\n", 1, "no column for the patient ID"),
        ("sep=,\nPatient ID,Name\n", 2, "no column for the accession"),
    ],
)
def test_wrong_columns_are_told_with_the_remedy_and_without_a_value(
    text: str, line: int, told: str
) -> None:
    read = parsed(text)
    (problem,) = read.problems
    assert (read.orders, problem.whole, problem.line) == ({}, True, line)
    assert told in problem.sentence and "orders.csv, line" in problem.sentence
    assert "Müller" not in problem.sentence and "S26" not in problem.sentence


def test_a_bad_row_is_told_by_its_line_and_the_others_are_used() -> None:
    rows = [
        "S26-1;P1;19610203",
        "S26-2;P2",
        ";P3;19610203",
        "S26-4;;19610203",
        'S26-5;"P5;19610203',
        "S26-6;P6;19610203;;",
        "S26-7;P7;19610203;too;many",
        "S26-8;P8;31.02.1961",
        f"S26-9;{'9' * 65};19610203",
        "S26-10;P\x0710;19610203",
        "S26-11;P11;19610203",
    ]
    read = parsed("Accession;Patient ID;DOB\n" + "\n".join(rows) + "\n")
    assert set(read.orders) == {"s26-1", "s26-6", "s26-8", "s26-11"}
    assert [problem.line for problem in read.problems] == [3, 4, 5, 6, 8, 9, 10, 11]
    assert read.of("S26-8")[0].patient_birth_date is None
    told = " ".join(problem.sentence for problem in read.problems)
    assert "P2" not in told and "S26" not in told and "999" not in told


@pytest.mark.parametrize(
    ("cell", "form", "born"),
    [
        ("19610203", "", date(1961, 2, 3)),
        ("3.2.1961", "", date(1961, 2, 3)),
        ("1961-2-3", "", date(1961, 2, 3)),
        ("03021961", "%d%m%Y", date(1961, 2, 3)),
        *((f"03.02.{year}", "%d.%m.%y", date(1900 + year, 2, 3)) for year in (61, 71)),
        # 6111-01-02, 1961-11-02, the year 311, 3 or 30 February, and a year to come.
        ("611112", "", None),
        ("1961112", "", None),
        ("031161", "", None),
        ("3021961", "%d%m%Y", None),
        ("03.02.1161", "", None),
        ("03.02.2961", "", None),
    ],
)
def test_a_date_of_birth_has_all_its_digits_and_a_year_of_the_living(
    cell: str, form: str, born: date | None
) -> None:
    read = parsed(f"Accession;Patient ID;DOB\nS26-1;P1;{cell}\n", form)
    assert [order.patient_birth_date for order in read.of("S26-1")] == [born]
    told = ["the date of birth cannot be read" in problem.text for problem in read.problems]
    assert told == [True] * (born is None)


@pytest.mark.parametrize(
    ("cell", "form", "today", "born"),
    [
        ("2026-12-01", "", date(2026, 11, 30), date(2026, 12, 1)),
        ("01.12.26", "%d.%m.%y", date(2026, 11, 30), date(2026, 12, 1)),
        ("02.12.26", "%d.%m.%y", date(2026, 11, 30), date(1926, 12, 2)),
        ("1985-02-03", "", date(1970, 1, 2), date(1985, 2, 3)),
        ("03.02.85", "%d.%m.%y", date(1970, 1, 2), date(1985, 2, 3)),
        ("2096-12-01", "", date(2026, 11, 30), None),
    ],
)
def test_a_date_of_birth_is_that_of_the_table_whatever_the_clock_says(
    cell: str, form: str, today: date, born: date | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newborn of a zone that is ahead, and a machine that lost its time."""

    class Clock(date):
        @classmethod
        def today(cls) -> Clock:
            return cls(today.year, today.month, today.day)

    for module in (order_csv, order_files):
        monkeypatch.setattr(module, "date", Clock)
    read = parsed(f"Accession;Patient ID;DOB\nS26-1;P1;{cell}\n", form)
    assert [order.patient_birth_date for order in read.of("S26-1")] == [born]


def test_what_excel_makes_of_numbers_is_no_number() -> None:
    read = parsed(
        "Accession;Patient ID;Name;Placer;Block\n"
        '="S26-1";"=""0004711""";="Meyer^Anna";4,7E+11;="A1"\n'
        "S26-2;4,71123E+11;Meyer^Anna;P2;A1\n"
        "2.6E+10;4712;Huber^Eva;P3;A1\n"
        "S26-3;2E-31;Huber^Eva;P4;A1\n"
    )
    assert set(read.orders) == {"s26-1", "s26-3"}
    (order,) = read.of("S26-1")
    assert (order.patient_id, order.patient_name) == ("0004711", "Meyer^Anna")
    assert (order.requests, order.specimens[0].block) == ((), "A1")
    assert read.of("S26-3")[0].patient_id == "2E-31"
    assert [(problem.line, "rounded by Excel" in problem.text) for problem in read.problems] == [
        (2, True),
        (3, True),
        (4, True),
    ]
    assert not any("711" in problem.sentence for problem in read.problems)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_letter_that_is_cut_makes_no_other_letter_wrong(mark: bytes, tmp_path: Path) -> None:
    rows = ["S26-1;4711;Müller^Jörg;ok", "S26-2;4712;Groß^Eva;Prä", "S26-3;4713;Weiß^Eva;"]
    data = "\n".join(["Accession;Patient ID;Name;Remark", *rows, ""]).encode()
    cut = data.replace("Prä".encode(), "Prä".encode()[:-1])
    read = read_csv(written(tmp_path / "orders.csv", mark + cut), Orders())
    names = [read.of(f"S26-{number}")[0].patient_name for number in (1, 2, 3)]
    assert names == ["Müller^Jörg", "Groß^Eva", "Weiß^Eva"]
    (problem,) = read.problems
    assert (problem.line, problem.used) == (3, True) and "not in UTF-8" in problem.sentence
    # A name that was cut is left out; rows that another system appended are read as they are.
    cut = data.replace("Groß".encode(), "Groß".encode()[:-1]) + "S26-4;4714;Jäger^Ute;\n".encode(
        "cp1252"
    )
    read = read_csv(written(tmp_path / "cut.csv", mark + cut), Orders())
    assert [read.of(f"S26-{number}")[0].patient_name for number in (2, 4)] == ["", "Jäger^Ute"]
    assert [problem.line for problem in read.problems] == [3, 3]
    assert "and 1 more are not in UTF-8" in read.problems[1].text


def test_an_open_quote_swallows_no_row_in_silence() -> None:
    text = 'Accession;Patient ID;Remark\nS26-1;P1;"begun\nS26-2;P2;\nS26-3;P3;"\nS26-4;P4;fine\n'
    read = parsed(text)
    assert {"s26-2", "s26-4"} <= set(read.orders)
    assert {problem.line for problem in read.problems} == {2, 4}


def test_a_table_that_is_being_written_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "orders.csv", time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    path.write_text("Accession;Patient ID\nS26-1;P47")
    os.utime(path, (now - 1, now - 1))
    with pytest.raises(WorklistUnavailableError, match="being written"):
        read_csv(path, Orders())
    written(path, b"Accession;Patient ID\nS26-1;P4711")
    assert read_csv(path, Orders()).of("S26-1")[0].patient_id == "P4711"
    written(path, b"Accession;Patient ID\nS26-1;P4712\n")
    assert read_csv(path, Orders()).of("S26-1")[0].patient_id == "P4712"


@pytest.mark.parametrize("age_s", [3, 50, -30, -3600, 3600])
def test_a_last_line_without_an_end_is_used_late_and_with_a_note(
    age_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut lies within the patient ID 4711234."""
    path, now = tmp_path / "orders.csv", time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    path.write_text("Accession;Patient ID\nS26-1;P1\nS26-2;471")
    os.utime(path, (now - age_s, now - age_s))
    read = read_csv(path, Orders())
    old = age_s > 60
    assert [order.patient_id for order in read.of("S26-1")] == ["P1"]
    assert [order.patient_id for order in read.of("S26-2")] == (["471"] if old else [])
    assert [(problem.line, problem.used) for problem in read.problems] == [(3, old)]
    told = check_order_files(read)
    assert "line 3: it has no line end" in told and ("not used" in told) != old
    assert "471" not in told


def test_a_last_line_without_an_end_is_used_a_minute_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "orders.csv", time.time()
    path.write_text("Accession;Patient ID\nS26-1;P1")
    monkeypatch.setattr(time, "time", lambda: now + 5)
    assert read_csv(path, Orders()).of("S26-1") == ()
    monkeypatch.setattr(time, "time", lambda: now + 65)
    assert read_csv(path, Orders()).of("S26-1")[0].patient_id == "P1"


def test_a_last_line_without_an_end_is_used_in_a_table_that_is_always_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The laboratory's system rewrites the table twice a minute; each is read when 20 s old."""
    path, now = tmp_path / "orders.csv", time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    def rewritten(rows: str, at_s: float) -> list[str]:
        path.write_text(f"Accession;Patient ID\nS26-1;P1\n{rows}")
        os.utime(path, (now - 20 + at_s, now - 20 + at_s))
        return sorted(read_csv(path, Orders()).orders)

    assert rewritten("S26-2;P2", -90) == ["s26-1", "s26-2"]  # old enough by itself
    for at_s in (-30, -29, 0):  # another cut of a new row, and a time that is set anew
        assert rewritten("S26-2;P2\nS26-3;P3", at_s) == ["s26-1", "s26-2"]
    assert rewritten("S26-2;P2\nS26-3;P34", 1) == ["s26-1", "s26-2"]
    assert rewritten("S26-2;P2\nS26-3;P34", 35) == ["s26-1", "s26-2"]
    assert rewritten("S26-2;P2\nS26-3;P34", 65) == ["s26-1", "s26-2", "s26-3"]
    (problem,) = read_csv(path, Orders()).problems
    assert problem.used and problem.line == 4
    assert rewritten("S26-2;P2\nS26-4;P4", 66) == ["s26-1", "s26-2"]


def test_the_whole_table_replaces_an_order_whose_row_was_cut(tmp_path: Path) -> None:
    path, table = tmp_path / "orders.csv", b"Name;Accession;Patient ID\nMuster^Anna;S26-1;4711234"
    settings = Settings(state_dir=tmp_path / "state", orders=Orders(csv=path))
    written(path, table[:-4])
    answer = ask_orders("S26-1", settings)
    assert answer.order is not None and answer.order.patient_id == "471"
    assert "may be cut" in answer.problems[0]
    written(path, table)
    answer = ask_orders("S26-1", settings)
    assert answer.order is not None and answer.order.patient_id == "4711234"
    assert "another patient" in answer.note
    study, _ = order_of("S26-1", settings)
    assert study is not None and study.patient_id == "4711234"


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    for head in (b"", b"Accession;Patient ID;Name\n"):
        read = parse_csv("orders.csv", decoded(head + data), {}, "")
        assert all(problem.line >= 1 for problem in read.problems)
