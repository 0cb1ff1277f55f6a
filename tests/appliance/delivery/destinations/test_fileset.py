"""A folder archive with DICOMDIRs: read by pydicom, checked by dciodvfy and dcmtk, repaired."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.headers import Written, rewritten
from fixtures.instances import parcel_of
from fixtures.judges import dicom_errors, require_judge
from fixtures.slide_objects import (
    ALGORITHM,
    MPP,
    SCANNED,
    STUDY_UID,
    her2_label_map,
    identity,
    report,
    report_facts,
    segmentation,
    write_svs,
)
from pydicom import Dataset, dcmread
from pydicom.fileset import FileSet, is_conformant_file_id

from appliance.delivery.destinations.contract import (
    Answer,
    Destination,
    Instance,
    Proof,
    open_destination,
)
from appliance.settings.destinations import FolderDestination
from appliance.settings.settings import Settings
from dicom import codes
from dicom.annotations import build_annotations
from dicom.capture import build_capture
from dicom.directory import file_id
from dicom.encapsulated import build_encapsulated_pdf
from dicom.heatmap import HeatLevel, build_heatmap
from dicom.rejection import build_rejection_note
from dicom.source import convert_slide, read_headers
from dicom.status import Outcome, Verdict

pytestmark = pytest.mark.judge

RECORDS = {"SM": "IMAGE", "SEG": "IMAGE", "OT": "IMAGE", "SR": "SR DOCUMENT", "DOC": "ENCAP DOC"}
RECORDS |= {"KO": "KEY OBJECT DOC"}
FALSE_ERROR = "Error - Unrecognized enumerated value <ANNOTATION>"
"""dciodvfy of 2022 and pydicom 3.0.2 do not know this record type; pydicom's FileSet cannot open
a directory that has one."""


def saved(folder: Path, dataset: Dataset, **changes: Any) -> Instance:
    """Save an object in a series for its kind, with attributes changed."""
    dataset.SeriesInstanceUID = f"2.25.{dataset.SeriesNumber}{int(dataset.InstanceNumber):04d}"
    if dataset.Modality in ("SEG", "OT") and "FrameOfReferenceUID" in dataset:
        dataset.SeriesInstanceUID = f"2.25.{dataset.SeriesNumber}"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return parcel_of(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """Make two slides and an object of every kind but ANN, of a patient without ID, the SR last."""
    folder = tmp_path_factory.mktemp("made")
    wsm: dict[str, list[Path]] = {}
    for seed, stain in enumerate(("HER2", "HE")):
        slide = write_svs(folder / f"{stain}.svs", seed=seed)
        who = identity(stain, patient_name="Müller^Jörg")
        wsm[stain] = list(convert_slide(slide, folder / stain, who, mpp=MPP).paths)
    ihc, he = read_headers(wsm["HER2"]), read_headers(wsm["HE"])
    segs = segmentation(ihc, her2_label_map())
    facts: dict[str, Any] = {"created": SCANNED, "software": "0.1.0"}
    heat = build_heatmap(
        source_images=ihc,
        levels=[HeatLevel(values=np.ones((34, 43), dtype=np.float32), mpp=8.0)],
        highest=3.0,
        quantity=codes.STAIN_INTENSITY,
        label="HER2 intensity",
        series_description="HER2 intensity (research use only)",
        content_description="Mean class of tumor",
        uid_seed="heat",
        **facts,
    )
    sr = report(he, ihc, segs)
    note = build_rejection_note(
        segs, title=codes.REJECTED_FOR_SAFETY, replaced_by="2.25.9", uid_seed="note", **facts
    )
    pixels = np.full((40, 50, 3), 200, np.uint8)
    objects = [
        *segs,
        *heat,
        build_encapsulated_pdf(
            b"%PDF-1.4\n%%EOF\n", ihc_image=ihc[0], sources=ihc, uid_seed="pdf", **facts
        ),
        build_capture(pixels, ihc_image=ihc[0], uid_seed="sc", **facts),
        note,
        sr,
    ]
    slides = [parcel_of(path) for paths in wsm.values() for path in paths]
    return [*slides, *(saved(folder, dataset) for dataset in objects)]


@pytest.fixture
def annotations(made: list[Instance], tmp_path: Path) -> Instance:
    dataset = build_annotations(
        {"NFW/1+": np.array([[0.0, 0.0, 143.0, 143.0]])},
        image=read_headers([made[0].path])[0],
        algorithm=ALGORITHM,
        uid_seed="ann",
        created=SCANNED,
        software="0.1.0",
    )
    return saved(tmp_path, dataset)


@pytest.fixture
def archive(tmp_path: Path) -> Destination:
    section = FolderDestination(dicomdir=True)
    return open_destination(Settings(state_dir=tmp_path, destinations=(section,)), section)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return tmp_path / "archive" / STUDY_UID


def send(archive: Destination, instances: Sequence[Instance]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    archive.send(instances, lambda _parcel: None, lambda _parcel, outcome: outcomes.append(outcome))
    return outcomes


def proofs(archive: Destination, instances: Sequence[Instance]) -> set[Proof]:
    return {answer.proof for answer in archive.prove(instances).values()}


def place_of(study: Path, instance: Instance) -> Path:
    return study.joinpath(*file_id(instance.ref.series_uid, instance.ref.sop_instance_uid))


def uids(instances: Sequence[Instance]) -> list[str]:
    return sorted(instance.ref.sop_instance_uid for instance in instances)


def listed(study: Path) -> list[str]:
    found = records(study)
    leaves = [leaf for kind in set(RECORDS.values()) for leaf in found.get(kind, [])]
    return sorted(leaf.ReferencedSOPInstanceUIDInFile for leaf in leaves)


def snapshot(study: Path) -> dict[Path, tuple[bytes, int]]:
    files = [path for path in study.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def records(study: Path) -> dict[str, list[Dataset]]:
    found: dict[str, list[Dataset]] = {}
    for record in dcmread(study / "DICOMDIR").DirectoryRecordSequence:
        found.setdefault(record.DirectoryRecordType, []).append(record)
    return found


def test_every_instance_is_found_and_the_judges_agree(
    archive: Destination, study: Path, made: list[Instance]
) -> None:
    assert {outcome.verdict for outcome in send(archive, made)} == {Verdict.STORED}
    assert proofs(archive, made) == {Proof.THERE}
    file_set = FileSet(study / "DICOMDIR")
    assert sorted(instance.SOPInstanceUID for instance in file_set) == uids(made)
    for instance in file_set:
        dataset = instance.load()
        assert dataset.SOPInstanceUID == instance.SOPInstanceUID
        assert instance.DirectoryRecordType == RECORDS[dataset.Modality]
        assert instance.SeriesInstanceUID == dataset.SeriesInstanceUID
        assert is_conformant_file_id(Path(instance.path).relative_to(study))
    file_set._stage["t"].cleanup()  # its temporary folder, which no public method closes
    # Slides come first, then results, in the order of their numbers.
    numbers = [int(record.SeriesNumber) for record in records(study)["SERIES"]]
    assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)
    # dciodvfy reports only the kind of the object.
    command = [require_judge("dciodvfy"), str(study / "DICOMDIR")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.split() == ["BasicDirectory"]


def test_dcmtk_would_write_the_same_records(
    archive: Destination,
    study: Path,
    made: list[Instance],
    annotations: Instance,
    tmp_path: Path,
) -> None:
    """Run dcmmkdir on the same files, an annotation among them."""
    instances = [*made, annotations]
    send(archive, instances)
    assert proofs(archive, instances) == {Proof.THERE}
    (error,) = dicom_errors(study / "DICOMDIR")
    assert error.startswith(FALSE_ERROR)
    dump = [require_judge("dcmdump"), study / "DICOMDIR"]
    told = subprocess.run(dump, capture_output=True, check=True)
    assert told.stdout.count(b"refFileID=") == len(instances)
    assert told.stderr == b""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    files = [str(place_of(study, instance).relative_to(study)) for instance in instances]
    # +I allows a missing Patient ID, -Nxc allows JPEG slides.
    command = [require_judge("dcmmkdir"), "+I", "-Nxc", "-Nec", "+id", study, "+D"]
    subprocess.run([*command, theirs / "DICOMDIR", *files], capture_output=True, check=True)

    def leaves(folder: Path) -> dict[str, Dataset]:
        found = {}
        for record in dcmread(folder / "DICOMDIR").DirectoryRecordSequence:
            for keyword in record.dir():
                if keyword.startswith("Offset") or keyword in ("ImageType", "SpecificCharacterSet"):
                    delattr(record, keyword)
            if "ReferencedFileID" in record:
                found[str(record.ReferencedSOPInstanceUIDInFile)] = record
        return found

    ours = leaves(study)
    assert len(ours) == len(instances)
    assert ours == leaves(theirs)


def test_a_second_delivery_changes_no_byte(
    archive: Destination, study: Path, made: list[Instance]
) -> None:
    send(archive, made)
    first = snapshot(study)
    send(archive, list(reversed(made)))
    second = snapshot(study)
    assert {p: data for p, (data, _) in first.items()} == {p: d for p, (d, _) in second.items()}
    # The directory is not written again.
    assert first[study / "DICOMDIR"] == second[study / "DICOMDIR"]


def test_a_correction_appears_beside_its_predecessor(
    archive: Destination, study: Path, made: list[Instance], tmp_path: Path
) -> None:
    send(archive, made)
    before = snapshot(study)
    slides = [p.path for p in made if p.path.parent.name in ("HER2", "HE")]
    ihc = read_headers([path for path in slides if path.parent.name == "HER2"])
    he = read_headers([path for path in slides if path.parent.name == "HE"])
    second = report(
        he,
        ihc,
        segmentation(ihc, her2_label_map()),
        report_facts(said="1+", score=codes.SCORES["1+"]),
    )
    correction = saved(tmp_path, second, SeriesInstanceUID="2.25.77")
    send(archive, [correction])
    assert proofs(archive, [correction]) == {Proof.THERE}
    assert listed(study) == uids([*made, correction])
    after = snapshot(study)
    assert {path for path in before if after[path] != before[path]} == {study / "DICOMDIR"}
    assert len(records(study)["SR DOCUMENT"]) == 2


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize("harm", [Path.unlink, torn, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("mend", [proofs, send])
def test_a_lost_or_torn_directory_is_written_again(
    harm: Callable[[Path], object],
    mend: Callable[[Destination, Sequence[Instance]], object],
    archive: Destination,
    study: Path,
    made: list[Instance],
) -> None:
    """Cover also the state that a crash between an object and the directory leaves."""
    send(archive, made[-3:])
    whole = (study / "DICOMDIR").read_bytes()
    harm(study / "DICOMDIR")
    mend(archive, made[-1:])
    assert (study / "DICOMDIR").read_bytes() == whole
    assert not list(study.rglob(".*"))


def test_names_in_utf8_and_a_stand_in_for_a_missing_id(
    archive: Destination, study: Path, made: list[Instance], tmp_path: Path
) -> None:
    send(archive, made)
    (patient,), (its_study,) = records(study)["PATIENT"], records(study)["STUDY"]
    assert (patient.SpecificCharacterSet, str(patient.PatientName)) == ("ISO_IR 192", "Müller^Jörg")
    assert "Müller".encode() in (study / "DICOMDIR").read_bytes()
    assert "SpecificCharacterSet" not in its_study  # only ASCII
    assert re.fullmatch("NO-ID-[A-Z2-7]{8}", patient.PatientID)
    # The placeholder differs between studies, and a stated ID is used as it is.
    other = saved(tmp_path, dcmread(made[-1].path), StudyInstanceUID="2.25.7002")
    known = saved(
        tmp_path,
        dcmread(made[-1].path),
        StudyInstanceUID="2.25.7003",
        SOPInstanceUID="2.25.7004",
        PatientID="P-17",
    )
    send(archive, [other, known])
    assert records(study.with_name("2.25.7002"))["PATIENT"][0].PatientID != patient.PatientID
    assert records(study.with_name("2.25.7003"))["PATIENT"][0].PatientID == "P-17"
    # No file name in the archive identifies the patient.
    names = {part for path in study.parent.rglob("*") for part in path.parts[-2:]}
    assert not [name for name in names if re.search("ller|P-17|S26", name)]


@pytest.mark.parametrize(
    ("changes", "patients"),
    [
        ({"PatientID": "P-OLD", "PatientName": "Old^Berta"}, 2),
        ({"PatientID": "P-NEW", "PatientName": "O^Ida", "IssuerOfPatientID": "OTHER"}, 2),
        ({"PatientID": "P-NEW", "PatientName": ""}, 1),
        ({"PatientID": None, "PatientName": None}, 1),
    ],
)
def test_each_patient_of_a_study_has_its_own_record(
    changes: dict[str, Any],
    patients: int,
    archive: Destination,
    study: Path,
    made: list[Instance],
    tmp_path: Path,
) -> None:
    """Results of a corrected patient lie beside those of the former one."""
    new = {"PatientID": "P-NEW", "PatientName": "New^Anna", "IssuerOfPatientID": "LAB"}
    for number, stated in enumerate((new, changes)):
        uids = {"SeriesInstanceUID": f"2.25.8{number}", "SOPInstanceUID": f"2.25.9{number}"}
        send(archive, [saved(tmp_path, dcmread(made[-1].path), **uids, **stated)])
    file_set = FileSet(study / "DICOMDIR")
    found = {each.SOPInstanceUID: (each.PatientID, str(each.PatientName)) for each in file_set}
    file_set._stage["t"].cleanup()  # its temporary folder, which no public method closes
    name = str(changes["PatientName"] or "New^Anna")
    assert found == {
        "2.25.90": ("P-NEW", "New^Anna"),
        "2.25.91": (changes["PatientID"] or "P-NEW", name),
    }
    assert (len(records(study)["PATIENT"]), len(records(study)["STUDY"])) == (patients, patients)
    assert dicom_errors(study / "DICOMDIR") == []


def test_a_study_without_date_and_id_is_valid_all_the_same(
    archive: Destination, study: Path, made: list[Instance], tmp_path: Path
) -> None:
    empty = {"StudyDate": None, "StudyTime": None, "StudyID": None, "PatientName": None}
    send(archive, [saved(tmp_path, dcmread(made[-1].path), **empty)])
    (found,) = records(study)["STUDY"]
    local = SCANNED.astimezone()  # of the machine's zone
    assert (found.StudyDate, found.StudyTime) == (f"{local:%Y%m%d}", f"{local:%H%M%S}")
    assert found.StudyID.startswith("NO-ID-")
    assert dicom_errors(study / "DICOMDIR") == []


def test_a_place_with_another_object_is_not_overwritten(
    archive: Destination, study: Path, made: list[Instance]
) -> None:
    here, other = made[-1], made[-2]
    place = place_of(study, here)
    place.parent.mkdir(parents=True)
    alien = other.path.read_bytes()
    place.write_bytes(alien)
    refused, stored = send(archive, [here, other])
    assert (refused.verdict, stored.verdict) == (Verdict.NEVER, Verdict.STORED)
    assert f"another object at {place.parent.name}/{place.name}" in refused.text
    assert place.read_bytes() == alien
    assert listed(study) == uids([other])
    answers = archive.prove([here, other])
    assert [answers[p.ref.sop_instance_uid].proof for p in (here, other)] == [
        Proof.ABSENT,
        Proof.THERE,
    ]


def test_a_damaged_object_is_left_out_until_it_is_sent_again(
    archive: Destination, study: Path, made: list[Instance]
) -> None:
    sr, other = made[-1], made[-2]
    send(archive, [sr, other])
    place_of(study, sr).write_bytes(sr.path.read_bytes()[:200])
    assert archive.prove([sr])[sr.ref.sop_instance_uid] == Answer(Proof.ABSENT, "other bytes")
    assert listed(study) == uids([other])
    send(archive, [sr])
    assert proofs(archive, [sr, other]) == {Proof.THERE}
    assert listed(study) == uids([sr, other])


@pytest.mark.parametrize(
    "values",
    [
        {"SeriesNumber": b"1A"},
        {"SeriesNumber": b"12\\13"},
        {"InstanceNumber": b"99999999999"},
        {"InstanceNumber": b"x"},
        {"StudyDate": b"2026-03-04"},
        {"StudyTime": b"09:30:15"},
        {"StudyID": b"S" * 40},
        {"StudyDescription": b"x" * 70},
        {"AccessionNumber": b"S" * 30},
    ],
)
def test_a_value_that_dicom_does_not_allow_keeps_no_study_from_its_directory(
    values: dict[str, bytes],
    archive: Destination,
    study: Path,
    made: list[Instance],
    tmp_path: Path,
) -> None:
    """Slides of scanners are sent as they are."""
    slide = parcel_of(rewritten(made[0].path, tmp_path / "odd.dcm", Written(values=values)))
    sent = [slide, made[-1]]
    assert {outcome.verdict for outcome in send(archive, sent)} == {Verdict.STORED}
    assert proofs(archive, sent) == {Proof.THERE}
    assert listed(study) == uids(sent)


def test_what_no_directory_can_list_is_not_proven(
    archive: Destination, study: Path, made: list[Instance], tmp_path: Path
) -> None:
    note = Instance(path=tmp_path / "note", ref=replace(made[-1].ref, sop_instance_uid="2.25.1"))
    note.path.write_bytes(b"no DICOM")
    send(archive, [note, made[-1]])
    assert archive.prove([note])["2.25.1"] == Answer(Proof.ABSENT, "not in the DICOMDIR")
    assert listed(study) == uids(made[-1:])


@pytest.mark.parametrize("series", [b"1.2.03", b"S1", b""])
def test_a_file_without_a_valid_series_is_not_listed_and_hinders_no_other(
    series: bytes, archive: Destination, study: Path, made: list[Instance]
) -> None:
    """Another program may write into the archive's folder."""
    send(archive, made[-1:])
    (study / "ABCDEFGH").mkdir()
    written = Written(values={"SeriesInstanceUID": series})
    rewritten(made[0].path, study / "ABCDEFGH" / "IJKLMNOP", written)
    assert [outcome.verdict for outcome in send(archive, made[-2:])] == [Verdict.STORED] * 2
    assert proofs(archive, made[-2:]) == {Proof.THERE}
    assert listed(study) == uids(made[-2:])
