"""Errors of `dicom`.

::

    DicomError
    ├── SourceError               a slide cannot be converted or read
    ├── ObjectError               facts do not make a valid object
    ├── SpoolError                a folder for retrieved instances cannot be written
    ├── PacsUnavailableError      no connection, no answer, out of resources: try again later
    │   └── ConnectionLostError   the connection was lost while an object was sent
    └── PacsRejectedError         refused for good
        ├── ClassesRejectedError  an association without an accepted class
        └── CredentialsRejectedError  user, password or token are not accepted
"""

from __future__ import annotations


class DicomError(Exception):
    """Base of all errors of `dicom`."""


class SourceError(DicomError):
    """A slide cannot be converted to, or read as, VL Whole Slide Microscopy."""


class ObjectError(DicomError):
    """The given facts do not make a valid object."""


class SpoolError(DicomError):
    """A folder for retrieved instances cannot be written."""


class PacsUnavailableError(DicomError):
    """The PACS is unreachable or asked to try again later."""


class ConnectionLostError(PacsUnavailableError):
    """The connection was lost, or no answer came, while an object was sent."""


class PacsRejectedError(DicomError):
    """The PACS refused for good."""


class ClassesRejectedError(PacsRejectedError):
    """The PACS accepts none of the classes of an association."""


class CredentialsRejectedError(PacsRejectedError):
    """The PACS, or a proxy before it, does not accept user, password or token."""
