"""Errors of the networks' package.

::

    ModelError
    ├── ManifestError      weights or manifest missing, damaged or changed
    ├── DataSetError       a data set cannot be used
    └── SynthesisError     a slide cannot be generated as asked
"""

from __future__ import annotations


class ModelError(Exception):
    """Any error of `models`."""


class ManifestError(ModelError):
    """Weights or their manifest are missing, damaged or not what the manifest says."""


class DataSetError(ModelError):
    """A data set cannot be read or does not hold what training needs."""


class SynthesisError(ModelError):
    """Tissue cannot be generated with the numbers given."""
