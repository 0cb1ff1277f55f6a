"""DICOM slides as scanners write them: one series of several instances, one per level."""

from __future__ import annotations

import io
import tempfile
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydicom import Dataset, dcmread

from benchmarks.scanner.tiff_formats import generic_tiff, labeled
from benchmarks.scanner.tissue import Section
from dicom.slide_metadata import SlideIdentity
from dicom.source import convert_slide
from dicom.study import StudyFacts
from dicom.uids import deterministic_uid

SCANNED = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesIdentity:
    """Identity that a scanner writes into the header.

    `seed` and `scan`, the minute of the scan, distinguish scans of one slide.
    """

    accession: str
    container_id: str
    seed: str
    scan: int = 1


def dicom_template(section: Section) -> list[bytes]:
    """Return the instances of a section, level 0 first."""
    identity = SlideIdentity(
        accession="TEMPLATE",
        block="A1",
        stain=section.stain,
        container_id="TEMPLATE",
        study=StudyFacts(uid=deterministic_uid("template")),
        fingerprint=section.stain + section.score,
        scanned=SCANNED,
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = Path(folder) / "template.tif"
        source.write_bytes(labeled(generic_tiff(section), "TEMPLATE"))
        made = convert_slide(source, Path(folder) / "dicom", identity, mpp=section.mpp)
        files = [path.read_bytes() for path in made.paths]
    return sorted(files, key=_columns, reverse=True)


def dicom_series(template: list[bytes], identity: SeriesIdentity) -> dict[str, bytes]:
    """Return the instances of one slide by file name, level 0 first."""
    study = deterministic_uid("simulated study", identity.accession)
    parts = (identity.accession, identity.container_id, identity.seed)
    series = deterministic_uid("simulated series", *parts)
    files: dict[str, bytes] = {}
    for number, content in enumerate(template):
        instance = deterministic_uid("simulated instance", *parts, str(number))
        dataset = dcmread(io.BytesIO(content))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
        dataset.FrameOfReferenceUID = deterministic_uid("simulated frame", *parts)
        dataset.StudyID = dataset.AccessionNumber = identity.accession
        dataset.ContainerIdentifier = identity.container_id
        dataset.Manufacturer = "SIMULATED"
        dataset.AcquisitionDateTime = f"2026112010{identity.scan % 60:02d}00"
        for specimen in dataset.get("SpecimenDescriptionSequence", []):
            specimen.SpecimenIdentifier = identity.container_id
        memory = io.BytesIO()
        dataset.save_as(memory, enforce_file_format=True)
        files[f"{instance}.dcm"] = memory.getvalue()
    return files


def _columns(content: bytes) -> int:
    header: Dataset = dcmread(io.BytesIO(content), stop_before_pixels=True)
    return int(header.TotalPixelMatrixColumns)
