"""SOP classes and transfer syntaxes of the objects that Tandem sends."""

from __future__ import annotations

from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    KeyObjectSelectionDocumentStorage,
    LabelMapSegmentationStorage,
    MicroscopyBulkSimpleAnnotationsStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

SENT_KINDS: tuple[tuple[str, str], ...] = (
    *(
        (str(VLWholeSlideMicroscopyImageStorage), str(syntax))
        for syntax in (JPEGBaseline8Bit, JPEG2000, JPEG2000Lossless)
    ),
    *(
        (str(sop_class), str(ExplicitVRLittleEndian))
        for sop_class in (
            SegmentationStorage,
            ParametricMapStorage,
            Comprehensive3DSRStorage,
            EncapsulatedPDFStorage,
            SecondaryCaptureImageStorage,
            MicroscopyBulkSimpleAnnotationsStorage,
        )
    ),
)
"""SOP class and transfer syntax under default settings. A slide keeps its scanner's compression."""

LABEL_MAP = (str(LabelMapSegmentationStorage), str(RLELossless))


NOTE = (str(KeyObjectSelectionDocumentStorage), str(ExplicitVRLittleEndian))


def sent_kinds(*, labelmap: bool = False, notes: bool = False) -> tuple[tuple[str, str], ...]:
    """Return `SENT_KINDS`, with label maps and notes of rejection if the settings ask for them."""
    return (*SENT_KINDS, *((LABEL_MAP,) if labelmap else ()), *((NOTE,) if notes else ()))
