"""Settings of the DICOM objects that a case is written as."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from appliance.settings.section import Section

ObjectKind = Literal["WSM", "SEG", "PM", "SR", "PDF", "SC", "ANN", "KO"]
OBJECT_KINDS: frozenset[ObjectKind] = frozenset(get_args(ObjectKind))
"""All kinds of objects that Tandem writes."""
RejectionNote = Literal["none", "quality", "patient-safety"]
"""Reason that a note states which rejects a replaced result."""


class ObjectSettings(Section):
    """Objects written beside the structured report (docs/dicom-objects.md, docs/report.md)."""

    label_images: bool = False
    """Photographs of a converted slide's label, and of the whole slide with it. They show the
    printed label, the patient's name included."""
    report_pdf: bool = True
    """Report page as Encapsulated PDF."""
    page_image: bool = False
    """Report page as Secondary Capture, for viewers that open no PDF. Size: 6 MiB."""
    annotations: bool = False
    """Labels of the tiles as Microscopy Bulk Simple Annotations. Debian's Orthanc truncates their
    metadata, and few viewers show them."""
    finest_um: Annotated[float, Field(ge=0)] = 0.0
    """Pixel size, in µm, of the finest level of a Segmentation. 0: the size of the label map,
    1.1 µm on IHC and 4.5 µm on H&E. 4 makes the object a sixteenth as large."""
    max_mib: Annotated[float, Field(gt=0, le=4095)] = 2048.0
    """Largest possible size of a level of a Segmentation; a larger level is left out. Uncompressed
    pixel data end at 4 GiB."""
    max_slide_mib: Annotated[float, Field(ge=1, le=4095)] = 2048.0
    """Largest instance of a converted slide; a larger level is written in parts of at most 100 MiB
    (a concatenation). Orthanc 1.10 refuses instances of more than 4 GiB. Slides that were converted
    stay as they are."""
    max_frames: Annotated[int, Field(ge=0)] = 0
    """Largest number of frames of a level of a Segmentation; a level with more is left out. 0: any
    number. For viewers that stop at some number of frames."""
    segmentation: Literal["sparse", "full", "labelmap"] = "sparse"
    """Encoding of a Segmentation. sparse: BINARY with the frames that hold something, which viewers
    and archives take. full: BINARY with a frame for every tile; dciodvfy of 2022 reports five
    attributes as missing. labelmap: a tenth as large, but refused by viewers of today and by
    archives as they are installed. full and labelmap are made in memory, from levels of at most
    32 M px."""
    fractional: bool = False
    """Tumor probability as FRACTIONAL Segmentation too, for viewers without Parametric Maps."""
    heatmaps: bool = True
    """Parametric Maps of tumor probability, of stain intensity, and of a second reader's
    attention where one weighed tiles."""
    heatmap_palette: bool = False
    """Color palettes inside the heat maps. The standard allows them, few viewers use them, and
    dciodvfy of 2022 reports eight of their attributes as errors."""
    rejection_note: RejectionNote = "none"
    """Note (Key Object Selection, IHE IOCM) that rejects the objects of a result that a newer one
    replaces: for quality reasons, which archives may go on to show as rejected, or for reasons of
    patient safety, which they hide. none: both results stay listed."""
