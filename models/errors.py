"""Errors of `models`.

::

    ModelError
    ├── ManifestError      weights or manifest missing, damaged or changed
    ├── CalibrationError   a site's calibration is unusable, or is refused
    ├── DataSetError       a data set is unusable
    └── SynthesisError     a slide cannot be generated with the given numbers
"""

from __future__ import annotations

import errno

_SHORT = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Numbers of errors that end where there is more room."""
_SAID = ("can't allocate memory", "bad_alloc", "can't start new thread")
"""Words of torch's allocator, of C++, and of Python."""


def is_short(err: BaseException) -> bool:
    """Return whether an error says that the machine lacks memory, threads or open files.

    It is no `ManifestError`: the files are as they were.
    """
    if isinstance(err, OSError):
        return err.errno in _SHORT
    return isinstance(err, MemoryError) or any(words in str(err) for words in _SAID)


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
