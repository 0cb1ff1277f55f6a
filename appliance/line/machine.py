"""Errors of steps that say that the machine is short of memory, threads, processes or files."""

from __future__ import annotations

import errno

from appliance.errors import MachineShortError
from appliance.ledger.tables import CaseRow, SlideRow

SHORT = 2**24
"""Part of `step_tries` that counts attempts that failed for it, above `LOOKED`."""
MOST_SHORT = 30
"""Attempts, a minute apart, after which the slide is to blame: it may need more than there is."""
_ERRNOS = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN})
_NO_THREAD = "can't start new thread"


def is_short(err: BaseException) -> bool:
    """Return whether an error says that the machine, or its process, is short of something."""
    if isinstance(err, OSError):
        return err.errno in _ERRNOS
    return isinstance(err, MemoryError) or (
        isinstance(err, RuntimeError) and _NO_THREAD in str(err)
    )


def machine_short(err: Exception, row: SlideRow | CaseRow) -> MachineShortError | None:
    """Return the error that holds the step; None where it is another one, or came too often."""
    if not is_short(err) or row.step_tries // SHORT >= MOST_SHORT:
        return None
    return MachineShortError(
        f"The machine is short of memory, threads, processes or open files ({type(err).__name__}). "
        "See what else runs on it; the step is tried again by itself."
    )
