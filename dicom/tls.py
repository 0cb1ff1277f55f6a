"""TLS contexts: own CA, own certificate, and a check of the peer's host name."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from dicom.errors import PacsUnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. Without `ca` the system's CAs are used; without `certificate` no client
    certificate.

    `key` may be None if the certificate's file holds it.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def client(self) -> ssl.SSLContext:
        """Return a context for calling: the server needs a certificate of the CA for its host name.

        Raises
        ------
        PacsUnavailableError
            If a file is missing or invalid.
        """
        return self._context(ssl.Purpose.SERVER_AUTH)

    def server(self) -> ssl.SSLContext:
        """Return a context for serving: the client needs a certificate of the CA.

        Raises
        ------
        PacsUnavailableError
            If a file is missing or invalid.
        """
        context = self._context(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(purpose, cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (OSError, ValueError) as err:  # SSLError is an OSError
            files = ", ".join(str(f) for f in (self.ca, self.certificate, self.key) if f)
            raise PacsUnavailableError(
                f"TLS files cannot be used ({err}): {files}. Check ca_file, certificate, key."
            ) from err
        return context


def _no_password() -> str:
    # Called for an encrypted key. The default asks on the terminal, and a daemon would hang.
    raise ValueError("the key is encrypted; a daemon needs one that is not")
