"""Settings that every connection with another system has, and those of the worklist."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from appliance.settings.section import Section


class OverTls(Section):
    """Timeout and TLS files of a connection."""

    timeout_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Timeout of connecting and of each answer."""
    ca_file: Path | None = None
    """Certificate authorities of the peer (PEM). None: those of the system; over DICOMweb those of
    certifi."""
    certificate: Path | None = None
    """Own certificate (PEM), for a peer that requires one."""
    key: Path | None = None
    """Private key of the certificate (PEM, unencrypted), if it is not in the same file."""

    @model_validator(mode="after")
    def _key_is_of_a_certificate(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("key needs certificate")
        return self


class Worklist(OverTls):
    """The lab's modality worklist, queried by accession for slides whose files are no DICOM.

    Their objects then name the order's patient and lie in its study.
    """

    host: str
    """Name or address of the worklist's machine."""
    port: Annotated[int, Field(gt=0, lt=65536)]
    """TCP port of the worklist."""
    called_aet: Annotated[str, Field(min_length=1, max_length=16)]
    """Application entity title of the worklist."""
    calling_aet: Annotated[str, Field(min_length=1, max_length=16)] = "TANDEM"
    """Own application entity title, as the worklist knows it."""
    tls: bool = False
    """DICOM over TLS; the worklist's certificate must be for `host`."""
