"""Errors of `models`.

::

    ModelError
    ├── ManifestError      weights or manifest missing, damaged or changed
    ├── CalibrationError   a site's calibration is unusable, or is refused
    ├── DataSetError       a data set is unusable
    └── SynthesisError     a slide cannot be generated with the given numbers
"""

from __future__ import annotations


class ModelError(Exception):
    """Base of all errors of `models`."""


class ManifestError(ModelError):
    """Weights or manifest are missing, damaged, or do not match."""


class CalibrationError(ModelError):
    """A site's calibration cannot be used, or its labels do not allow one."""


class DataSetError(ModelError):
    """A data set cannot be read or lacks what training needs."""


class SynthesisError(ModelError):
    """Tissue cannot be generated with the given numbers."""
