"""DICOMweb client: STOW-RS from disk, and QIDO-RS as proof of storage (PS3.18 10.5, 10.6)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase, HTTPBasicAuth

from dicom.errors import ConnectionLostError, PacsRejectedError, PacsUnavailableError
from dicom.pace import Pace
from dicom.status import MAX_LOST, After, Before, InstanceRef, Outcome, Verdict, classify
from dicom.tls import TlsFiles

PIECE_BYTES = 2**18
PROCESSING_FAILURE = 0x0110
ABOUT_THE_SERVER = frozenset({301, 302, 303, 307, 308, 401, 403, 404, 405, 407, 429, 502, 503, 504})
"""HTTP statuses of a store that concern the server, not the object: wrong URL, credentials,
load."""
STUDIES = "studies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Source of a secret, read at each use: a file or an environment variable."""

    file: Path | None = None
    variable: str | None = None

    def read(self) -> str:
        """Return the secret without the end of its line.

        Raises
        ------
        PacsUnavailableError
            If it is missing; a person can supply it while objects wait.
        """
        try:
            text = self.file.read_text() if self.file else os.environ[self.variable or ""]
        except (OSError, KeyError, UnicodeDecodeError) as err:
            raise PacsUnavailableError(f"no secret in {self.file or self.variable}") from err
        return text.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAddress:
    """Base of a DICOMweb service; `timeout_s` holds for connecting and for each answer.

    With `user` the secret is the password (basic authentication), else a bearer token.
    """

    url: str
    timeout_s: float = 30.0
    tls: TlsFiles = field(default_factory=TlsFiles)
    user: str | None = None
    secret: Secret | None = None
    mib_s: float | None = None
    """Bandwidth cap in MiB/s."""

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send one request below the base.

        Raises
        ------
        ConnectionLostError
            No connection, connection lost, no answer in time, or TLS failed.
        PacsUnavailableError
            The secret cannot be read.
        """
        headers = {"Accept": "application/dicom+json"} | options.pop("headers", {})
        certificate = tuple(str(f) for f in (self.tls.certificate, self.tls.key) if f)
        try:
            with requests.Session() as session:
                # Else proxies, CAs and ~/.netrc of the environment would override these settings.
                session.trust_env = False
                session.verify = str(self.tls.ca) if self.tls.ca else True
                session.cert = certificate if len(certificate) == 2 else (certificate or (None,))[0]
                session.auth = self._auth()
                return session.request(
                    method,
                    f"{self.url.rstrip('/')}/{path}",
                    headers=headers,
                    timeout=self.timeout_s,
                    allow_redirects=False,
                    **options,
                )
        except requests.exceptions.SSLError as err:
            raise ConnectionLostError(
                f"{self.url}: TLS failed. Check ca_file, certificate, key and the host's name."
            ) from err
        except (requests.RequestException, OSError) as err:
            # OSError: a certificate file is missing.
            raise ConnectionLostError(
                f"{self.url}: {method} failed ({type(err).__name__})"
            ) from err

    def _auth(self) -> AuthBase | None:
        if self.secret is None:
            return None
        if self.user is not None:
            return HTTPBasicAuth(self.user, self.secret.read())
        return _Bearer(self.secret.read())


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Body:
    """Multipart/related body of one file, read from disk while it is sent."""

    def __init__(self, path: Path, pace: Pace) -> None:
        self._path, self._pace = path, pace
        self.boundary = uuid.uuid4().hex
        self._head = f"--{self.boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"\r\n--{self.boundary}--\r\n".encode()

    def __len__(self) -> int:
        # Given a length, requests does not use chunked encoding, which some servers refuse.
        return len(self._head) + self._path.stat().st_size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        with self._path.open("rb") as stream:
            while piece := stream.read(PIECE_BYTES):
                self._pace.spend(len(piece))
                yield piece
        yield self._tail


def stow(
    address: WebAddress,
    items: Sequence[tuple[InstanceRef, Path]],
    *,
    before: Before,
    after: After,
) -> None:
    """Store files by STOW-RS in order, one request each, so that an error affects one file only.

    Raises
    ------
    PacsUnavailableError
        Unreachable, credentials refused, wrong URL, too busy, or `MAX_LOST` lost connections in a
        row. Files without a call of `after` are not stored.
    """
    lost, pace = 0, Pace(address.mib_s)
    for number, (ref, path) in enumerate(items, start=1):
        if not path.is_file():
            after(path, Outcome(verdict=Verdict.NEVER, text="is no file any more"))
            continue
        before(path)
        try:
            outcome = _stow_one(address, ref, path, pace)
            lost = 0
        except ConnectionLostError as err:
            after(path, Outcome(verdict=Verdict.LATER, text=str(err)))
            lost += 1
            if lost == MAX_LOST and number < len(items):
                raise PacsUnavailableError(f"{err}, {lost} times in a row") from err
        else:
            after(path, outcome)


def _stow_one(address: WebAddress, ref: InstanceRef, path: Path, pace: Pace) -> Outcome:
    body = _Body(path, pace)
    kind = f'multipart/related; type="application/dicom"; boundary={body.boundary}'
    answer = address.call(
        "POST", f"studies/{ref.study_uid}", data=body, headers={"Content-Type": kind}
    )
    if answer.status_code in ABOUT_THE_SERVER:
        raise PacsUnavailableError(_explain(address, "STOW-RS", answer.status_code))
    return judge_stow(answer.status_code, _json(answer), ref.sop_instance_uid)


def check_stow(address: WebAddress) -> str:
    """Check STOW-RS without storing anything: it exists and accepts the credentials.

    Raises
    ------
    PacsUnavailableError
    """
    kind = 'multipart/related; type="application/dicom"; boundary=none'
    answer = address.call("POST", "studies", data=b"--none--\r\n", headers={"Content-Type": kind})
    if answer.status_code in ABOUT_THE_SERVER:
        raise PacsUnavailableError(_explain(address, "STOW-RS", answer.status_code))
    return "STOW-RS is there; what it takes shows with the first object"


def judge_stow(http: int, answer: Any, uid: str) -> Outcome:
    """Return the outcome of a STOW-RS answer for one instance (PS3.18 10.5.3, Table I.2-2).

    `answer` is the body's JSON data set, None without one.
    """
    dataset = answer[0] if isinstance(answer, list) and answer else answer
    if isinstance(dataset, dict):
        for item in _items(dataset, "00081198"):  # FailedSOPSequence
            if _value(item, "00081155") in (uid, ""):
                return classify(int(_value(item, "00081197") or PROCESSING_FAILURE))
        for item in _items(dataset, "00081199"):  # ReferencedSOPSequence
            if _value(item, "00081155") == uid:
                return classify(int(_value(item, "00081196") or 0))
        for item in _items(dataset, "0008119A"):  # OtherFailuresSequence, without instances
            return classify(int(_value(item, "00081197") or PROCESSING_FAILURE))
    if http < 300:
        # 202 without a statement on the object: QIDO-RS decides later.
        return Outcome(verdict=Verdict.STORED)
    if http == 408 or http >= 500:
        return Outcome(verdict=Verdict.LATER, text=f"cannot take it now (HTTP {http})")
    text = f"refused it (HTTP {http}). Look into its log; after a change there: tandem retry."
    return Outcome(verdict=Verdict.NEVER, text=text)


def find_instances(address: WebAddress, wanted: Sequence[InstanceRef]) -> set[str]:
    """Return those of the SOP Instance UIDs that QIDO-RS finds.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    found = set()
    for ref in wanted:
        path = f"studies/{ref.study_uid}/series/{ref.series_uid}/instances"
        items = query(address, path, {"SOPInstanceUID": ref.sop_instance_uid})
        found |= {_value(item, "00080018") for item in items}
    return found & {ref.sop_instance_uid for ref in wanted}


def check_query(address: WebAddress) -> None:
    """Query for at most one study, to check the service.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
    """
    query(address, STUDIES, {"limit": "1"})


def query(address: WebAddress, path: str, params: dict[str, str]) -> list[dict[str, Any]]:
    """Return the items of a QIDO-RS query, as DICOM JSON.

    Raises
    ------
    PacsUnavailableError
        Unreachable, too busy, or no QIDO-RS at this URL.
    PacsRejectedError
    """
    answer = address.call("GET", path, params=params)
    if answer.status_code == 204:
        return []
    if answer.status_code == 404:
        # Some servers answer this for an unknown instance, all of them for a wrong URL.
        if path == STUDIES:
            raise PacsUnavailableError(_explain(address, "QIDO-RS", 404))
        check_query(address)
        return []
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise PacsUnavailableError(_explain(address, "QIDO-RS", answer.status_code))
    if answer.status_code != 200:
        raise PacsRejectedError(_explain(address, "QIDO-RS", answer.status_code))
    items: Any = _json(answer) if answer.content else []
    if not isinstance(items, list):
        raise PacsRejectedError(f"{address.url}: QIDO-RS answered no JSON. Is the url right?")
    return items


def _explain(address: WebAddress, service: str, http: int) -> str:
    remedy = "Check user, password or token." if http in (401, 403, 407) else "Is the url right?"
    if http in (408, 429) or http >= 500:
        remedy = "It is tried again."
    return f"{address.url}: {service} answered {http}. {remedy}"


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except requests.JSONDecodeError:
        return None


def _items(dataset: dict[str, Any], tag: str) -> list[dict[str, Any]]:
    return dataset.get(tag, {}).get("Value") or []


def _value(item: dict[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])
