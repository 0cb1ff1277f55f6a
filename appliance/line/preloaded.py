"""Modules of all steps, imported once, in the server from which worker processes are forked.

The server is that of multiprocessing. A process that it forks has these modules at once; one that
is spawned imports them for some two seconds of CPU. Torch is not among them: only one lane needs
it. Nothing but the server imports this module: it ties the process to its parent.
"""

from __future__ import annotations

import os
import signal
from importlib import import_module

from models.child_process import end_with_parent

SERVER_PID = os.getpid()
"""PID of the server; forked processes keep the value."""
end_with_parent(os.getppid())
# The service manager tells all processes to end. The daemon abandons its steps first, and the
# server ends with it: until then its end would count as theirs.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
import_module("appliance.line.steps")
# What functions of the steps import when they need it, since the daemon, which runs none, does not.
for name in (
    "SimpleITK",
    "appliance.delivery.page",
    "scipy.fft",
    "scipy.ndimage",
    "scipy.sparse.csgraph",
    "skimage.filters",
    "skimage.segmentation",
):
    import_module(name)
