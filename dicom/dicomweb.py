"""DICOMweb client: STOW-RS from disk, and QIDO-RS as proof of storage (PS3.18 10.5, 10.6)."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth

from dicom.deadline import Deadline, limit_s
from dicom.dicom_json import value_of
from dicom.errors import (
    ConnectionLostError,
    CredentialsRejectedError,
    PacsRejectedError,
    PacsUnavailableError,
)
from dicom.http_status import find_http_status, query_remedy
from dicom.pace import Pace
from dicom.status import (
    FILE_GONE,
    MAX_LOST,
    NOBODY,
    UNAVAILABLE,
    After,
    Before,
    Failed,
    InstanceRef,
    Outcome,
    Said,
    Verdict,
    said_of,
)
from dicom.stow_answer import judge_stow
from dicom.tls import TlsFiles

PIECE_BYTES = 2**18
READABLE = (200, 203, 206)
"""Statuses of answers to a query that hold its results: as they are, through a proxy, in part."""
STUDIES, INSTANCES = "studies", "instances"
MOST_ANSWER_BYTES = 2**26
"""Largest answer that is read; one of a query that the server does not narrow has some MB."""


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
            If it is missing, empty or has several lines; a person can supply it while objects
            wait.
        """
        try:
            # Some editors begin a file with a byte order mark.
            text = (
                self.file.read_text("utf-8-sig") if self.file else os.environ[self.variable or ""]
            ).strip()
        except (OSError, KeyError, UnicodeDecodeError) as err:
            raise PacsUnavailableError(f"no secret in {self.file or self.variable}") from err
        if not text or "\n" in text or "\r" in text:
            # The errors of libraries would quote it.
            raise PacsUnavailableError(
                f"{self.file or self.variable} must hold one secret on one line"
            )
        return text


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Answer of a server: its status, all of its body, and the character set that it states."""

    status: int
    body: bytes
    charset: str = ""

    def json(self) -> Any:
        """Return what the body holds as JSON; None where that is none."""
        try:
            return json.loads(self.body)
        except UnicodeDecodeError:  # JSON is in UTF-8; some servers state and write another one
            try:
                return json.loads(self.body.decode(self.charset))
            except (LookupError, ValueError, RecursionError):
                return None
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAddress:
    """Base of a DICOMweb service; `timeout_s` holds for connecting and for each answer, a multiple
    of it for a whole exchange (`limit_s`).

    With `user` the secret is the password (basic authentication), else a bearer token.
    """

    url: str
    timeout_s: float = 30.0
    tls: TlsFiles = field(default_factory=TlsFiles)
    user: str | None = None
    secret: Secret | None = None
    mib_s: float | None = None
    """Bandwidth cap in MiB/s."""

    def call(self, method: str, path: str, *, size_bytes: int = 0, **options: Any) -> HttpAnswer:
        """Send one request below the base; `size_bytes` is that of its body, if it is large.

        Raises
        ------
        ConnectionLostError
            No connection, connection lost, no answer in time, or TLS failed.
        PacsUnavailableError
            The secret cannot be read, or the answer exceeds `MOST_ANSWER_BYTES`.
        """
        limit = limit_s(self.timeout_s, size_bytes, self.mib_s)
        with self.opened(method, path, limit, **options) as (response, _):
            return HttpAnswer(response.status_code, self._body(response), response.encoding or "")

    @contextmanager
    def opened(
        self, method: str, path: str, longest_s: float, **options: Any
    ) -> Iterator[tuple[requests.Response, Deadline]]:
        """Open the answer to one request, whose body is read as it comes.

        The exchange ends after `longest_s`; a reader of a long body starts the deadline anew.

        Raises
        ------
        ConnectionLostError, PacsUnavailableError
            See `call`; also while the body is read.
        """
        headers = {"Accept": "application/dicom+json"} | options.pop("headers", {})
        certificate = tuple(str(f) for f in (self.tls.certificate, self.tls.key) if f)
        deadline = Deadline()
        try:
            with requests.Session() as session:
                for scheme in ("http://", "https://"):
                    session.mount(scheme, _Watched(deadline))
                # Else proxies, CAs and ~/.netrc of the environment would override these settings.
                session.trust_env = False
                session.verify = str(self.tls.ca) if self.tls.ca else True
                session.cert = certificate if len(certificate) == 2 else (certificate or (None,))[0]
                session.auth = self._auth()
                deadline.start(longest_s)
                with session.request(
                    method,
                    f"{self.url.rstrip('/')}/{path}" if path else self.url.rstrip("/"),
                    headers=headers,
                    timeout=self.timeout_s,
                    allow_redirects=False,
                    stream=True,
                    **options,
                ) as response:
                    yield response, deadline
        except (requests.RequestException, OSError) as err:
            # OSError: a certificate file is missing.
            if not deadline.is_over:
                why = f"{method} failed ({type(err).__name__})"
                if isinstance(err, requests.exceptions.SSLError):
                    why = "TLS failed. Check ca_file, certificate, key and the host's name."
                raise ConnectionLostError(f"{self.url}: {why}") from err
        finally:
            deadline.stop()
        if deadline.is_over:  # an answer that was cut may look like a whole one
            raise ConnectionLostError(
                f"{self.url}: {method} failed (it did not end within {longest_s:.0f} s)"
            )

    def _body(self, response: requests.Response) -> bytes:
        """Return the body of an answer; its pieces are limited after they are unpacked."""
        body = bytearray()
        for piece in response.iter_content(PIECE_BYTES):
            body += piece
            if len(body) > MOST_ANSWER_BYTES:
                raise PacsUnavailableError(
                    f"{self.url} answered more than {MOST_ANSWER_BYTES // 2**20} MiB. "
                    "Is the url right?"
                )
        return bytes(body)

    def _auth(self) -> AuthBase | None:
        if self.secret is None:
            return None
        if self.user is not None:
            # RFC 7617: as bytes, or the library would write Latin-1 and fail beyond it.
            return HTTPBasicAuth(self.user.encode(), self.secret.read().encode())
        return _Bearer(self.secret.read())


class _Watched(HTTPAdapter):
    """Adapter whose connections a deadline watches."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return the pool of connections for a request."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        make = pool.ConnectionCls

        def watched(**facts: Any) -> Any:
            connection = make(**facts)
            connect = connection.connect

            def connect_watched() -> None:
                self._deadline.watch(lambda: connection.sock)
                connect()
                # The connection forgets its socket where the answer's end is the connection's.
                line = connection.sock
                self._deadline.watch(lambda: line)

            connection.connect = connect_watched
            return connection

        pool.ConnectionCls = watched
        return pool


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # As bytes: the library fails where a token is not Latin-1, and the server refuses it.
        request.headers["Authorization"] = f"Bearer {self._token}".encode()
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
            after(path, Outcome(verdict=Verdict.LATER, text=FILE_GONE))
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
        *("POST", f"studies/{ref.study_uid}"),
        size_bytes=len(body),
        data=body,
        headers={"Content-Type": kind},
    )
    if find_http_status(answer.status).of_server:
        raise PacsUnavailableError(explain(address, "STOW-RS", answer.status))
    return judge_stow(answer.status, answer.json(), ref.sop_instance_uid)


def check_stow(address: WebAddress) -> str:
    """Check STOW-RS without storing anything: it exists and accepts the credentials.

    Raises
    ------
    PacsUnavailableError
    """
    kind = 'multipart/related; type="application/dicom"; boundary=none'
    path = f"studies/{NOBODY.study_uid}"  # as objects are sent
    answer = address.call("POST", path, data=b"--none--\r\n", headers={"Content-Type": kind})
    if find_http_status(answer.status).of_server:
        raise PacsUnavailableError(explain(address, "STOW-RS", answer.status))
    return "STOW-RS is there; what it takes shows with the first object"


def find_instances(address: WebAddress, wanted: Sequence[InstanceRef]) -> dict[str, Said]:
    """Return, by SOP Instance UID, whether QIDO-RS finds an instance.

    An instance whose own query fails, as its record there may be damaged, has the words of that.

    Raises
    ------
    PacsUnavailableError, PacsRejectedError
        If the service fails, whatever the instance.
    """
    said: dict[str, Said] = {}
    failed: dict[str, str] = {}
    cause: type[str] | PacsUnavailableError | PacsRejectedError | None = None
    by_uid_alone, in_row = True, 0
    for ref in wanted:
        uid = ref.sop_instance_uid
        try:
            said[uid], in_row = said_of(_in_its_series(address, ref)), 0
        except CredentialsRejectedError as err:
            cause = err  # to be refused once more may lock the account
            break
        except (PacsUnavailableError, PacsRejectedError) as err:
            failed[uid] = str(err)
            in_row += 1
            # What may last long is looked at again; why queries are refused does not change.
            if in_row >= MAX_LOST and (cause is None or isinstance(err, PacsUnavailableError)):
                cause, in_row = _cause(address, bool(said)), 0
                if isinstance(cause, Exception):  # to ask for the others would take long
                    break
        if said.get(uid) is False and by_uid_alone:
            try:
                key = {"SOPInstanceUID": uid, "limit": "1"}
                found = _answers(ref, query(address, INSTANCES, key))
                said[uid] = said_of(found, ref.study_uid)
            except (PacsUnavailableError, PacsRejectedError):  # not every archive takes this query
                by_uid_alone = False
    if failed and cause is None:
        cause = _cause(address, bool(said))
    if isinstance(cause, Exception) and not said:
        raise cause
    words = str if cause is str else Failed
    uids = [ref.sop_instance_uid for ref in wanted]
    return {uid: said.get(uid, words(failed.get(uid, str(cause)))) for uid in uids}


def _cause(
    address: WebAddress, is_answered: bool
) -> type[str] | PacsUnavailableError | PacsRejectedError:
    """Return what queries on instances failed for: `Failed`, a fault of the instances; an error,
    one of the service; str where it is not known, as the server may refuse what it does not have.

    Unless a query on an instance `is_answered`, a server that is away for NOBODY too is away.
    """
    try:
        _in_its_series(address, NOBODY)
    except (PacsUnavailableError, PacsRejectedError) as err:
        if isinstance(err, PacsUnavailableError) and not is_answered:
            return err
        try:
            check_query(address)
        except (PacsUnavailableError, PacsRejectedError) as of_service:
            return of_service
        return str
    return Failed


def _in_its_series(address: WebAddress, ref: InstanceRef) -> list[tuple[str, bool]]:
    path = f"studies/{ref.study_uid}/series/{ref.series_uid}/instances"
    return _answers(ref, query(address, path, {"SOPInstanceUID": ref.sop_instance_uid}))


def _answers(ref: InstanceRef, items: Sequence[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return the study of each answer on an instance, and whether it is to be had there."""
    named = [item for item in items if value_of(item, "00080018") == ref.sop_instance_uid]
    return [(value_of(i, "0020000D"), value_of(i, "00080056") != UNAVAILABLE) for i in named]


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
        Unreachable, or too busy.
    PacsRejectedError
        The query is not allowed, or there is no QIDO-RS at this URL.
    """
    answer = address.call("GET", path, params=params)
    if answer.status == 204:
        return []
    if answer.status == 404 and path != STUDIES:
        # Some servers answer this for an unknown instance, all of them for a wrong URL.
        check_query(address)
        return []
    row = find_http_status(answer.status)
    told = f"{address.url}: QIDO-RS answered {answer.status}: {query_remedy(row)}"
    if row.verdict is Verdict.LATER:
        raise PacsUnavailableError(told)
    if answer.status in (401, 407):
        raise CredentialsRejectedError(told)
    if answer.status not in READABLE:
        raise PacsRejectedError(told)
    items: Any = answer.json() if answer.body else []
    if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
        raise PacsRejectedError(f"{address.url}: QIDO-RS answered no JSON. Is the url right?")
    return items


def explain(address: WebAddress, service: str, http: int) -> str:
    """Return what an HTTP status of a service means, and what to do."""
    row = find_http_status(http)
    return f"{address.url}: {service} answered {http}: {row.sentence}. {row.remedy}"
