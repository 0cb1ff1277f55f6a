"""Modules of all steps, imported once, in the server from which worker processes are forked.

The server is that of multiprocessing. A process that it forks has these modules at once; one that
is spawned imports them for some two seconds of CPU. Torch is not among them: only one lane needs
it. Nothing but the server imports this module: it ties the process to its parent.
"""

from __future__ import annotations

import os

import appliance.line.steps  # noqa: F401
from models.child_process import end_with_parent

SERVER_PID = os.getpid()
"""PID of the server; forked processes keep the value."""
end_with_parent(os.getppid())
