"""The appliance's errors; whether to try again is the class, not the caller's guess.

::

    TandemError
    ├── TransientError                 try again later
    │   ├── DestinationUnavailableError
    │   ├── WorklistUnavailableError
    │   ├── FolderAwayError
    │   ├── DiskFullError
    │   ├── StateFolderError
    │   ├── LedgerUnwritableError
    │   ├── WeightsUnusableError
    │   ├── DeviceUnusableError
    │   ├── MachineShortError
    │   ├── SourceChangedError
    │   ├── ArtifactDamagedError
    │   ├── TookTooLongError
    │   ├── WorkerStartError
    │   ├── WorkerDiedError
    │   ├── ClusterAwayError
    │   ├── AlertUnsentError
    │   └── WorkerLostError
    └── PermanentError                 tell a person
        ├── SettingsError
        │   └── LedgerError
        ├── SlideError                 carries a QuarantineReason
        ├── AlignmentError
        ├── CaseHeldError              carries the reason of a held case
        ├── WeightsError
        ├── RecordDamagedError
        ├── PeerError
        └── DestinationRejectedError

Every message names the thing and the remedy. ``try: … except TransientError`` is all that a
caller needs to decide between waiting and telling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from appliance.domain import QuarantineReason
from appliance.words.say import say


class TandemError(Exception):
    """Any error that Tandem itself raises."""


class TransientError(TandemError):
    """Trying again later may succeed."""

    wait_seconds: ClassVar[float] = 5.0
    """Wait before the next attempt."""
    code: ClassVar[str] = "held"
    """Reason of a case that waits for it."""


class DestinationUnavailableError(TransientError):
    """A destination could not be reached, or asked us to come back."""


class AlertUnsentError(TransientError):
    """A message to people could not be sent; it is tried again, and holds nothing up."""


class WorklistUnavailableError(TransientError):
    """The worklist could not be asked; without its order objects would name no patient."""

    wait_seconds = 60.0
    code = "worklist-away"


class FolderAwayError(TransientError):
    """The scanner's folder cannot be read: the site's trouble, of which no slide is to blame."""

    wait_seconds = 15.0
    code = "folder-away"


class LookAgainError(TransientError):
    """A step failed for the first time, in a way that another attempt may mend."""

    wait_seconds = 3.0
    code = "look-again"


class DiskFullError(TransientError):
    """No room is left for results: the site's trouble, of which no slide is to blame."""

    wait_seconds = 15.0
    code = "disk-full"


class StateFolderError(TransientError):
    """No result can be stored: the site's trouble, of which no slide is to blame."""

    wait_seconds = 15.0
    code = "state-unusable"


class LedgerUnwritableError(TransientError):
    """The ledger cannot be written now: the site's trouble, of which no slide is to blame."""

    wait_seconds = 15.0
    code = "ledger-unwritable"


class WeightsUnusableError(TransientError):
    """Weights cannot be used any more: the site's trouble, of which no slide is to blame."""

    wait_seconds = 60.0
    code = "weights-unusable"


class DeviceUnusableError(TransientError):
    """The networks' device fails, or has no memory left: the site's trouble, no slide's."""

    wait_seconds = 60.0
    code = "device-unusable"


class MachineShortError(TransientError):
    """The machine is short of memory, threads, processes or open files: the site's trouble."""

    wait_seconds = 60.0
    code = "machine-short"


class SourceChangedError(TransientError):
    """A slide's file is not, or did not stay, the one that was identified; its result is dropped.

    `path` is the slide's. The slide is taken up anew as `file-changed`.
    """

    code = "source-changed"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            "The file of a slide changed since it was identified, or while it was read. What was "
            "read is thrown away, and the slide is read again."
        )

    def __reduce__(self) -> tuple[type[SourceChangedError], tuple[str]]:
        # Errors come back from worker processes by pickle.
        return (type(self), (self.path,))


class ArtifactDamagedError(TransientError):
    """A stored result was not what was written, and was removed; the next attempt makes it."""

    wait_seconds = 10.0
    code = "artifact-damaged"


class WorkerDiedError(TransientError):
    """The worker process that ran a step died (codec crash, out of memory)."""

    code = "worker-died"


class TookTooLongError(TransientError):
    """A step exceeded its deadline, or its process gave no sign of life; the process was ended."""

    wait_seconds = 1.0
    code = "deadline-passed"


class ClusterAwayError(TransientError):
    """The cluster's scheduler, or a worker, cannot be used: the site's trouble, no slide's."""

    code = "cluster-away"


class WorkerLostError(TransientError):
    """A process on which several steps depended is gone: a worker of the cluster (with its machine,
    network or service), or the server that forked this machine's processes.

    A step that kills its own process raises `WorkerDiedError`; this one says nothing about the
    step, as all steps of the worker, or of the machine, end with it.
    """

    wait_seconds = 1.0
    code = "worker-lost"


class WorkerStartError(TransientError):
    """No worker process could be started, or it ended before it had a step: no slide's fault."""

    wait_seconds = 10.0
    code = "worker-start"


class StoppedError(TandemError):
    """The daemon was told to stop while a step ran; the step is done again at the next start."""


class PermanentError(TandemError):
    """Trying again with the same input cannot succeed; a person has to look."""


class SettingsError(PermanentError):
    """A setting is unknown, missing or out of range."""


class LedgerError(SettingsError):
    """The ledger cannot be used as it is: damaged, emptied, locked, or of another build."""


class AlignmentError(PermanentError):
    """Two slides could not be brought onto each other."""


class CaseHeldError(PermanentError):
    """The slides of a case contradict each other; the case is held until a person decides.

    The message is the sentence of the reason with its remedy.
    """

    def __init__(self, reason: str, params: Mapping[str, Any]) -> None:
        self.reason = reason
        self.params = dict(params)
        super().__init__(say("case", reason, self.params))

    def __reduce__(self) -> tuple[type[CaseHeldError], tuple[str, dict[str, Any]]]:
        # Errors come back from worker processes by pickle.
        return (type(self), (self.reason, self.params))


class WeightsError(PermanentError):
    """Weights are missing, changed, or not such as this appliance can use."""


class RecordDamagedError(PermanentError):
    """A stored record is damaged that the appliance cannot make again, such as a correction."""


class PeerError(PermanentError):
    """Another tool, measured beside the appliance, is missing, failed or did other work."""


class DestinationRejectedError(PermanentError):
    """A destination understood an object and refused it for good."""


class SlideError(PermanentError):
    """A slide cannot be used; it is quarantined with `reason`, its file is left alone.

    The message is the sentence of the reason with its remedy. `path` is that of a slide whose file
    is gone.
    """

    def __init__(self, reason: QuarantineReason, detail: str = "", path: str = "") -> None:
        self.reason = reason
        self.detail = detail
        self.path = path
        super().__init__(say("slide-error", reason, {"detail": detail}))

    def __reduce__(self) -> tuple[type[SlideError], tuple[QuarantineReason, str, str]]:
        # Errors come back from worker processes by pickle.
        return (type(self), (self.reason, self.detail, self.path))


def text_of(err: BaseException) -> str:
    """Return an error's text; its class's name where a library's error cannot say it."""
    try:
        return str(err)
    except Exception:  # noqa: BLE001  of any library's class
        return type(err).__name__
