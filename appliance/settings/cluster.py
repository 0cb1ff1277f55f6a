"""Settings of a cluster: where its scheduler is, its TLS files, and the paths of other machines."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from appliance.settings.section import PathOrNone, Section, SomePath

_ADDRESS = re.compile(r"tls://[^\s/]+:\d{1,5}")


class MappedPath(Section):
    """A folder that two machines know by different paths."""

    here: SomePath
    """Path on the machine of this settings file."""
    there: SomePath
    """Path of the same folder on the other side: on the workers in the daemon's settings, on the
    daemon's machine in a worker's."""

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        if not (self.here.is_absolute() and self.there.is_absolute()):
            raise ValueError("both paths must be absolute")
        if self.here != self.there and (
            self.here.is_relative_to(self.there) or self.there.is_relative_to(self.here)
        ):
            raise ValueError("one path lies within the other, so no path tells its machine")
        return self


class Cluster(Section):
    """Steps run on other machines (docs/cluster.md). The same for daemon and workers."""

    scheduler: str = ""
    """Address of the scheduler (``tandem scheduler``), such as ``tls://10.0.0.5:8786``. Empty:
    steps run in processes of this machine."""
    ca_file: PathOrNone = None
    """Certificate authority of the cluster (PEM). Whoever has a certificate of it may run code on
    every machine of the cluster: use an authority for this purpose alone."""
    certificate: PathOrNone = None
    """Own certificate (PEM), signed by that authority."""
    key: PathOrNone = None
    """Private key of the certificate (PEM, unencrypted), if it is not in the same file."""
    paths: tuple[MappedPath, ...] = ()
    """Folders that lie elsewhere on the other side. A worker that names some uses its own."""
    workers: Annotated[int, Field(ge=1, le=32)] = 4
    """The most workers that are given steps at a time, each with the lanes that it offers."""
    worker_ttl_seconds: Annotated[float, Field(ge=5, allow_inf_nan=False)] = 30.0
    """Silence after which a worker counts as dead, and its steps are done elsewhere."""
    connect_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    """Time to connect with the scheduler, and to get an answer from it."""

    @field_validator("scheduler")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value and not _ADDRESS.fullmatch(value):
            # Steps are pickled: whoever can send one can run any code.
            raise ValueError("write tls://HOST:PORT; connections without TLS are not used")
        return value

    @model_validator(mode="after")
    def _has_certificates(self) -> Self:
        if self.scheduler and (self.ca_file is None or self.certificate is None):
            raise ValueError("scheduler needs ca_file and certificate (docs/cluster.md)")
        return self

    @property
    def port(self) -> int:
        """TCP port of the scheduler."""
        return int(self.scheduler.rpartition(":")[2])
