"""Results for the laboratory's systems: HL7 v2 and FHIR, read by independent parsers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import hl7
import pytest
from fhir.resources.R4B.bundle import Bundle
from fixtures.certificates import make_certificates
from fixtures.instances import made_object
from fixtures.judges import dicom_errors
from fixtures.lis import FhirServer, MllpServer
from fixtures.reports import slide_headers, written_report
from fixtures.slide_objects import MPP, SCANNED, identity, report, report_facts, write_svs
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from pydantic import ValidationError
from pydicom import Dataset, dcmread

from appliance.delivery.destinations.contract import Instance, Proof, open_destination
from appliance.delivery.result_fhir import transaction
from appliance.delivery.result_hl7 import (
    CONTROL_ID_LENGTH,
    TEMPLATES,
    Hl7Message,
    message_of,
    read_template,
)
from appliance.errors import (
    DestinationRejectedError,
    DestinationUnavailableError,
    SettingsError,
)
from appliance.settings.destinations import FhirDestination, Hl7Destination
from appliance.settings.settings import Settings
from dicom import codes
from dicom.errors import ObjectError
from dicom.report_facts import VerifierFacts
from dicom.request import OrderedRequest
from dicom.result import Item, Result, read_result
from dicom.source import convert_slide, read_headers
from dicom.status import Outcome, Verdict


def described(specimens: Sequence[tuple[str, str]]) -> list[Dataset]:
    """Return headers of a slide that describe specimens, each as (parent, identifier)."""
    headers = deepcopy(slide_headers())
    for header in headers:
        (own,) = header.SpecimenDescriptionSequence
        header.SpecimenDescriptionSequence = [deepcopy(own) for _ in specimens]
        for number, item in enumerate(header.SpecimenDescriptionSequence):
            parent, item.SpecimenIdentifier = specimens[number]
            item.SpecimenUID = f"1.2.3.{number}"
            texts = {"111705": parent, "121041": item.SpecimenIdentifier}
            for step in item.SpecimenPreparationSequence:
                for each in step.SpecimenPreparationStepContentItemSequence:
                    name = each.ConceptNameCodeSequence[0].CodeValue
                    each.TextValue = texts.get(name, each.get("TextValue"))
                    if each.TextValue is None:
                        del each.TextValue
    return headers


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Report of the appliance."""
    return written_report(tmp_path_factory.mktemp("sr") / "report.dcm")


@pytest.fixture(scope="module")
def result(sent: Instance) -> Result:
    return read_result(sent.path)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Report that answers an order."""
    request = OrderedRequest(
        placer="A~1",
        placer_issuer="EHR&1.2.3&ISO",
        filler="F-2",
        filler_issuer="LIS",
        procedure_id="RP-7",
        procedure="HER2 IHC",
        accession_issuer="LIS",
    )
    return written_report(tmp_path_factory.mktemp("sr") / "report.dcm", request=request)


def hl7_section(**facts: Any) -> Hl7Destination:
    return Hl7Destination(**({"kind": "hl7", "host": "127.0.0.1", "port": 1} | facts))


FHIR = FhirDestination(kind="fhir", url="http://127.0.0.1:1")
ORU = TEMPLATES["ORU^R01"]


def hl7_message(result: Result, section: Hl7Destination | None = None) -> Hl7Message:
    made = section or hl7_section()
    return message_of(result, made, read_template(made))


def valid(message: Hl7Message) -> Any:
    """Parse a message by hl7apy, strictly, and by the hl7 package; return that of hl7apy."""
    parsed = parse_message(message.text, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert parsed.validate()
    assert str(hl7.parse(message.text)).strip() == message.text.strip()
    return parsed


def deliver(section: Any, *instances: Instance) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with closing(open_destination(Settings(destinations=(section,)), section)) as destination:
        destination.send(instances, lambda _: None, lambda _, outcome: outcomes.append(outcome))
    return outcomes


class TestResult:
    """The result as it is read from a report."""

    def test_it_says_what_the_report_says(self, result: Result, sent: Instance) -> None:
        assert (result.accession, result.number) == ("S26-0042", "S26-0042-HER2-A1")
        assert (result.patient_id, result.issuer) == ("P|1&2", "LAB&1.2.3&ISO")
        assert result.score_name == codes.HER2_SCORE
        said = {item.name.value: item.value for item in result.items}
        assert said["85319-2"] == codes.SCORES["2+"]
        assert (said["share-2"], said["h-score"]) == (65.5, 164.5)
        assert said["review"] == "The registration error is 31 µm, ≥ 30 µm."
        assert not {"112039", "112040", "121071"} & set(said)
        assert (result.is_signed, result.corrects) == (False, False)

    def test_a_persons_score_is_signed(self, tmp_path: Path) -> None:
        first = written_report(tmp_path / "1.dcm", by="Meyer^Anna")
        second = written_report(
            tmp_path / "2.dcm", by="Meyer^Anna", predecessors=[dcmread(first.path)]
        )
        made = [read_result(each.path) for each in (first, second)]
        assert [(each.is_signed, each.corrects) for each in made] == [(True, False), (True, True)]

    def test_who_confirmed_signed_and_corrected_nothing(
        self, sent: Instance, tmp_path: Path
    ) -> None:
        signed = VerifierFacts(by="Ito^Bert", organization="Lab", at=SCANNED)
        for by, corrects in ((None, False), ("Meyer^Anna", True)):
            made = written_report(
                tmp_path / "1.dcm",
                by=by,
                verifiers=[signed],
                predecessors=[dcmread(sent.path)],
            )
            found = read_result(made.path)
            assert (found.is_signed, found.corrects) == (True, corrects)
            status = "C" if corrects else "F"
            assert f"||SP|{status}\r" in hl7_message(found).text
            word = "corrected" if corrects else "final"
            entries = transaction(found, FHIR)["entry"]
            assert {each["resource"]["status"] for each in entries} == {word}

    @pytest.mark.parametrize("stated", [None, "S26-0042"])
    def test_its_number_is_of_the_accession_that_was_identified(
        self, stated: str | None, tmp_path: Path
    ) -> None:
        """The scanner's header names none, or that of another patient."""
        numbers = []
        for accession in ("S26-0077", "S26-0078", 20 * "7"):
            made = written_report(tmp_path / "1.dcm", stated=stated, accession=accession)
            assert dicom_errors(made.path) == []
            found = read_result(made.path)
            assert found.accession == accession
            assert "121022" not in {item.name.value for item in found.items}
            assert f"|{accession}-HER2-A1|" in hl7_message(found).text
            requests = dcmread(made.path).get("ReferencedRequestSequence", [])
            fits = [accession] if len(accession) <= 16 else []
            assert [request.AccessionNumber for request in requests] == fits
            (url,) = {
                entry["request"]["url"].partition("?")[2]
                for entry in transaction(found, FHIR)["entry"]
            }
            assert accession in url
            numbers.append(found.number)
        assert len(set(numbers)) == 3

    def test_a_report_without_accession_has_no_result(self, tmp_path: Path) -> None:
        """Such as an earlier edition wrote: its number would be that of other cases."""
        made = written_report(tmp_path / "1.dcm", stated=None, accession="")
        with pytest.raises(ObjectError, match="names no accession"):
            read_result(made.path)

    def test_other_files_are_none(self, tmp_path: Path) -> None:
        made_object(tmp_path / "seg.dcm")
        (tmp_path / "text.dcm").write_text("no DICOM")
        for name in ("seg.dcm", "text.dcm", "gone.dcm"):
            with pytest.raises(ObjectError):
                read_result(tmp_path / name)


class TestOru:
    """The message as hl7apy reads it."""

    def test_it_is_valid_and_whole(self, result: Result) -> None:
        message = valid(hl7_message(result, hl7_section(receiving_application="LIS")))
        patient = message.oru_r01_patient_result.oru_r01_patient.pid
        assert patient.pid_3.pid_3_1.to_er7() == r"P\F\1\T\2"
        assert patient.pid_3.pid_3_4.to_er7() == "LAB&1.2.3&ISO"
        names = [name.to_er7() for name in patient.pid_5]
        assert names == ["Yamada^Tarou^^^^^L^A", "山田^太郎^^^^^L^I", "やまだ^たろう^^^^^L^P"]
        order = message.oru_r01_patient_result.oru_r01_order_observation
        assert order.obr.obr_3.to_er7() == "S26-0042-HER2-A1"
        assert order.obr.obr_4.obr_4_1.to_er7() == "85319-2"
        assert (order.obr.obr_18.to_er7(), order.obr.obr_25.to_er7()) == ("S26-0042", "P")
        assert "research use only" in order.nte.nte_3.to_er7()
        seen = {each.obx.obx_3.obx_3_1.to_er7(): each.obx for each in order.oru_r01_observation}
        assert set(seen) == {item.name.value for item in result.items}
        score = seen["85319-2"]
        assert (score.obx_2.to_er7(), score.obx_5.to_er7()) == ("CWE", "LA11842-4^2+^LN")
        share = seen["share-2"]
        assert (share.obx_2.to_er7(), share.obx_5.to_er7()) == ("NM", "65.5")
        assert share.obx_6.to_er7() == "%^percent^UCUM"

    def test_by_specimen_the_block_comes_before_its_order(self, result: Result) -> None:
        message = valid(hl7_message(result, hl7_section(message="OUL^R22", processing_id="T")))
        assert message.msh.msh_9.to_er7() == "OUL^R22^OUL_R22"
        assert message.msh.msh_11.to_er7() == "T"
        assert message.oul_r22_patient.pid.pid_3.pid_3_1.to_er7() == r"P\F\1\T\2"
        specimen = message.oul_r22_specimen
        assert specimen.spm.spm_2.to_er7() == result.specimen == "S26-0042-A1"
        container = specimen.oul_r22_container.sac.sac_3.to_er7()
        assert container == result.container == "S26-0042-A1-HER2"
        order = specimen.oul_r22_order
        assert order.orc.orc_3.to_er7() == order.obr.obr_3.to_er7() == "S26-0042-HER2-A1"
        seen = [each.obx.obx_3.obx_3_1.to_er7() for each in order.oul_r22_obxtcdsidnte_suppgrp]
        assert seen == [item.name.value for item in result.items]

    def test_the_block_is_that_of_the_order_and_the_slide_its_container(
        self, tmp_path: Path
    ) -> None:
        ordered = identity(container_id="GLASS-4711", specimen_id="S26-0042;A1")
        slide = convert_slide(write_svs(tmp_path / "a.svs"), tmp_path / "wsm", ordered, mpp=MPP)
        headers = read_headers(slide.paths)
        report(headers, headers, []).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        assert dicom_errors(tmp_path / "sr.dcm") == []
        found = read_result(tmp_path / "sr.dcm")
        assert "111705" not in {item.name.value for item in found.items}
        text = hl7_message(found, hl7_section(message="OUL^R22")).text
        assert "\rSPM|1|S26-0042;A1||" in text and "\rSAC|||GLASS-4711\r" in text
        observation = transaction(found, FHIR)["entry"][0]["resource"]
        assert observation["specimen"]["identifier"]["value"] == "S26-0042;A1"
        # A scanner that tells no sampling: what lies on the slide.
        for header in headers:
            del header.SpecimenDescriptionSequence[0].SpecimenPreparationSequence
        report(headers, headers, []).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        assert read_result(tmp_path / "sr.dcm").specimen == "GLASS-4711"

    @pytest.mark.parametrize(
        ("block", "parent"),
        [
            *(("A1", each) for each in ("S26-0042-S1", "S26-0042-L1-A1", "LIS-0815-B2", "B-2")),
            ("A2", "S26-0042-A1-A3"),
            ("A2", "S26-0042-A1"),
        ],
    )
    def test_the_only_specimen_of_a_slide_is_that_of_its_message_whatever_it_is_called(
        self, block: str, parent: str, tmp_path: Path
    ) -> None:
        headers = described([(parent, "GLASS-S")])
        made = report(headers, headers, [], report_facts(block=block))
        made.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        found = read_result(tmp_path / "sr.dcm")
        assert (found.specimen, found.container) == (parent, headers[0].ContainerIdentifier)
        text = hl7_message(found, hl7_section(message="OUL^R22")).text
        assert f"\rSPM|1|{parent}||" in text and f"|S26-0042-HER2-{block}|" in text

    @pytest.mark.parametrize(
        ("others", "specimen", "uid"),
        [
            (("CTRL-07", "S26-0042-A1"), "S26-0042-A1", "1.2.3.1"),
            (("S26-0042-B1", "S26-0042-A1"), "S26-0042-A1", "1.2.3.1"),
            (("CTRL-07", "LIS-0815"), "S26-0042-A1", None),
            (("CTRL-07", "S26-0042-A2"), "S26-0042-A1", None),
        ],
    )
    def test_of_several_specimens_on_a_slide_that_of_the_block_is_told(
        self, others: tuple[str, str], specimen: str, uid: str | None, tmp_path: Path
    ) -> None:
        headers = described([(each, f"{each}-S") for each in others])
        made = report(headers, headers, [])
        made.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        assert dicom_errors(tmp_path / "sr.dcm") == []
        assert read_result(tmp_path / "sr.dcm").specimen == specimen
        subjects = [each for each in ("1.2.3.0", "1.2.3.1") if f'"{each}"' in made.to_json()]
        assert subjects == ([] if uid is None else [uid])

    @pytest.mark.parametrize("turn", [1, -1])
    @pytest.mark.parametrize(
        ("own", "other", "is_told"),
        [
            (("", "S26-0042-A1-1"), ("A1", "CTRL-7"), True),
            (("S26-0042-A1", "GLASS-1"), ("A1", "CTRL-7"), True),
            (("S26-0042-A1", "GLASS-1"), ("CTRL-7", "A1"), True),
            (("A1", "S26-0042-1"), ("A1", "CTRL-7"), False),
            (("A1", "1"), ("HER2-CTRL", "S26-0042-A1-CTRL"), True),
            (("", "A1"), ("", "S26-0042-CTRL"), True),
            (("S26-0042-A1", "S26-0042-A1-1"), ("CTRL-7", "S26-0042-A1-CTRL"), True),
            (("S26-0042", "S26-0042-A1-1"), ("A1", "CTRL-7"), True),
            (("A1", "GLASS-1"), ("CTRL-7", "CTRL-7-1"), True),
            (("", "S26-0042"), ("A1", "CTRL-7"), False),
            (("", "S26-0042-A1-1"), ("", "S26-0042-A1-CTRL"), False),
            (("A1", "GLASS-1"), ("A1", "CTRL-7"), False),
        ],
    )
    def test_control_tissue_is_not_taken_for_the_patients(
        self,
        own: tuple[str, str],
        other: tuple[str, str],
        is_told: bool,
        turn: int,
        tmp_path: Path,
    ) -> None:
        """A store of controls has a block A1, too; the order of specimens tells nothing."""
        headers = described([own, other][::turn])
        made = report(headers, headers, [])
        made.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
        subjects = [each for each in ("1.2.3.0", "1.2.3.1") if f'"{each}"' in made.to_json()]
        assert subjects == ([f"1.2.3.{0 if turn == 1 else 1}"] if is_told else [])
        told = (own[0] or own[1]) if is_told else "S26-0042-A1"
        assert read_result(tmp_path / "sr.dcm").specimen == told

    def test_by_container_the_order_holds_its_observations(self, result: Result) -> None:
        message = valid(hl7_message(result, hl7_section(message="OUL^R21")))
        assert message.msh.msh_9.to_er7() == "OUL^R21^OUL_R21"
        order = message.oul_r21_order_observation
        assert order.oul_r21_container.sac.sac_3.to_er7() == result.container
        assert order.obr.obr_3.to_er7() == "S26-0042-HER2-A1"
        seen = [each.obx.obx_3.obx_3_1.to_er7() for each in order.oul_r21_observation]
        assert seen == [item.name.value for item in result.items]

    def test_a_container_that_nobody_named_has_no_segment(self, result: Result) -> None:
        text = hl7_message(replace(result, container=""), hl7_section(message="OUL^R22")).text
        assert "\rSAC" not in text and "\rSPM|1|" in text

    @pytest.mark.parametrize("message", TEMPLATES)
    def test_a_result_of_no_patient_has_no_pid(self, message: Any, result: Result) -> None:
        made = hl7_message(replace(result, patient_id=""), hl7_section(message=message))
        valid(made)
        assert "\rPID" not in made.text

    def test_the_control_id_is_of_report_and_contents(self, result: Result) -> None:
        message = hl7_message(result)
        assert hl7_message(result) == message
        assert f"|{message.control_id}|P|2.5.1|" in message.text
        assert len(message.control_id) == CONTROL_ID_LENGTH
        others = (
            hl7_message(replace(result, sop_instance_uid="1.2")),
            hl7_message(result, hl7_section(contents=("share-2",))),
        )
        assert len({message.control_id, *(each.control_id for each in others)}) == 3

    @pytest.mark.parametrize("message", TEMPLATES)
    def test_it_names_the_order_that_it_answers(
        self, message: Any, ordered: Instance, result: Result
    ) -> None:
        assert dicom_errors(ordered.path) == []
        answer = read_result(ordered.path)
        own = hl7_message(answer, hl7_section(message=message))
        valid(own)
        placer = r"A\R\1^EHR^1.2.3^ISO"
        assert f"\rORC|RE|{placer}|S26-0042-HER2-A1\r" in own.text
        taken = hl7_message(answer, hl7_section(message=message, filler_number="order"))
        valid(taken)
        assert f"\rORC|RE|{placer}|F-2^LIS\r" in taken.text
        (order,) = (s.split("|") for s in taken.text.split("\r") if s.startswith("OBR"))
        assert order[2:4] == [placer, "F-2^LIS"]
        assert order[18:20] == ["S26-0042", "RP-7"]
        # Without an order's number the result has its own.
        none = hl7_message(result, hl7_section(message=message, filler_number="order"))
        assert "\rORC|RE||S26-0042-HER2-A1\r" in none.text

    @pytest.mark.parametrize("message", TEMPLATES)
    def test_no_value_ends_a_field_or_a_block(self, message: Any, result: Result) -> None:
        bad = "a|b^c&d~e\\f\r\ng\x0bh\x1c\ri\x00\tj"
        item = Item(name=codes.REVIEW, value=bad)
        hurt = replace(
            result,
            **dict.fromkeys(("patient_id", "accession", "number", "specimen", "device"), bad),
            **{"patient_name": f"{bad}^{bad}", "items": [item, item]},
        )
        section = hl7_section(message=message, sending_facility="a|b^c&d\r~")
        made, plain = hl7_message(hurt, section), hl7_message(result, section)
        assert not set(made.text) & set(map(chr, range(32))) - {"\r"}
        names = [[line[:3] for line in each.text.split("\r")] for each in (made, plain)]
        assert [n for n in names[0] if n != "OBX"] == [n for n in names[1] if n != "OBX"]
        lines = [line.split("|") for line in made.text.split("\r") if line.startswith("OBX")]
        escaped = r"a\F\b\S\c\T\d\R\e\E\f\.br\g h \.br\i  j"
        assert [(each[4], each[5]) for each in lines] == [("1", escaped), ("2", escaped)]
        assert valid(made).msh.msh_18.to_er7() == "UNICODE UTF-8"

    @pytest.mark.parametrize(
        ("value", "text"),
        [(1e-5, "0.00001"), (12345678901.0, "12345678900"), (-0.5, "-0.5"), (100.0, "100")],
    )
    def test_a_number_has_no_exponent(self, value: float, text: str, result: Result) -> None:
        item = Item(name=codes.TUMOR_AREA, value=value, unit=codes.SQUARE_MM)
        made = hl7_message(replace(result, items=[item]))
        assert f"||{text}|mm2^" in made.text

    @pytest.mark.parametrize(("zone", "hour"), [("+0530", 11), ("-1200", 3)])
    def test_the_time_is_in_the_zone_of_the_report(
        self, zone: str, hour: int, sent: Instance, tmp_path: Path
    ) -> None:
        report = dcmread(sent.path)
        report.TimezoneOffsetFromUTC = zone
        report.ContentTime = f"{hour:02}0000"
        report.save_as(tmp_path / "zone.dcm")
        made = hl7_message(read_result(tmp_path / "zone.dcm"))
        assert f"{report.ContentDate}{hour:02}0000{zone}||ORU" in made.text

    def test_the_status_says_how_far_it_stands(self, tmp_path: Path) -> None:
        signed = written_report(tmp_path / "1.dcm", by="Meyer^Anna")
        again = written_report(
            tmp_path / "2.dcm", by="Meyer^Anna", predecessors=[dcmread(signed.path)]
        )
        for instance, status in ((signed, "F"), (again, "C")):
            lines = hl7_message(read_result(instance.path)).text.split("\r")
            fields = [line.split("|") for line in lines if line.startswith("OBX")]
            assert fields and {each[11] for each in fields} == {status}

    def test_contents_and_template_are_the_sites(self, result: Result, tmp_path: Path) -> None:
        own = tmp_path / "oru.txt"
        own.write_text(
            "MSH|^~\\&|{sending_application}||||{at}||ORU^R01^ORU_R01|{control_id}|T|2.5.1\n"
            "PID|||{patient_id}\n\nOBR|1|{accession}||{score_name}\n"
            "OBX|{set_id}|{type}|{code}||{value}||||||{status}\nZTA|{study_uid}\n"
        )
        section = hl7_section(template=own, contents=("share-2", "nothing", "85319-2"))
        with closing(open_destination(Settings(), section)):
            lines = hl7_message(replace(result, is_signed=True), section).text.split("\r")
        assert [line[:3] for line in lines] == ["MSH", "PID", "OBR", "OBX", "OBX", "ZTA", ""]
        assert lines[3].startswith("OBX|1|NM|share-2^") and lines[4].startswith("OBX|2|CWE|85319-2")

    def test_a_place_has_the_components_of_its_name(self, result: Result) -> None:
        section = hl7_section(
            receiving_application="EPIC^1.2.840.114350^ISO", receiving_facility="A&B|C"
        )
        header = valid(hl7_message(result, section)).msh
        assert [part.to_er7() for part in header.msh_5.children] == [
            *("EPIC", "1.2.840.114350", "ISO")
        ]
        assert header.msh_6.to_er7() == r"A\T\B\F\C"

    def test_reasons_for_review_of_what_nobody_signed_are_no_choice(self, result: Result) -> None:
        text = hl7_message(result, hl7_section(contents=("85319-2",))).text
        last = [line for line in text.split("\r") if line.startswith("OBX")][1:]
        assert [line.split("|")[2:6] for line in last] == [
            [
                "TX",
                "review^Reason for review^99TANDEM",
                "",
                "The registration error is 31 µm, ≥ 30 µm.",
            ]
        ]
        twice = hl7_message(result, hl7_section(contents=("85319-2", "review"))).text
        assert twice.count("OBX|") == 2
        valid(hl7_message(result, hl7_section(contents=("85319-2",))))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (None, "cannot be read"),
            ("PID|1", "must begin with MSH"),
            (f"{ORU}ZTA|{{who}}", "ZTA names who; known names are accession"),
            (f"{ORU}NTE|{{value}}", "NTE names value"),
            (f"{ORU}ZTA|{{", "cannot be read"),
            (f"{ORU}ZTA|{{at.year}}", "names at.year"),
            (f"{ORU}ZTA|{{at:{{who}}}}", "ZTA has a wrong format"),
            (f"{ORU}ZTA|{{at:d}}", "ZTA has a wrong format"),
            (ORU.replace("{control_id}", "1"), "MSH-10 must be {control_id}"),
            (ORU.replace("UNICODE UTF-8", "8859/1"), "MSH-18 must be UNICODE UTF-8 or empty"),
        ],
    )
    def test_a_wrong_template_is_named(self, text: str | None, words: str, tmp_path: Path) -> None:
        path = tmp_path / "oru.txt"
        if text is not None:
            path.write_text(text)
        with pytest.raises(SettingsError, match=words):
            open_destination(Settings(), hl7_section(template=path))

    def test_a_template_has_its_own_message(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="leave out message or template"):
            hl7_section(template=tmp_path / "oru.txt", message="OUL^R22")


class TestFhir:
    """The resources as fhir.resources reads them."""

    def test_they_are_valid_and_whole(self, result: Result) -> None:
        bundle = Bundle.model_validate_json(json.dumps(transaction(result, FHIR)))
        observation, report = (entry.resource for entry in bundle.entry)
        assert (observation.status, report.status) == ("preliminary", "preliminary")
        assert report.result[0].reference == bundle.entry[0].fullUrl
        assert report.conclusion.startswith("For research use only.")
        assert report.subject.identifier.value == "P|1&2"
        coding = observation.valueCodeableConcept.coding[0]
        assert (coding.system, coding.code) == ("http://loinc.org", "LA11842-4")
        for resource in (observation, report):
            coding = resource.code.coding[0]
            assert (coding.system, coding.code) == ("http://loinc.org", codes.HER2_SCORE.value)
        said = {each.code.coding[0].code: each for each in observation.component}
        assert set(said) == {item.name.value for item in result.items} - {"85319-2"}
        quantity = said["share-2"].valueQuantity
        assert (float(quantity.value), quantity.code) == (65.5, "%")
        assert quantity.system == "http://unitsofmeasure.org"

    def test_they_name_the_order_that_they_answer(self, ordered: Instance, result: Result) -> None:
        bundle = Bundle.model_validate_json(
            json.dumps(transaction(read_result(ordered.path), FHIR))
        )
        for entry in bundle.entry:
            named = [each.identifier for each in entry.resource.basedOn]
            assert [(each.type.coding[0].code, each.value) for each in named] == [
                *(("ACSN", "S26-0042"), ("PLAC", "A~1"), ("FILL", "F-2"))
            ]
            assigners = [each.assigner.display for each in named]
            assert assigners == ["LIS", "EHR&1.2.3&ISO", "LIS"]
        nothing = transaction(replace(result, accession=""), FHIR)
        assert "basedOn" not in nothing["entry"][0]["resource"]
        Bundle.model_validate_json(json.dumps(nothing))

    def test_contents_are_the_sites(self, result: Result) -> None:
        section = FHIR.model_copy(update={"contents": ("85319-2",)})
        signed = replace(result, is_signed=True)
        observation, report = (entry["resource"] for entry in transaction(signed, section)["entry"])
        assert "component" not in observation and "µm" not in report["conclusion"]

    def test_reasons_for_review_of_what_nobody_signed_are_no_choice(self, result: Result) -> None:
        section = FHIR.model_copy(update={"contents": ("85319-2",)})
        bundle = transaction(result, section)
        observation, report = (entry["resource"] for entry in bundle["entry"])
        said = "The registration error is 31 µm, ≥ 30 µm."
        assert [each["valueString"] for each in observation["component"]] == [said]
        assert report["conclusion"].endswith(said)
        Bundle.model_validate_json(json.dumps(bundle))


def told(result: Result, section: Any) -> list[str]:
    """Codes of the items of a result, as a system gets them; FHIR has the score apart."""
    if section.kind == "fhir":
        bundle = transaction(result, section)
        Bundle.model_validate_json(json.dumps(bundle))
        observation = bundle["entry"][0]["resource"]
        score = [result.score_name.value] if "valueCodeableConcept" in observation else []
        return score + [
            each["code"]["coding"][0]["code"] for each in observation.get("component", ())
        ]
    text = hl7_message(result, section).text
    return [line.split("|")[3].split("^")[0] for line in text.split("\r") if line[:3] == "OBX"]


@pytest.mark.parametrize("section", [hl7_section(), FHIR])
def test_contents_of_numbers_alone_do_not_hide_that_a_score_changed(
    section: Any, sent: Instance, tmp_path: Path
) -> None:
    only = section.model_copy(update={"contents": ("share-3",)})

    def made(score: Any, **changes: Any) -> Result:
        instance = written_report(
            tmp_path / "1.dcm", by="Meyer^Anna", score=score, evaluations=[], **changes
        )
        return read_result(instance.path)

    before = {"predecessors": [dcmread(sent.path)]}
    assert told(made(codes.SCORES["3+"]), only) == ["share-3"]
    assert sorted(told(made(codes.SCORES["3+"], **before), only)) == ["85319-2", "share-3"]
    none = made(codes.INDETERMINATE, said=None, measurements=[], **before)
    assert told(none, section.model_copy(update={"contents": ("share-3", "h-score")})) == [
        "85319-2"
    ]
    given = made(codes.SCORES["1+"], measurements=[], **before)  # of a case without numbers
    assert told(given, only) == ["85319-2"]
    both = section.model_copy(update={"contents": ("85319-2",)})
    assert told(none, both) == ["85319-2"]
    with pytest.raises(ObjectError, match="gets no result of 1-8"):
        told(replace(given, corrects=False), section.model_copy(update={"contents": ("1-8",)}))


@pytest.mark.parametrize("section", [hl7_section(), FHIR])
def test_contents_that_no_report_has_are_refused(section: Any, sent: Instance) -> None:
    (outcome,) = deliver(section.model_copy(update={"contents": ("1-8",)}), sent)
    assert outcome.verdict is Verdict.NEVER
    assert "1-8" in outcome.text and "Correct contents" in outcome.text


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        ("AA", "stored", "AA"),
        ("CA", "stored", "CA"),
        ("other", "stored", "AA"),
        ("bare", "stored", "AA"),
        ("pieces", "stored", "AA"),
        ("AE", "never", "error in the message.*tandem retry"),
        ("AE 204", "never", "does not know the patient.*AE, 204, about me"),
        ("AE 102 old", "never", "type of a value is wrong.*AE, 102"),
        ("AE 205", "stored with a warning", "has this result already"),
        ("AE 207", "later", "failed while processing"),
        ("AR", "later", "outside of it"),
        ("unnamed", "later", "outside of it.*cannot be parsed"),
        ("AR 203", "never", "version of HL7"),
        ("XX", "never", "no acknowledgment of HL7"),
        ("noise", "later", "gave no acknowledgment: its answer is no message with MSA"),
        ("huge", "later", "longer than 1 MiB"),
        ("wrong", "later", "ended the connection.*and acknowledged another message"),
        ("mute", "later", "gave no acknowledgment: it ended the connection"),
    ],
)
def test_what_an_acknowledgment_means(fault: str, verdict: str, words: str, sent: Instance) -> None:
    server = MllpServer().start()
    server.faults = [fault]
    try:
        (outcome,) = deliver(hl7_section(port=server.port), sent)
    finally:
        server.stop()
    assert outcome.verdict == verdict
    assert re.search(words, outcome.text)


@pytest.mark.parametrize(
    ("asks", "fault", "verdict", "words"),
    [
        ("|AL|AL|", "CA+AE 204", "never", "does not know the patient.*AE, 204, about me"),
        ("|AL|AL|", "CA+AR", "later", "outside of it"),
        ("|AL|AL|", "CA+AA", "stored", "^AA$"),
        ("|AL|SU|", "CA+AA", "stored", "^AA$"),
        ("|NE|AL|", "AA", "stored", "^AA$"),
        ("|AL|AL|", "CE", "never", "error in the message"),
        ("|AL|ER|", "CA+AE 204", "never", "does not know the patient.*AE, 204, about me"),
        ("|AL|AL|", "CA+nothing", "stored", "^CA, it did not say here what became of"),
        ("|AL|AL|", "CA+hang", "stored", "^CA, it did not say here what became of"),
        ("|AL|AL|", "CA+noise", "stored", "^CA, it did not say here what became of"),
        ("|AL||", "CA+nothing", "stored", "^CA$"),
    ],
)
def test_what_is_said_after_the_receipt_of_a_message_that_asks_for_it_counts(
    asks: str, fault: str, verdict: str, words: str, sent: Instance, tmp_path: Path
) -> None:
    own = tmp_path / "oru.txt"
    own.write_text("\n" + ORU.replace("|AL|NE|", asks))  # an empty line is none of the message
    server = MllpServer().start()
    server.faults = [fault]
    times = {"timeout_seconds": 5} if fault == "CA+hang" else {}
    section = hl7_section(port=server.port, template=own, **times)
    try:
        with closing(open_destination(Settings(), section)) as lis:
            outcomes: list[Outcome] = []
            lis.send([sent], lambda _: None, lambda _, said: outcomes.append(said))
            (answer,) = lis.prove([sent]).values()
    finally:
        server.stop()
    (outcome,) = outcomes
    assert outcome.verdict == verdict
    assert re.search(words, outcome.text)
    assert (answer.proof is Proof.THERE) == (verdict == "stored")


def test_a_correction_that_is_a_duplicate_there_is_never_delivered_unseen(
    sent: Instance, tmp_path: Path
) -> None:
    newer = written_report(
        tmp_path / "1.dcm",
        **{"by": "Meyer^Anna", "score": codes.SCORES["3+"], "said": "3+", "evaluations": []},
        predecessors=[dcmread(sent.path)],
    )
    server = MllpServer().start()
    section = hl7_section(port=server.port)
    server.faults = ["AA", "AE 205", "mute", "AE 205", "AE 205"]
    try:
        _, refused = deliver(section, sent, newer)
        kept = dict(server.results)
        # Its acknowledgment was lost: the system may mean this message, or a proxy has lost it.
        _, again = deliver(section, newer, newer)
        (restarted,) = deliver(section, newer)
        (taken,) = deliver(section, newer)  # a person removed the former one there
    finally:
        server.stop()
    assert kept == {"S26-0042-HER2-A1": hl7_message(read_result(sent.path), section).control_id}
    for outcome in (refused, again, restarted):
        assert outcome.verdict is Verdict.NEVER
        assert "this one, if its answer was lost, or the former one (AE, 205" in outcome.text
        assert "Look there which one it has." in outcome.text and "tandem retry" in outcome.text
    assert taken.verdict is Verdict.STORED


@pytest.mark.parametrize("message", TEMPLATES)
@pytest.mark.parametrize("fault", ["mute", "half", "late"])
def test_a_lost_acknowledgment_does_not_double_a_result(
    fault: str, message: Any, sent: Instance
) -> None:
    server = MllpServer().start()
    timeout_s = 2 if fault == "late" else 30
    section = hl7_section(port=server.port, message=message)
    server.faults = [fault]
    try:
        with closing(open_destination(Settings(destinations=(section,)), section)) as lis:
            verdicts = []
            for limit in (timeout_s, 30):  # as the outbox does: look for it, then send it again
                lis._section = section.model_copy(update={"timeout_seconds": limit})
                assert {a.proof for a in lis.prove([sent]).values()} == {Proof.ABSENT}
                lis.send([sent], lambda _: None, lambda _, said: verdicts.append(said.verdict))
            (answer,) = lis.prove([sent]).values()
    finally:
        server.stop()
    assert verdicts == [Verdict.LATER, Verdict.STORED]
    assert len(server.messages) == 2 and server.messages[0] == server.messages[1]
    number = hl7_message(read_result(sent.path), section).control_id
    assert server.results == {"S26-0042-HER2-A1": number}
    assert answer.proof is Proof.THERE and number in answer.text


@pytest.mark.judge
def test_over_tls_the_system_must_be_the_one_that_is_named(sent: Instance, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    own = certificates.files("client")
    files = {"tls": True, "ca_file": own.ca, "certificate": own.certificate, "key": own.key}
    server = MllpServer(certificates.files("server").server()).start()
    elsewhere = MllpServer(certificates.files("elsewhere").server()).start()
    try:
        section = hl7_section(port=server.port, **files)
        (outcome,) = deliver(section, sent)
        assert outcome.verdict is Verdict.STORED
        # The server asks for a certificate, which TLS 1.3 tells after the handshake.
        (outcome,) = deliver(hl7_section(port=server.port, tls=True, ca_file=own.ca), sent)
        assert outcome.verdict is Verdict.LATER
        plain = hl7_section(port=server.port)
        (outcome,) = deliver(plain, sent)
        assert outcome.verdict is Verdict.LATER
        with pytest.raises(DestinationUnavailableError, match="TLS failed"):
            deliver(hl7_section(port=elsewhere.port, **files), sent)
    finally:
        server.stop()
        elsewhere.stop()
    assert len(server.messages) == 1 and elsewhere.messages == []


def test_a_system_that_does_not_answer_is_left(sent: Instance, ordered: Instance) -> None:
    server = MllpServer().start()
    server.faults = ["hang", "hang"]
    section = hl7_section(port=server.port, timeout_seconds=3)
    try:
        with pytest.raises(DestinationUnavailableError, match="2 times in a row"):
            deliver(section, sent, ordered, sent)
        end = time.monotonic() + 120
        while len(server.messages) < 2 and time.monotonic() < end:
            time.sleep(0.01)  # the server may read a message later than its sender leaves
    finally:
        server.stop()
    assert len(server.messages) == 2


def test_a_system_away_behind_a_proxy_is_left_also_by_single_reports(
    sent: Instance, ordered: Instance
) -> None:
    server = MllpServer().start()
    server.faults = ["mute"] * 3
    section = hl7_section(port=server.port)
    verdicts: list[Verdict] = []
    try:
        with closing(open_destination(Settings(destinations=(section,)), section)) as lis:

            def send(report: Instance) -> None:
                lis.send([report], lambda _: None, lambda _, said: verdicts.append(said.verdict))

            send(sent)
            for times, report in ((2, ordered), (3, sent)):  # none loses an attempt
                with pytest.raises(DestinationUnavailableError, match=f"{times} times in a row"):
                    send(report)
            send(sent)
            server.faults = ["mute"]
            send(ordered)  # an answer ended the row
    finally:
        server.stop()
    assert verdicts == [Verdict.LATER, Verdict.STORED, Verdict.LATER]


class TestFhirServer:
    """Answers of a FHIR server."""

    @pytest.fixture
    def server(self) -> Any:
        made = FhirServer().start()
        yield made
        made.stop()

    def test_a_lost_answer_does_not_double_a_result(
        self, server: FhirServer, sent: Instance
    ) -> None:
        section = FHIR.model_copy(update={"url": server.url})
        server.answers = ["lose"]
        verdicts = [outcome.verdict for _ in range(2) for outcome in deliver(section, sent)]
        assert verdicts == [Verdict.LATER, Verdict.STORED]
        assert [len(each) for each in server.resources.values()] == [1, 1]

    def test_a_correction_takes_the_place_of_the_result(
        self, server: FhirServer, sent: Instance, tmp_path: Path
    ) -> None:
        section = FHIR.model_copy(update={"url": server.url})
        newer = written_report(
            tmp_path / "1.dcm",
            **{"by": "Meyer^Anna", "score": codes.SCORES["3+"], "said": "3+", "evaluations": []},
            predecessors=[dcmread(sent.path)],
        )
        first, second = deliver(section, sent, newer)
        assert first.text == "stored as Observation/1, DiagnosticReport/1" == second.text
        (observation,) = server.resources["Observation"].values()
        assert observation["status"] == "corrected"
        assert observation["valueCodeableConcept"]["text"] == "3+"
        kept = {each["code"]["coding"][0]["code"] for each in observation["component"]}
        assert "paper-score" not in kept
        with closing(open_destination(Settings(), section)) as lis:
            proofs = [answer.proof for answer in lis.prove([sent, newer]).values()]
        assert proofs == [Proof.ABSENT, Proof.THERE]

    @pytest.mark.parametrize(
        ("http", "body", "verdict", "words"),
        [
            (
                422,
                {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "no subject"}]},
                "never",
                "breaks a rule.*no subject",
            ),
            (500, {}, "later", "HTTP 500"),
            (
                200,
                {
                    "type": "transaction-response",
                    "entry": [{"response": {"status": "409 Conflict"}}],
                },
                "later",
                "another request changes the same resource .HTTP 409",
            ),
            (
                409,
                {"resourceType": "OperationOutcome", "issue": [{"diagnostics": "HAPI-0550"}]},
                "later",
                "HTTP 409.*HAPI-0550",
            ),
            (200, {"resourceType": "Patient"}, "later", "HTTP 500"),
            (200, {"type": "transaction-response", "entry": [None, 3]}, "later", "HTTP 500"),
            (400, {"resourceType": "OperationOutcome", "issue": None}, "never", "HTTP 400"),
            (
                422,
                {
                    "resourceType": "OperationOutcome",
                    "issue": [{"code": "x", "details": {"text": "a" * 9999}}],
                },
                "never",
                "a{300}$",
            ),
        ],
    )
    def test_what_an_answer_means(
        self, http: int, body: Any, verdict: str, words: str, server: FhirServer, sent: Instance
    ) -> None:
        server.answers = [(http, body)]
        (outcome,) = deliver(FHIR.model_copy(update={"url": server.url}), sent)
        assert outcome.verdict == verdict
        assert re.search(words, outcome.text)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
    def test_a_server_that_allows_no_search_says_nothing_of_what_is_there(
        self, status: int, server: FhirServer, sent: Instance
    ) -> None:
        """A token may be for writing alone: a correction must not wait for the proof."""
        section = FHIR.model_copy(update={"url": server.url})
        server.search_status = status
        deliver(section, sent)
        with closing(open_destination(Settings(), section)) as lis:
            (answer,) = lis.prove([sent]).values()
            assert answer.proof is Proof.UNKNOWN and f"FHIR answered {status}" in answer.text
            with pytest.raises(DestinationRejectedError, match=f"answered {status}"):
                lis.check()
            server.search_status = 503  # it is away for a while: nothing is known of its rules
            with pytest.raises(DestinationUnavailableError):
                lis.prove([sent])

    def test_a_gateway_that_keeps_one_identifier_gets_no_result_again_and_again(
        self, server: FhirServer, sent: Instance
    ) -> None:
        section = FHIR.model_copy(update={"url": server.url})
        server.keeps = 1
        with closing(open_destination(Settings(), section)) as lis:
            proofs = [lis.prove([sent])]
            deliver(section, sent)
            proofs.append(lis.prove([sent]))
        said = [(answer.proof, answer.text[:18]) for each in proofs for answer in each.values()]
        assert said == [(Proof.ABSENT, "no DiagnosticRepor"), (Proof.UNKNOWN, "DiagnosticReport/1")]

    def test_a_damaged_report_is_absent_and_no_error(
        self, server: FhirServer, sent: Instance, tmp_path: Path
    ) -> None:
        """It is written again before it is sent again; an error here would end both."""
        section, raw = FHIR.model_copy(update={"url": server.url}), sent.path.read_bytes()
        damaged = replace(sent, path=tmp_path / "damaged.dcm")
        with closing(open_destination(Settings(), section)) as lis:
            for size in (*range(300, len(raw), 997), 0):
                damaged.path.write_bytes(raw[:size])
                (answer,) = lis.prove([damaged]).values()
                assert answer.proof is Proof.ABSENT

    def test_credentials_and_version_are_the_servers(
        self, server: FhirServer, sent: Instance
    ) -> None:
        section = FHIR.model_copy(update={"url": server.url})
        server.answers = [(401, {})]
        with pytest.raises(DestinationUnavailableError, match="Check user, password or token"):
            deliver(section, sent)
        with closing(open_destination(Settings(), section)) as lis:
            assert "FHIR 4.0.1" in lis.check()
            assert all(kind.ok for kind in lis.kinds())
            server.version = "5.0.0"
            with pytest.raises(DestinationRejectedError, match="R4"):
                lis.check()
