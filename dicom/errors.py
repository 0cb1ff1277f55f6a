"""Errors of the DICOM package.

::

    DicomError
    ├── SourceError               a slide cannot be converted or read
    ├── ObjectError               facts do not make a valid object
    ├── PacsUnavailableError      no connection, no answer, out of resources: try again later
    │   └── ConnectionLostError   the line was lost while an object was on it
    └── PacsRejectedError         refused for good
        └── ClassesRejectedError  an association without a single class in common
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


class ConnectionLostError(PacsUnavailableError):
    """The line was lost, or no answer came, while an object was on it."""


class PacsRejectedError(DicomError):
    """The PACS refused for good."""


class ClassesRejectedError(PacsRejectedError):
    """The PACS takes none of the classes of an association."""
