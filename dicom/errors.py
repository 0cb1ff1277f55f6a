"""Errors of the DICOM package.

::

    DicomError
    ├── SourceError            a slide cannot be converted or read
    ├── ObjectError            facts do not make a valid object
    ├── PacsUnavailableError   no connection, no answer, out of resources: try again later
    └── PacsRejectedError      refused for good; carries the DICOM status
"""

from __future__ import annotations


class DicomError(Exception):
    """Any error of `dicom`."""


class SourceError(DicomError):
    """A slide cannot be converted to, or read as, VL Whole Slide Microscopy."""


class ObjectError(DicomError):
    """The facts given do not make a valid object."""


class PacsUnavailableError(DicomError):
    """The PACS could not be reached or asked us to come back."""


class PacsRejectedError(DicomError):
    """The PACS refused for good; `status` is its DICOM status, 0 where there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
