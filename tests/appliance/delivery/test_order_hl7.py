"""Orders of HL7 v2 messages in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.delivery import order_hl7
from appliance.delivery.order_entry import OrderEntry
from appliance.delivery.order_files import OrdersRead
from appliance.delivery.order_hl7 import parse_messages, read_hl7
from appliance.errors import WorklistUnavailableError
from appliance.settings.orders import Orders
from dicom.order import Order

FIELDS = Orders().hl7_accession
PID = "PID|1||4711^^^KLINIK&1.2.3&ISO^MR~77^^^KASSE^SS||Müller^Jana^Maria^^Dr.^^L|Weiß|19610203|F\r"


def message(
    kind: str = "OML^O21^OML_O21",
    *segments: str,
    at: str = "20261120101112",
    pid: str = PID,
    charset: str = "UNICODE UTF-8",
) -> str:
    head = f"MSH|^~\\&|LIS|LAB|TANDEM|PATH|{at}||{kind}|42|P|2.5.1||||||{charset}\r"
    return head + pid + "".join(f"{segment}\r" for segment in segments)


ORC, OBR = "ORC|NW|P-1|F-1", "OBR|1|P-1|F-1|HER2^HER2 IHC^L" + "|" * 14 + "S26-00031"
SPM = "SPM|1|S26-00031;A1&LIS^||TISS"


def put(folder: Path, name: str, text: str | bytes, age_s: float = 60) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(folder / name, (time.time() - age_s, time.time() - age_s))


def read(folder: Path) -> OrdersRead:
    return read_hl7(folder, Orders(hl7=folder))


def only(text: str) -> Order:
    (entry,), problems = parse_messages("one.hl7", text.encode(), FIELDS)
    assert problems == ()
    assert entry.order is not None
    return entry.order


def test_a_message_tells_patient_issuer_study_specimens_and_stains() -> None:
    order = only(
        message(
            "OML^O21^OML_O21",
            "PV1|1|O||||||88^Weiß^Karl^^^Dr.",
            ORC,
            OBR,
            SPM,
            "SAC|||S26-00031;A1;3",
            "ZDS|1.2.276.0.99.1^LIS^Application^DICOM",
        )
    )
    assert (order.patient_id, order.issuer) == ("4711", "KLINIK&1.2.3&ISO")
    assert order.other_ids == ("77^^^KASSE",)
    assert order.patient_name == "Müller^Jana^Maria^Dr."
    assert (order.patient_birth_date, order.patient_sex) == (date(1961, 2, 3), "F")
    assert order.referring_physician == "Weiß^Karl^^Dr."
    assert order.uid == "1.2.276.0.99.1"
    assert order.asked == ("HER2 IHC",)
    (specimen,) = order.specimens
    assert specimen.specimen_id == "S26-00031;A1"
    assert (specimen.container_id, specimen.block) == ("S26-00031;A1;3", "A1")


def test_orders_by_specimen_and_plain_orders() -> None:
    text = message(
        "OML^O33^OML_O33",
        "SPM|1|S26-00031-A1||TISS",
        "ORC|NW|P-1",
        "OBR|1|P-1||HE^H&E",
        "ORC|NW|P-2",
        "OBR|2|P-2||HER2^HER2",
        "SPM|2|S26-00031-B1||TISS",
        "ORC|NW|P-3",
        "OBR|3|P-3||HE^H&E",
    )
    # The accession of this site is the placer's group number.
    text = text.replace("ORC|NW|P-1", "ORC|NW|P-1||S26-00031")
    text = text.replace("ORC|NW|P-2", "ORC|NW|P-2||S26-00031")
    text = text.replace("ORC|NW|P-3", "ORC|NW|P-3||S26-00031")
    entries, problems = parse_messages("one.hl7", text.encode(), ("ORC-4",))
    assert problems == ()
    orders = [entry.order for entry in entries]
    assert {entry.accession for entry in entries} == {"S26-00031"}
    assert [order.specimens[0].block for order in orders if order] == ["A1", "A1", "B1"]
    assert [order.asked for order in orders if order] == [("H&E",), ("HER2",), ("H&E",)]
    assert only(message("ORM^O01", ORC, OBR)).patient_id == "4711"


def test_the_numbers_of_each_order_with_their_issuers() -> None:
    order = only(
        message(
            "OML^O21^OML_O21",
            "ORC|NW|P-1^EHR|F-1^LIS&X^1.2.3^ISO",
            "OBR|1|||HE^H&E^L" + "|" * 14 + "S26-00031|RP-7",
            "OBR|2|P-2^EHR||HER2^HER2 IHC^L" + "|" * 14 + f"S26-00031|{'R' * 17}",
            "SPM|1|S26-00031;A1&LIS^||TISS",
        )
    )
    he, her2 = order.requests
    assert (he.placer, he.placer_issuer) == ("P-1", "EHR")
    assert (he.filler, he.filler_issuer) == ("F-1", "LIS&1.2.3&ISO")
    assert (he.procedure_id, he.procedure, he.asked) == ("RP-7", "H&E", ("H&E",))
    assert (her2.placer, her2.filler, her2.procedure_id) == ("P-2", "F-1", "")
    assert (her2.procedure, he.blocks, her2.blocks) == ("HER2 IHC", ("A1",), ("A1",))
    assert only(message("ORM^O01", "ORC|NW", "OBR|1" + "|" * 17 + "S26-00031")).requests == ()
    local = message("ORM^O01", "ORC|NW|P-1^EHR^7^L|F-1^^9^GUID", OBR.replace("P-1|F-1", "|"))
    (request,) = only(local).requests
    assert (request.placer_issuer, request.filler_issuer) == ("EHR", "")
    long = message("ORM^O01", f"ORC|NW|{'P' * 65}|F-1", OBR.replace("P-1", ""))
    (request,) = only(long).requests
    assert (request.placer, request.filler) == ("", "F-1")


def test_escapes_nulls_other_separators_and_name_groups() -> None:
    pid = r'PID|1||4711^^^""||M\T\M^A\S\B~山田^花子^^^^^^I||""|U' + "\r"
    order = only(message("ORM^O01", ORC, OBR, pid=pid))
    assert (order.patient_id, order.issuer) == ("4711", "")
    assert order.patient_name == "M&M^A B=山田^花子"
    assert (order.patient_birth_date, order.patient_sex) == (None, "")
    swapped = message("ORM^O01", ORC, OBR).replace("|^~\\&|", "\0").replace("^", "*")
    assert only(swapped.replace("\0", "|*~\\&|")).issuer == "KLINIK&1.2.3&ISO"


@pytest.mark.parametrize("ending", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_files_hold_messages_in_any_writing(ending: str, encoding: str, tmp_path: Path) -> None:
    texts = [message("ORM^O01", ORC, OBR), message("ORM^O01", ORC, OBR.replace("00031", "00032"))]
    text = "FHS|^~\\&\rBHS|^~\\&\r" + "".join(texts) + "BTS|2\rFTS|1\r"
    put(tmp_path / "in", "many.hl7", text.replace("\r", ending).encode(encoding))
    found = read(tmp_path / "in")
    assert found.problems == ()
    assert set(found.orders) == {"s26-00031", "s26-00032"}
    assert found.of("S26-00031")[0].patient_name.startswith("Müller^Jana")


@pytest.mark.parametrize(
    ("stated", "encoding", "name"),
    [
        ("8859/2", "iso8859-2", "Żak^Łukasz"),
        ("ISO-8859-2", "iso8859-2", "Dvořák^Šárka"),
        ("8859/2", "utf-8", "Żak^Łukasz"),
        ("8859/5", "iso8859-5", "ТАТА^Юрий"),
        ("8859/5", "iso8859-5", "ТАТА"),
        ("8859/7", "iso8859-7", "Παπαδάκη^Ελένη"),
        ("8859/9", "iso8859-9", "Yıldız^Ayşe"),
        ("8859/15", "iso8859-15", "Šimon^Œuvre"),
        ("8859/1", "latin-1", "Müller^Jörg"),
        ("8859/1", "utf-8", "Müller^Jörg"),
        ("ASCII", "cp1252", "Müller^Jörg"),
        ("", "cp1252", "Müller^Jörg"),
        ("WINDOWS-1250", "cp1250", "Żak^Śliwa"),
        ("~ISO IR87", "iso2022_jp", "山田^花子"),
        ("ASCII~ISO IR87~ISO IR159", "iso2022_jp_1", "山田^丂子"),
        ("GB 18030-2000", "gb18030", "張^丂"),
        ("KS X 1001", "euc_kr", "김^희중"),
        ("BIG-5", "big5", "許^功蓋"),
        ("UNICODE UTF-8", "utf-8", "山田^花子"),
        ("US-ASCII", "cp1252", "Müller^Jörg"),
        ("ANSI_X3.4-1968", "utf-8", "Müller^Jörg"),
        ("LATIN-1", "cp1252", "Müller^Jörg"),
        ("ISO_8859-1:1987", "latin-1", "Müller^Jörg"),
        ("MS1252", "cp1252", "Müller^Jörg"),
        ("ISO-10646-UTF-8", "utf-8", "Müller^Jörg"),
    ],
)
def test_the_text_is_in_the_set_that_the_message_states(
    stated: str, encoding: str, name: str
) -> None:
    text = message("ORM^O01", ORC, OBR, pid=f"PID|1||4711||{name}\r", charset=stated)
    other = message("ORM^O01", ORC, OBR.replace("00031", "00032"))
    entries, problems = parse_messages("a.hl7", text.encode(encoding) + other.encode(), FIELDS)
    assert problems == ()
    names = [entry.order.patient_name for entry in entries if entry.order]
    assert names == [name, "Müller^Jana^Maria^Dr."]


def test_a_letter_that_is_cut_is_told_where_it_is_the_patients() -> None:
    text = message("ORM^O01", ORC, OBR, "NTE|1||Prä", charset="").encode()
    cut = text.replace("Prä".encode(), "Prä".encode()[:-1])
    (entry,), problems = parse_messages("a.hl7", cut, FIELDS)
    assert problems == () and entry.order is not None
    assert entry.order.patient_name == "Müller^Jana^Maria^Dr."
    cut = text.replace("Müller".encode(), "Mü".encode()[:-1])
    entries, (problem,) = parse_messages("a.hl7", cut, FIELDS)
    assert entries == () and "letters that cannot be read" in problem.sentence


def test_escaped_bytes_are_in_the_set_of_the_message() -> None:
    pid = "PID|1||4711||\\XAF\\ak^\\XA3\\ukasz\r"
    text = message("ORM^O01", ORC, OBR, pid=pid, charset="8859/2")
    assert only(text).patient_name == "Żak^Łukasz"


@pytest.mark.parametrize("stated", ["ANSI", "NONE", "KOI8-R", "8859/15~UNICODE UTF-8"])
def test_a_message_of_ascii_alone_is_read_whatever_set_it_states(stated: str) -> None:
    pid = "PID|1||4711||Meyer^Anna\\X0A\\\r"
    assert only(message("ORM^O01", ORC, OBR, pid=pid, charset=stated)).patient_id == "4711"
    for other in ("\\XD8\\rij", "\x1b-LOrij", "Юрий"):
        text = message("ORM^O01", ORC, OBR, pid=f"PID|1||4711||{other}\r", charset=stated)
        entries, problems = parse_messages("a.hl7", text.encode(), FIELDS)
        assert (len(entries), len(problems)) == (0, 1)


@pytest.mark.parametrize(
    ("stated", "encoding", "told"),
    [
        ("KOI8-R", "koi8-r", "does not know"),
        ("8859/2~8859/5", "iso8859-2", "several"),
        ("8859/2", "cp1250", "another character set"),
        ("BIG-5", "cp1252", "another character set"),
    ],
)
def test_a_set_that_cannot_be_read_is_told(stated: str, encoding: str, told: str) -> None:
    pid = {"koi8-r": "Юрий", "cp1252": "M\xdf"}.get(encoding, "Śliwa")
    text = message("ORM^O01", ORC, OBR, pid=f"PID|1||4711||{pid}\r", charset=stated)
    good = message("ORM^O01", ORC, OBR)
    entries, problems = parse_messages("a.hl7", text.encode(encoding) + good.encode(), FIELDS)
    assert [entry.order.patient_name for entry in entries if entry.order] == [
        "Müller^Jana^Maria^Dr."
    ]
    (problem,) = problems
    assert told in problem.sentence and problem.line == 1
    others = text.replace("ORM^O01", "ADT^A08").encode(encoding)
    assert parse_messages("a.hl7", others, FIELDS) == ((), ())


def test_frames_of_a_connection_are_left_out(tmp_path: Path) -> None:
    framed = b"\x0b" + message("ORM^O01", ORC, OBR).encode() + b"\x1c\r"
    put(tmp_path / "in", "framed.hl7", framed)
    assert read(tmp_path / "in").of("S26-00031")


def test_a_later_message_replaces_or_takes_back_the_order(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    other = PID.replace("4711", "815")
    put(folder, "2.hl7", message("ORM^O01", ORC, OBR, at="20261120"))
    put(folder, "1.hl7", message("ORM^O01", ORC, OBR, at="20261121", pid=other))
    assert [order.patient_id for order in read(folder).of("S26-00031")] == ["815"]
    # Another order of the accession stands beside it.
    second = [line.replace("P-1", "P-2") for line in (ORC, OBR)]
    put(folder, "3.hl7", message("ORM^O01", *second, at="20261122"))
    assert {order.patient_id for order in read(folder).of("S26-00031")} == {"815", "4711"}
    taken = ORC.replace("NW", "CA")
    put(folder, "4.hl7", message("ORM^O01", taken, OBR, at="20261123"))
    assert [order.patient_id for order in read(folder).of("S26-00031")] == ["4711"]
    put(folder, "5.hl7", message("ORM^O01", ORC, OBR, at="20261124"), age_s=91 * 86400)
    assert [order.patient_id for order in read(folder).of("S26-00031")] == ["4711"]


def ordered(*lines: str) -> list[str]:
    """Segments of orders ``control placer filler code``; ``-`` is empty."""
    found = []
    for line in lines:
        control, *parts = line.replace("-", "").split(" ")
        placer, filler, code = parts
        found += [f"ORC|{control}|{placer}|{filler}", f"OBR|1|{placer}|{filler}|{code}"]
    return found


def asked_of(read: OrdersRead, accession: str) -> list[str]:
    return sorted(text for order in read.of(accession) for text in order.asked)


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        ([("NW - S1 HE", "NW - S1 HER2", "NW - S1 KI67")], ["HE", "HER2", "KI67"]),
        ([("NW P100 S1 HE", "NW P100 S1 HER2")], ["HE", "HER2"]),
        ([("NW - S1 HER2",), ("NW - S1 KI67",)], ["HER2", "KI67"]),
        ([("NW P100 S1 HER2", "CA P100 S1 KI67")], ["HER2"]),
        ([("NW P100 S1 HER2", "NW P100 S1 KI67"), ("CA P100 S1 KI67",)], ["HER2"]),
        ([("NW P100 S1 HER2", "NW P100 S1 KI67"), ("CA P100 S1 -",)], []),
        ([("NW P100 S1 HER2",), ("XO P100 S1 HER2",), ("CA P100 S1 HER2",)], []),
        ([("NW P1^A S1 HER2",), ("CA P1^B S1 HER2",)], ["HER2"]),
        ([("NW P1^A S1 HER2",), ("CA P1 S1 HER2",)], []),
        ([("NW P1 S1 HER2", "CA P1 S1 HER2")], []),
        # The test by its text, its other code, or one of several.
        ([("NW P1 S1 H2^HER2",), ("CA P1 S1 ^her2",)], []),
        ([("NW P1 S1 H2^HER2^L^99",), ("CA P1 S1 99^^C",)], []),
        ([("NW P1 S1 HER2\rOBR|2|P1|S1|ER",), ("CA P1 S1 ER",)], []),
        ([("NW P1 S1 H2^HER2",), ("XO P1 S1 ^HER2\rOBR|2|P1|S1|ER",)], ["ER", "HER2"]),
        # One number for all orders of a case, and one billing code for all stains.
        (
            [("NW P1 S1 H2^HER2^L^99^IHC^C",), ("XO P1 S1 K6^KI67^L^99^IHC^C",)],
            ["HER2", "IHC", "IHC", "KI67"],
        ),
        ([("NW P1 S1 H2^HER2^L^99^IHC^C",), ("CA P1 S1 K6^KI67^L^99^IHC^C",)], ["HER2", "IHC"]),
        *(
            ([(f"NW P1 S1 {her2}^99^IHC^C",), (f"{control} P1 S1 K6^KI67^L^99^IHC^C",)], asked)
            for her2 in ("85319-2^HER2^LN", "^HER2^")
            for control, asked in (("NW", ["HER2", "IHC", "IHC", "KI67"]), ("CA", ["HER2", "IHC"]))
        ),
        ([("NW P1 S1 ^^^99^IHC^C",), ("CA P1 S1 K6^KI67^L^99^IHC^C",)], []),
    ],
)
def test_orders_that_share_a_number_do_not_replace_each_other(
    messages: list[tuple[str, ...]], asked: list[str], tmp_path: Path
) -> None:
    for number, lines in enumerate(messages):
        text = message("OML^O21", *ordered(*lines), at=f"202611201011{number:02}")
        put(tmp_path / "in", f"{number}.hl7", text)
    found = read(tmp_path / "in")
    assert found.problems == ()
    assert asked_of(found, "S1") == asked
    # One file may hold them all.
    joined = b"".join((tmp_path / "in" / f"{n}.hl7").read_bytes() for n in range(len(messages)))
    put(tmp_path / "one", "all.hl7", joined)
    assert asked_of(read(tmp_path / "one"), "S1") == asked


def test_the_last_message_about_an_order_decides_its_accession(tmp_path: Path) -> None:
    def send(name: str, line: str, pid: str = PID) -> list[str]:
        at = f"2026112010{len(list(tmp_path.rglob('*.hl7'))):02}"
        put(tmp_path / "in", name, message("OML^O21", *ordered(line), at=at, pid=pid))
        return sorted(read(tmp_path / "in").orders)

    assert send("1.hl7", "NW P1 S1 HER2") == ["s1"]
    assert send("2.hl7", "XO P1 S2 HER2") == ["s2"]
    assert send("3.hl7", "CA P1 S2 HER2") == []
    # Systems that number the orders of each message from 1: another patient's is another order.
    other = PID.replace("4711", "815")
    assert send("4.hl7", "NW 1 S3 HER2") == ["s3"]
    assert send("5.hl7", "XO 1 S4 HER2", other) == ["s3", "s4"]
    assert send("6.hl7", "NW 1 S5 HER2", other) == ["s3", "s4", "s5"]
    # An issuer makes the number one order's, whoever the patient is, unless the order is new.
    assert send("7.hl7", "NW 9^EHR S6 HER2") == ["s3", "s4", "s5", "s6"]
    assert send("8.hl7", "XO 9^EHR S7 HER2", other) == ["s3", "s4", "s5", "s7"]
    assert send("9.hl7", "NW 9^EHR S8 HER2") == ["s3", "s4", "s5", "s7", "s8"]
    # A clinician's number is that of two cases.
    assert send("10.hl7", "NW 9^EHR S9 HER2") == ["s3", "s4", "s5", "s7", "s8", "s9"]


def test_a_message_about_one_case_ends_no_other_cases_order(tmp_path: Path) -> None:
    other = PID.replace("4711", "815").replace("Müller", "Huber").replace("77^", "78^")

    def left(name: str, *sent: tuple[str, str]) -> list[str]:
        for number, (line, pid) in enumerate(sent):
            text = message("OML^O21", *ordered(line), at=f"202611201011{number:02}", pid=pid)
            put(tmp_path / name, f"{number}.hl7", text)
        return sorted(read(tmp_path / name).orders)

    # One patient, and orders that are numbered from 1 without an issuer.
    two = [("NW 1 - HER2" + CASE.format(case), PID) for case in ("S1", "S2")]
    assert left("a", *two, ("SC 1 - HER2" + CASE.format("S2"), PID)) == ["s1", "s2"]
    assert left("b", *two, ("CA 1 - HER2" + CASE.format("S2"), PID)) == ["s1"]
    # With an issuer, and of two patients.
    two = [("NW 1^LIS - HER2" + CASE.format(c), p) for c, p in (("S1", PID), ("S2", other))]
    assert left("c", *two, ("CA 1^LIS - HER2" + CASE.format("S2"), other)) == ["s1"]
    # A case whose new order is not here.
    assert left("d", *two, ("CA 1^LIS - HER2" + CASE.format("S3"), other)) == ["s1"]
    assert left("e", *two, ("SC 1^LIS - HER2" + CASE.format("S3"), other)) == ["s1", "s3"]


OTHER = PID.replace("4711", "815").replace("Müller", "Huber").replace("77^", "78^")


@pytest.mark.parametrize("issuer", ["", "^LIS"])
@pytest.mark.parametrize(
    ("field", "status", "pid"),
    [
        *((field, status, OTHER) for field in ("18", "3") for status in ("SC", "CA")),
        ("3", "SC", PID),
        ("3", "CA", PID),
        # The same ID of another hospital.
        ("18", "SC", PID.replace("KLINIK&1.2.3", "NORD&1.2.4").replace("Müller", "Huber")),
    ],
)
def test_a_message_about_another_case_tells_and_ends_nothing_of_this_one(
    field: str, status: str, pid: str, issuer: str, tmp_path: Path
) -> None:
    """It has no OBR, and its accession from the filler's number of the ORC."""
    first = (
        f"NW 1{issuer} F1 HER2" + CASE.format("S1") if field == "18" else f"NW 1{issuer} S1 HER2"
    )
    put(tmp_path, "1.hl7", message("OML^O21", *ordered(first)))
    before = read(tmp_path).of("S1")
    text = message("OML^O21", f"ORC|{status}|1{issuer}|S9||IP", at="20261121", pid=pid)
    put(tmp_path, "2.hl7", text)
    found = read(tmp_path)
    assert (found.of("S1"), len(before)) == (before, 1)
    told = [(each.patient_id, each.requests) for each in found.of("S9")]
    assert told == ([("815" if pid == OTHER else "4711", ())] if status == "SC" else [])


@pytest.mark.parametrize("issuer", ["", "^LIS"])
@pytest.mark.parametrize("obr", ["", "\rOBR|1|C1|F2|" + "|" * 14 + "S1"])
def test_of_orders_of_one_number_the_fillers_number_tells_which_is_meant(
    obr: str, issuer: str, tmp_path: Path
) -> None:
    new = (f"NW C1{issuer} {each}" + CASE.format("S1") for each in ("F1 HER2", "F2 ER"))
    put(tmp_path, "1.hl7", message("OML^O21", *ordered(*new)))
    before = read(tmp_path).of("S1")
    for control, left in (("SC", ["ER", "HER2"]), ("CA", ["HER2"])):
        changed = f"ORC|{control}|C1{issuer}|F2||IP{obr}"
        put(tmp_path, "2.hl7", message("OML^O21", changed, at="20261121"))
        found = read(tmp_path)
        assert asked_of(found, "S1") == left
        assert set(found.of("S1")) <= set(before)
    # A number that none of them has is that of another order.
    changed = f"ORC|CA|C1{issuer}|F3||IP{obr.replace('F2', 'F3')}"
    put(tmp_path, "2.hl7", message("OML^O21", changed, at="20261121"))
    assert read(tmp_path).of("S1") == before


CASE = "|" * 14 + "{}"
"""Fields after OBR-4 up to the accession in OBR-18."""


@pytest.mark.parametrize(
    "change",
    [
        "ORC|SC|P1|F77||IP",
        "ORC|SC||F77||IP",
        "ORC|SC|P1|F77||IP\rOBR|1|P1|F77|HER2^HER2^L",
        "ORC|SC|P1|F77||IP\rOBR|1|P1|F77",
        "ORC|SC|P1|F77||IP\rORC|SC|P1|F77||CM",
        f"ORC|SC|P1|F77||IP\rOBR|1|P1|F77|{CASE.format('S26-31')}",
        "ORC|SC|P1|F77||IP\rSPM|1|S26-31;A1||TISS",
    ],
)
def test_a_status_message_moves_and_empties_no_order(change: str, tmp_path: Path) -> None:
    obr = "OBR|1|P1^EHR||HER2^HER2^L" + CASE.format("S26-31|RP-7")
    spm, study = "SPM|1|S26-31;A1||TISS", "ZDS|1.2.276.0.99.1^LIS"
    first = message("OML^O21", "PV1|1|O||||||88^Weiß^Karl", "ORC|NW|P1^EHR|F77", obr, spm, study)
    put(tmp_path, "1.hl7", first)
    (before,) = read(tmp_path).of("S26-31")
    name = "PID|1||4711^^^KLINIK&1.2.3&ISO^MR~77^^^KASSE^SS||Müller^Jana^Maria^^Dr.^^L"
    put(tmp_path, "2.hl7", message("OML^O21", change, at="20261121"))
    found = read(tmp_path)
    assert (found.problems, list(found.orders)) == ((), ["s26-31"])
    assert found.of("S26-31") == (before,)
    # What it states counts, and the order can be taken back by either number.
    named = PID.replace(PID[: len(name)], name.replace("Müller", "Meyer"))
    put(tmp_path, "3.hl7", message("OML^O21", change, at="20261122", pid=named))
    assert [order.patient_name for order in read(tmp_path).of("S26-31")] == ["Meyer^Jana^Maria^Dr."]
    for taken in ("ORC|OC|P1", "ORC|OC||F77"):
        put(tmp_path, "4.hl7", message("OML^O21", taken, at="20261123"))
        assert read(tmp_path).orders == {}


def test_a_change_that_asks_for_nothing_keeps_what_each_order_of_its_number_asks(
    tmp_path: Path,
) -> None:
    spm = "SPM|1|S1;{}||TISS"
    (one, her2), (two, er) = (
        ordered(f"NW P1 - {code}" + CASE.format("S1")) for code in ("HER2", "ER")
    )
    new = message("OML^O21", one, her2, spm.format("A1"), two, er, spm.format("B1"))
    put(tmp_path, "1.hl7", new)
    put(tmp_path, "2.hl7", message("OML^O21", "ORC|SC|P1|F77||IP", at="20261121"))
    found = read(tmp_path)
    assert set(found.orders) == {"s1"}
    asked = [(each.filler, each.asked, each.blocks) for o in found.of("S1") for each in o.requests]
    assert asked == [("F77", ("HER2",), ("A1",)), ("F77", ("ER",), ("B1",))]
    # One moves, without the specimen of its former case.
    moved = ordered("XO P1 F77 ER" + CASE.format("S2"))
    put(tmp_path, "3.hl7", message("OML^O21", *moved, at="20261122"))
    found = read(tmp_path)
    assert (asked_of(found, "S1"), asked_of(found, "S2")) == (["HER2"], ["ER"])
    assert found.of("S2")[0].specimens == ()


@pytest.mark.parametrize("change", ["ORC|SC||S1||IP", "ORC|SC|P9|S1||IP", "ORC|SC|P9|F9||IP"])
def test_a_status_of_the_fillers_number_of_a_case_is_no_order_for_all_stains(
    change: str, tmp_path: Path
) -> None:
    put(tmp_path, "1.hl7", message("OML^O21", *ordered("NW P1 S1 HER2", "NW P2 S1 ER")))
    before = {each for order in read(tmp_path).of("S1") for each in order.requests}
    put(tmp_path, "2.hl7", message("OML^O21", change, at="20261121"))
    found = read(tmp_path)
    assert {each for o in found.orders.values() for order in o for each in order.requests} == before
    assert asked_of(found, "S1") == ["ER", "HER2"]
    (tmp_path / "1.hl7").unlink()  # as if it were older than hl7_days
    (order,) = (order for orders in read(tmp_path).orders.values() for order in orders)
    assert (order.patient_id, order.requests) == ("4711", ())


@pytest.mark.parametrize("control", ["RP", "RU", "RQ", "UA", "DE"])
def test_an_order_that_is_replaced_or_not_accepted_stands_no_longer(
    control: str, tmp_path: Path
) -> None:
    put(tmp_path, "1.hl7", message("OML^O21", *ordered("NW P1 S1 HER2")))
    lines = ordered(f"{control} P1 S1 HER2", "RO P2 S1 KI67")
    put(tmp_path, "2.hl7", message("OML^O21", *lines, at="20261121"))
    assert asked_of(read(tmp_path), "S1") == ["KI67"]


@pytest.mark.parametrize("prior", ["PR - - GS", "PR P0 S0 HER2"])
@pytest.mark.parametrize("patient", ["", PID.rstrip()])
def test_results_from_before_are_no_orders(prior: str, patient: str) -> None:
    segments = [*ordered("NW P1 S1 ER"), SPM, *filter(None, [patient]), *ordered(prior)]
    entries, problems = parse_messages("a.hl7", message("OML^O21", *segments).encode(), FIELDS)
    assert problems == ()
    assert [(e.accession, e.order.asked) for e in entries if e.order] == [("S1", ("ER",))]


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        (("NW P1 F7 HER2", "OC - F7 HER2"), []),
        (("SN - F7 HER2", "OC P1 F7 HER2"), []),
        (("SN - F7 HER2", "NA P1 F7 HER2", "OC P1 - HER2"), []),
        (("NW P1^HIS F7 HER2", "OC P1^HIS^1.2.3^ISO F7 HER2"), []),
        (("NW P1^HIS^1.2.3^ISO F7 HER2", "OC P1^^1.2.3^ISO F7 HER2"), []),
        (("NW P1^HIS^1.2.3^ISO F7 HER2", "OC P1^HIS^1.2.4^ISO F7 HER2"), ["HER2"]),
        # The filler's number is that of the case: a new order, and one of several, is another.
        (("NW P1 F7 HER2", "NW - F7 HER2"), ["HER2", "HER2"]),
        (("NW P1 F7 HER2", "NW P2 F7 HER2"), ["HER2", "HER2"]),
        (("NW P1 F7 HER2", "NW P2 F7 HER2", "OC - F7 HER2"), ["HER2", "HER2"]),
        (("SN - F7 HER2", "SN - F7 ER", "OC P1 F7 -"), []),
    ],
)
def test_an_order_is_known_by_either_number_and_by_a_part_of_its_issuer(
    sent: tuple[str, ...], asked: list[str], tmp_path: Path
) -> None:
    for number, line in enumerate(sent):
        lines = [text + CASE.format("S1") * text.startswith("OBR") for text in ordered(line)]
        text = message("OML^O21", *lines, at=f"202611201011{number:02}")
        put(tmp_path, f"{number}.hl7", text)
    assert asked_of(read(tmp_path), "S1") == asked


def test_another_block_under_the_fillers_number_is_another_order(tmp_path: Path) -> None:
    for number, (line, block) in enumerate((("SN - S1 HER2", "A1"), ("XO P1 S1 HER2", "B1"))):
        text = message("OML^O21", *ordered(line), f"SPM|1|S1;{block}||T", at=f"2026112{number}")
        put(tmp_path, f"{number}.hl7", text)
    blocks = [each.block for order in read(tmp_path).of("S1") for each in order.specimens]
    assert blocks == ["A1", "B1"]


def test_times_of_messages_are_compared_with_their_zones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, taken = (ordered(f"{control} P1 S1 HER2") for control in ("NW", "CA"))
    put(tmp_path, "1.hl7", message("OML^O21", *new, at="20261120101500.123+0100"))
    put(tmp_path, "2.hl7", message("OML^O21", *taken, at="20261120093000+0000"))
    assert read(tmp_path).orders == {}
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for at, utc in (
            ("202602031200-0500", "20260203170000"),
            ("20260203120005.5", "20260203110005"),
            ("20260703", "20260702220000"),
            ("2026", "20260000000000"),
        ):
            text = message("OML^O21", *new, at=at)
            (entry,), _ = parse_messages("a.hl7", text.encode(), FIELDS)
            assert entry.at == utc
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("born", ["196112", "196111", "1961", "1161020", "10610203", "29610203"])
def test_a_part_of_a_date_is_no_date_of_birth(born: str) -> None:
    text = message("ORM^O01", ORC, OBR, pid=PID.replace("19610203", born))
    assert only(text).patient_birth_date is None
    text = message("ORM^O01", ORC, OBR, pid=PID.replace("19610203", "196102031130"))
    assert only(text).patient_birth_date == date(1961, 2, 3)


def test_a_study_is_that_of_its_own_order() -> None:
    second = [ORC.replace("P-1", "P-2"), OBR.replace("P-1", "P-2").replace("00031", "00032")]
    for study, segments in (
        ("1.2.31", (ORC, OBR, "ZDS|1.2.31", *second)),
        ("1.2.31", (ORC, OBR, "IPC|1|2|1.2.31", *second, SPM)),
    ):
        text = message("OML^O21", *segments).encode()
        entries, problems = parse_messages("a.hl7", text, FIELDS)
        assert problems == ()
        assert [each.order.uid for each in entries if each.order] == [study, ""]
        # Before the first order it is that of all.
        text = message("OML^O21", "ZDS|1.2.9", ORC, OBR, *second).encode()
        entries, _ = parse_messages("a.hl7", text, FIELDS)
        assert [each.order.uid for each in entries if each.order] == ["1.2.9"] * 2


@pytest.mark.parametrize("code", ["HER2", "^HER2", "KI67"])
def test_another_patient_of_a_changed_order_corrects_all_of_its_number(
    code: str, tmp_path: Path
) -> None:
    first = message("OML^O21", *ordered("NW P1 S1 HER2", "NW P1 S1 ER"))
    put(tmp_path, "1.hl7", first)
    other = PID.replace("4711", "815")
    for number, control in enumerate(("CA", "NW"), start=2):
        text = message("OML^O21", *ordered(f"{control} P1 S1 PR"), at="20261121", pid=other)
        put(tmp_path, f"{number}.hl7", text)
    assert {order.patient_id for order in read(tmp_path).of("S1")} == {"4711", "815"}
    text = message("OML^O21", *ordered(f"XO P1 S1 {code}"), at="20261122")
    put(tmp_path, "4.hl7", text.replace(PID, other))
    assert {order.patient_id for order in read(tmp_path).of("S1")} == {"815"}
    # The other tests are asked for as before, in the patient's own study.
    assert asked_of(read(tmp_path), "S1") == sorted({"HER2", "ER", "PR", code.strip("^")})


def test_one_message_corrects_the_patient_of_each_of_its_orders(tmp_path: Path) -> None:
    orders = (f"P1 F1 HER2{CASE.format('S1')}", f"P1 F2 ER{CASE.format('S1')}")
    her2, er = (ordered(f"NW {each}") for each in orders)
    new = [*her2, "SPM|1|S1;A1||TISS", "ZDS|1.2.31", *er, "SPM|1|S1;B1||TISS"]
    put(tmp_path, "1.hl7", message("OML^O21", *new))
    changed = ordered(*(f"XO {each}" for each in orders))
    other = PID.replace("4711", "815").replace("Müller", "Meier")
    put(tmp_path, "2.hl7", message("OML^O21", *changed, at="20261121", pid=other))
    told = [(each.asked, each.requests[0].blocks) for each in read(tmp_path).of("S1")]
    assert told == [(("HER2",), ("A1",)), (("ER",), ("B1",))]
    put(tmp_path, "2.hl7", message("OML^O21", *changed[2:], at="20261121", pid=other))
    found = {each.requests[0].filler: each for each in read(tmp_path).of("S1")}
    assert [found[each].patient_name[:5] for each in ("F1", "F2")] == ["Meier", "Meier"]
    # The study is that of the former patient.
    assert found["F1"].uid == ""


@pytest.mark.parametrize(
    ("ids", "merged", "left"),
    [
        ("815^^^LAB^MR~4711^^^KLINIK^MR", (), []),
        ("815^^^KLINIK^MR", (("4711", "815"),), []),
        ("815^^^KLINIK^MR", (), ["HER2"]),
        # Another ID of both may be that of many.
        ("815^^^KLINIK^MR~77^^^KASSE^SS", (), ["HER2"]),
    ],
)
def test_a_message_without_the_accession_may_have_any_id_of_the_patient(
    ids: str, merged: tuple[tuple[str, ...], ...], left: list[str], tmp_path: Path
) -> None:
    put(tmp_path, "1.hl7", message("OML^O21", *ordered("NW P1 S1 HER2" + CASE.format("S1"))))
    pid = PID.replace("4711^^^KLINIK&1.2.3&ISO^MR~77^^^KASSE^SS", ids)
    put(tmp_path, "2.hl7", message("OML^O21", "ORC|CA|P1", at="20261121", pid=pid))
    found = read_hl7(tmp_path, Orders(hl7=tmp_path), merged=merged)
    assert asked_of(found, "S1") == left


ALL_IDS = "4711^^^KLINIK&1.2.3&ISO^MR~77^^^KASSE^SS"


@pytest.mark.parametrize(
    ("former", "ids", "merged", "told"),
    [
        ("815^^^KLINIK~4711^^^LAB", "4711^^^LAB", (), ("815", "KLINIK", ("4711^^^LAB",))),
        ("4711^^^KLINIK", "815^^^KLINIK~4711^^^KLINIK", (), ("4711", "KLINIK", ("815^^^KLINIK",))),
        ("4711^^^LAB", "815^^^LAB", (("4711", "815"),), ("4711", "LAB", ("815^^^LAB",))),
    ],
)
@pytest.mark.parametrize("change", [["ORC|SC|P1|F1"], ordered("SC P1 F1 HER2" + CASE.format("S1"))])
def test_a_change_under_another_id_keeps_the_ids_and_the_study_of_the_order(
    change: list[str],
    former: str,
    ids: str,
    merged: tuple[tuple[str, ...], ...],
    told: tuple[str, str, tuple[str, ...]],
    tmp_path: Path,
) -> None:
    new = [*ordered("NW P1 F1 HER2" + CASE.format("S1")), "ZDS|1.2.31"]
    put(tmp_path, "1.hl7", message("OML^O21", *new, pid=PID.replace(ALL_IDS, former)))
    later = ((ids, change), (former, ["ORC|SC|P1|F1"]))
    for at, (number, segments) in enumerate(later, start=1):
        text = message("OML^O21", *segments, at=f"2026112{at}", pid=PID.replace(ALL_IDS, number))
        put(tmp_path, f"{1 + at}.hl7", text)
        (order,) = read_hl7(tmp_path, Orders(hl7=tmp_path), merged=merged).of("S1")
        assert (order.patient_id, order.issuer, order.other_ids) == told
        assert (order.uid, order.asked) == ("1.2.31", ("HER2",))


WRONG = ("99", "KLINIK"), ("4711^^^ZENTRAL",)
RIGHT = ("100", "KLINIK"), ("4711^^^ZENTRAL",)
SHARED = ("4711", "ZENTRAL"), ("100^^^KLINIK",)
NHS, FIVE = "N1^^^NHS^PI", "5^^^KLINIK"
MRN, HEALTH = ("4711", "KLINIK"), ("N1", "NHS")


@pytest.mark.parametrize(
    ("former", "control", "ids", "merged", "told"),
    [
        ("99^^^KLINIK~4711^^^ZENTRAL", "XO", "4711^^^ZENTRAL~100^^^KLINIK", (), SHARED),
        ("99^^^KLINIK~4711^^^ZENTRAL", "XO", "4711^^^ZENTRAL", (), (("4711", "ZENTRAL"), ())),
        ("99^^^KLINIK~4711^^^ZENTRAL", "XO", "100^^^KLINIK~4711^^^ZENTRAL", (), RIGHT),
        ("4711^^^ZENTRAL~99^^^KLINIK", "XO", "4711^^^ZENTRAL~100^^^KLINIK", (), SHARED),
        ("99^^^KLINIK~4711^^^ZENTRAL", "SC", "4711^^^ZENTRAL~100^^^KLINIK", (), SHARED),
        ("99^^^KLINIK~4711^^^ZENTRAL", "XO -", "4711^^^ZENTRAL~100^^^KLINIK", (), SHARED),
        ("4711^^^ZENTRAL~99^^^KLINIK&1.2&ISO", "SC", "100^^^KLINIK~4711^^^ZENTRAL", (), SHARED),
        ("99^^^KLINIK~4711^^^ZENTRAL", "SC", "4711^^^ZENTRAL", (), WRONG),
        ("99^^^KLINIK~4711^^^ZENTRAL", "XO", "UNKNOWN", (), WRONG),
        ("99^^^KLINIK~4711^^^ZENTRAL", "SC", "UNKNOWN^^^KLINIK~4711^^^ZENTRAL", (), WRONG),
        # Numbers of an account, of a visit, and of another type, correct none.
        (f"4711^^^KLINIK^MR~{NHS}", "SC", f"{NHS}~5^^^KLINIK^AN", (), (MRN, (FIVE, "N1^^^NHS"))),
        (f"4711^^^KLINIK^MR~{NHS}", "SC", f"{NHS}~5^^^KLINIK^PI", (), (MRN, (FIVE, "N1^^^NHS"))),
        (
            *("4711^^^KLINIK^PI~9^^^KLINIK^MR", "SC", "4711^^^KLINIK^PI~5^^^KLINIK^AN", ()),
            (MRN, (FIVE, "9^^^KLINIK")),
        ),
        (f"{NHS}~9^^^KLINIK^VN", "SC", f"{NHS}~5^^^KLINIK^VN", (), (HEALTH, (FIVE, "9^^^KLINIK"))),
        ("5^^^KLINIK^AN~N1^^^NHS^NH", "SC", "5^^^KLINIK^AN", (), (HEALTH, (FIVE,))),
        ("5^^^KLINIK^AN", "SC", "5^^^KLINIK^AN", (), (("5", "KLINIK"), ())),
        (
            *(f"04711^^^KLINIK^MR~{NHS}", "SC", f"{NHS}~4711^^^KLINIK^MR", ()),
            (("04711", "KLINIK"), ("4711^^^KLINIK", "N1^^^NHS")),
        ),
        (f"4711^^^KLINIK^MR~{NHS}", "SC", f"{NHS}~5^^^KLINIK^MR", (), (HEALTH, (FIVE,))),
        (
            *("99^^^KLINIK~4711^^^ZENTRAL", "SC", "4711^^^ZENTRAL~100^^^KLINIK"),
            *((("99", "100"),), (("99", "KLINIK"), ("100^^^KLINIK", "4711^^^ZENTRAL"))),
        ),
    ],
)
def test_an_id_that_a_change_corrects_is_the_patients_no_more(
    former: str,
    control: str,
    ids: str,
    merged: tuple[tuple[str, ...], ...],
    told: tuple[tuple[str, str], tuple[str, ...]],
    tmp_path: Path,
) -> None:
    new = ordered("NW P1 F1 HER2" + CASE.format("S1"))
    put(tmp_path, "1.hl7", message("OML^O21", *new, pid=PID.replace(ALL_IDS, former)))
    name, _, nothing = control.partition(" ")
    change = ["ORC|XO|P1|F1"] if nothing else ordered(f"{name} P1 F1 HER2" + CASE.format("S1"))
    text = message("OML^O21", *change, at="20261121", pid=PID.replace(ALL_IDS, ids))
    put(tmp_path, "2.hl7", text)
    (order,) = read_hl7(tmp_path, Orders(hl7=tmp_path), merged=merged).of("S1")
    assert ((order.patient_id, order.issuer), order.other_ids) == told


@pytest.mark.parametrize(
    ("orders", "changes", "left"),
    [
        (["P1 F1 HER2"], ["P1 F2 HER2"], ["F2 HER2"]),
        (["P1 F1 HER2"], ["P1 F1 ER"], ["F1 ER"]),
        (["P1 - HER2"], ["P1 - ER"], [" ER"]),
        (["P1 F1 HER2", "P1 F2 PR"], ["P1 F1 ER"], ["F1 ER", "F2 PR"]),
        # It may be another order of the number.
        (["P1 F1 HER2"], ["P1 F2 ER"], ["F1 HER2", "F2 ER"]),
        (["P1 F1 HER2"], ["P1 F1 ER", "P1 F1 PR"], ["F1 ER", "F1 HER2", "F1 PR"]),
        (["P1 S1 HER2", "P1 F1 HE"], ["P1 S1 ER"], ["F1 HE", "S1 ER", "S1 HER2"]),
    ],
)
def test_a_correction_of_the_patient_replaces_the_order_that_it_changes_too(
    orders: list[str], changes: list[str], left: list[str], tmp_path: Path
) -> None:
    other = PID.replace("4711", "815").replace("Müller", "Meier")
    for number, (control, lines) in enumerate((("NW", orders), ("XO", changes))):
        segments = ordered(*(f"{control} {line}{CASE.format('S1')}" for line in lines))
        text = message("OML^O21", *segments, at=f"2026112{number}", pid=(PID, other)[number])
        put(tmp_path, f"{number}.hl7", text)
    found = read(tmp_path).of("S1")
    told = sorted(f"{each.requests[0].filler} {' '.join(each.asked)}" for each in found)
    assert told == left
    assert {each.patient_id for each in found} == {"815"}


@pytest.mark.parametrize("ids", ["77^^^KASSE^PI~4711^^^KLINIK^MR", "77^^^KASSE^PI"])
def test_another_id_of_the_patient_of_a_changed_order_is_no_correction(
    ids: str, tmp_path: Path
) -> None:
    put(tmp_path, "1.hl7", message("OML^O21", *ordered("NW P1 S1 HER2", "NW P1 S1 ER")))
    changed = message("OML^O21", *ordered("SC P1 S1 HER2"), at="20261121")
    put(tmp_path, "2.hl7", changed.replace("4711^^^KLINIK&1.2.3&ISO^MR~77^^^KASSE^SS", ids))
    assert asked_of(read(tmp_path), "S1") == ["ER", "HER2"]


def test_thousands_of_orders_of_one_number_are_not_compared_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0
    is_about = OrderEntry.is_about

    def counted(self: OrderEntry, other: OrderEntry) -> bool:
        nonlocal compared
        compared += 1
        return is_about(self, other)

    monkeypatch.setattr(OrderEntry, "is_about", counted)
    # Systems number the orders of each message from 1, and change the order once.
    texts = [
        message(
            "OML^O21", *ordered(f"{control} 1 S{case} HER2"), pid=PID.replace("4711", str(case))
        )
        for case in range(1000)
        for control in ("NW", "XO")
    ]
    put(tmp_path / "in", "all.hl7", "".join(texts))
    found = read(tmp_path / "in")
    assert len(found.orders) == 1000 and all(len(each) == 1 for each in found.orders.values())
    assert compared <= 2000
    # The orders are kept while no file comes, goes or changes.
    compared = 0
    assert read(tmp_path / "in").orders == found.orders
    assert compared == 0
    put(tmp_path / "in", "later.hl7", message("OML^O21", *ordered("CA 1 S7 HER2"), at="20261121"))
    assert sorted(found.orders.keys() - read(tmp_path / "in").orders.keys()) == ["s7"]
    (tmp_path / "in" / "later.hl7").unlink()
    assert read(tmp_path / "in").orders == found.orders


def test_a_number_of_many_cases_is_not_looked_for_in_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = 0
    is_about_elsewhere = OrderEntry.is_about_elsewhere

    def counted(self: OrderEntry, other: OrderEntry) -> bool:
        nonlocal compared
        compared += 1
        return is_about_elsewhere(self, other)

    monkeypatch.setattr(OrderEntry, "is_about_elsewhere", counted)
    texts = [
        message(
            "OML^O21",
            *ordered(f"{control} 1^LIS - HER2" + CASE.format(f"{case}{number}")),
            at=f"202611{day}",
            pid=PID.replace("4711", f"{case}{number}"),
        )
        for control, case, day in (("NW", "S", 20), ("SC", "T", 21))
        for number in range(200)
    ]
    put(tmp_path, "all.hl7", "".join(texts))
    assert len(read(tmp_path).orders) == 400
    assert compared <= 400


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", None),
        ("hello", "no HL7 message"),
        ("MSH", "no HL7 message"),
        ("MSH|^~\\&|", "no HL7 message"),
        (PID, "no HL7 message"),
        (message("ORM^O01"), "no order"),
        (message("ORM^O01", ORC, OBR, pid=""), "no order"),
        (message("ORM^O01", ORC, OBR, pid="PID|1||||Müller^Jana\r"), "PID-3 names no patient"),
        (message("ORM^O01", "ORC|NW", "OBR|1"), "hl7_accession"),
        (message("ORM^O01", ORC, OBR, pid=PID.replace("4711", "7" * 65)), "65 characters"),
        (message("ADT^A08"), None),
        (message("ORU^R01", ORC, OBR), None),
    ],
)
def test_a_broken_message_is_told_without_its_values(text: str, told: str | None) -> None:
    entries, problems = parse_messages("one.hl7", text.encode(), FIELDS)
    assert entries == ()
    assert [told in problem.sentence for problem in problems] == [True] * (told is not None)
    assert not any(word in problem.sentence for problem in problems for word in ("Jana", "4711"))


def test_a_broken_message_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = tmp_path / "in", time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    good = message("ORM^O01", ORC, OBR)
    put(folder, "a.hl7", message("ORM^O01", ORC, OBR, pid="") + good)
    put(folder, "b.hl7", b"\xff\xfe\x00")
    put(folder, "c.hl7", "half a mess", age_s=1)
    put(folder, ".hidden", "nothing")
    found = read(folder)
    assert len(found.of("S26-00031")) == 1
    assert [(problem.file, problem.line) for problem in found.problems] == [
        ("a.hl7", 1),
        ("b.hl7", 1),
    ]


def test_a_folder_of_many_messages_is_read_in_several_goes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(3):
        put(folder, f"{number}.hl7", message("ORM^O01", ORC, OBR))
    with pytest.raises(WorklistUnavailableError, match="not all read"):
        read_hl7(folder, Orders(hl7=folder), longest_s=-1)
    assert read_hl7(folder, Orders(hl7=folder), longest_s=600).of("S26-00031")


def test_what_is_kept_of_a_folder_is_of_its_present_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of files that are kept at most would be too small for some folder."""
    parsed: list[str] = []

    def counted(name: str, data: bytes, fields: Sequence[str]) -> object:
        parsed.append(name)
        return parse_messages(name, data, fields)

    monkeypatch.setattr(order_hl7, "parse_messages", counted)
    folder = tmp_path / "in"
    for number in range(1, 4):
        put(folder, f"{number}.hl7", message("OML^O21", *ordered(f"NW P{number} S{number} HER2")))
    for _ in range(2):
        assert set(read(folder).orders) == {"s1", "s2", "s3"}
    assert parsed == ["1.hl7", "2.hl7", "3.hl7"]
    facts = (folder / "2.hl7").stat()
    (folder / "2.hl7").unlink()
    assert set(read(folder).orders) == {"s1", "s3"}
    put(folder, "2.hl7", message("OML^O21", *ordered("NW P2 S4 HER2")))
    os.utime(folder / "2.hl7", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert set(read(folder).orders) == {"s1", "s3", "s4"}
    assert parsed[3:] == ["2.hl7"]


def test_a_message_of_another_type_is_not_looked_into() -> None:
    broken = "MSH|^~\\&|LIS|LAB|T|P|20261120||ADT^A08|1|P|2.5\rno segment of HL7\r"
    assert parse_messages("a.hl7", broken.encode(), FIELDS) == ((), ())
    assert parse_messages("a.hl7", broken.encode("utf-16"), FIELDS) == ((), ())


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_crash_the_reader(data: bytes, place: int) -> None:
    whole = message("OML^O21", ORC, OBR, SPM).encode()
    for text in (data, whole[:place] + data + whole[place:], whole[:place]):
        parse_messages("one.hl7", text, FIELDS)


@given(st.text(alphabet='|^~&\\"\rMSHPIDORCBRX1', max_size=120))
def test_no_signs_crash_the_reader(text: str) -> None:
    parse_messages("one.hl7", ("MSH|^~\\&|" + text).encode(), FIELDS)
    parse_messages("one.hl7", message("ORM^O01", ORC, OBR + text).encode(), FIELDS)
