"""Settings of connections that may need a secret: DICOM, DICOMweb, and what is built on HTTP."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from appliance.settings.section import PathOrNone
from appliance.settings.tls import OverTls, check_host

_URL = re.compile(r"https?://[^@\s?#]+")


def _check_url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError(
            "a web address begins with http:// or https://, and has no blank, '@', '?' or '#': "
            "what stands there may be a secret, and settings are shown"
        )
    check_host(urlsplit(value).hostname or "")
    return value


Url = Annotated[str, AfterValidator(_check_url)]
"""URL without user, password and query: these may be secrets, and settings are printed."""


class WithSecret(OverTls):
    """User and secret of a connection."""

    user: str | None = None
    """User, whose password is the secret. None: the secret is a bearer token over HTTP."""
    secret_file: PathOrNone = None
    """File that holds the secret. It is read at each use and never printed."""
    secret_env: str | None = None
    """Environment variable that holds the secret, if there is no file."""

    @model_validator(mode="after")
    def _secret_is_whole(self) -> Self:
        if self.secret_file is not None and self.secret_env is not None:
            raise ValueError("secret_file and secret_env: name one")
        if self.user is not None and self.secret_file is None and self.secret_env is None:
            raise ValueError("user needs secret_file or secret_env")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs that the secret is sent to."""
        return ()

    @property
    def has_secret(self) -> bool:
        """Return whether a file or a variable is named that holds a secret."""
        return self.secret_file is not None or self.secret_env is not None

    @model_validator(mode="after")
    def _secret_is_not_readable_on_the_way(self) -> Self:
        if not self.has_secret:
            return self
        for url in self.urls:
            # Loopback leaves this machine only through a proxy or tunnel, which adds TLS.
            if url.startswith("http:") and not is_loopback(urlsplit(url).hostname or ""):
                raise ValueError(
                    "a secret over http can be read by everyone on the way: use https in the url "
                    "(ca_file names the server's own authority), or a TLS proxy on localhost"
                )
        return self


class Network(WithSecret):
    """Rate, user and secret of a connection that objects are sent over."""

    bandwidth_mib_s: Annotated[float, Field(gt=0)] | None = None
    """Upper limit of the sending rate in MiB/s. None: no limit."""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by an address or its usual name."""
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
