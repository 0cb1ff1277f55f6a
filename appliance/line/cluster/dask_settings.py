"""Dask's configuration for Tandem: TLS everywhere, no retries of its own, no pages over HTTP."""

from __future__ import annotations

import logging

import dask.config
import distributed
from distributed.security import Security

from appliance.settings.cluster import Cluster
from appliance.settings.secrets import handed_over

STEP_SLOTS = "tandem-steps"
"""Name of the plugin that runs steps in a worker."""
_LOGGERS = ("distributed.client", "distributed.gc", "tornado", "tornado.application")
"""Loggers to which Dask gives a level of their own when it is imported."""
VERSION_KEY = "tandem"
"""Key under which a worker tells its version of Tandem to the scheduler."""


def configure_dask(cluster: Cluster) -> None:
    """Configure Dask in this process.

    Dask's own retries are off: what is done again is the ledger's to decide, and Dask also counts a
    worker's death against tasks that only waited behind the one that ran.
    """
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 0,
            "distributed.scheduler.work-stealing": False,
            "distributed.scheduler.worker-ttl": f"{cluster.worker_ttl_seconds:.0f}s",
            "distributed.scheduler.http.routes": [],
            "distributed.worker.http.routes": [],
            "distributed.worker.profile.enabled": False,
            "distributed.admin.low-level-log-length": 1000,
            "distributed.comm.timeouts.connect": f"{cluster.connect_seconds:.0f}s",
        }
    )
    # Dask tells the loss of a connection as errors with tracebacks; Tandem tells it in words.
    for name in (distributed.__name__, *_LOGGERS):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def security(cluster: Cluster) -> Security:
    """Return the TLS files, the same for all roles of this machine."""
    files = {
        f"tls_{role}_{part}": file and str(handed_over(file))
        for role in ("client", "scheduler", "worker")
        for part, file in (("cert", cluster.certificate), ("key", cluster.key))
    }
    return Security(require_encryption=True, tls_ca_file=str(cluster.ca_file), **files)
