"""Which objects Tandem sends, and how they are encoded."""

from __future__ import annotations

from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
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
"""SOP class and transfer syntax. A slide keeps the compression of its scanner."""
