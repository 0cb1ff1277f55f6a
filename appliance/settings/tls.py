"""Settings that every connection with another system has, and those of the worklist."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from appliance.settings.section import PathOrNone, Section

_TITLE = re.compile(r"(?=.*[^ ])[ -\[\]-~]{1,16}")


def check_host(value: str) -> str:
    """Return a host's name or address as it is.

    Raises
    ------
    ValueError
        If no machine can have it, such as ``ris..lab``. Sockets would raise that at each use.
    """
    try:
        fits = bool(value.encode("idna")) and value.isprintable() and " " not in value
    except UnicodeError:
        fits = False
    if not fits:
        raise ValueError(
            "no machine has such a name: 1 to 63 characters stand between two dots, and no blank"
        )
    return value


def _check_title(value: str) -> str:
    if not _TITLE.fullmatch(value):
        raise ValueError(
            "an AE title has 1 to 16 characters of ASCII, no backslash, and not blanks alone"
        )
    return value


Host = Annotated[str, AfterValidator(check_host)]
"""Name or address of a machine."""
AeTitle = Annotated[str, AfterValidator(_check_title)]
"""Application entity title (AE, PS3.5 6.2)."""


class OverTls(Section):
    """Timeout and TLS files of a connection."""

    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    """Timeout of connecting and of each answer."""
    ca_file: PathOrNone = None
    """Certificate authorities of the peer (PEM). None: those of the system; over DICOMweb those of
    certifi."""
    certificate: PathOrNone = None
    """Own certificate (PEM), for a peer that requires one."""
    key: PathOrNone = None
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

    host: Host
    """Name or address of the worklist's machine."""
    port: Annotated[int, Field(gt=0, lt=65536)]
    """TCP port of the worklist."""
    called_aet: AeTitle
    """Application entity title of the worklist."""
    calling_aet: AeTitle = "TANDEM"
    """Own application entity title, as the worklist knows it."""
    tls: bool = False
    """DICOM over TLS; the worklist's certificate must be for `host`."""
