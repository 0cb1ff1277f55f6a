"""Check of the cluster's scheduler for ``tandem doctor``, without Dask: TCP, TLS, certificates."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from appliance.errors import SettingsError
from appliance.settings.cluster import Cluster
from appliance.settings.secrets import handed_over


def check_cluster(cluster: Cluster) -> str:
    """Return that the scheduler answers to this machine's certificate.

    Raises
    ------
    SettingsError
        If it does not, with the remedy.
    """
    address = cluster.scheduler
    if cluster.ca_file is None or cluster.certificate is None:
        raise SettingsError("cluster needs ca_file and certificate (docs/cluster.md).")
    try:
        context = ssl.create_default_context(cafile=cluster.ca_file)
        context.load_cert_chain(handed_over(cluster.certificate), handed_over(cluster.key))
    except OSError as err:
        raise SettingsError(
            f"the TLS files of [cluster] cannot be used ({type(err).__name__}: {err})."
        ) from err
    # As Dask does it: the authority counts, not the host's name.
    context.check_hostname = False
    parts = urlsplit(address)
    try:
        with (
            socket.create_connection(
                (parts.hostname or "", cluster.port), cluster.connect_seconds
            ) as plain,
            context.wrap_socket(plain) as secured,
        ):
            # A scheduler greets first; where it refuses the certificate, it closes.
            greeted = bool(secured.recv(1))
    except ssl.SSLError as err:
        raise SettingsError(
            f"{address} and this machine do not accept each other's certificate ({err.reason}): "
            "sign both by the same authority."
        ) from err
    except OSError as err:
        raise SettingsError(
            f"{address} does not answer ({err.strerror or type(err).__name__}). Start it: tandem "
            "scheduler."
        ) from err
    if not greeted:
        raise SettingsError(f"{address} closed the connection: it refuses the certificate.")
    return f"{address} answers; whether workers are connected is told by the line's lanes"
