"""Table of what each HTTP status means (RFC 9110; of STOW-RS PS3.18 10.5.3, of QIDO-RS 10.6.3)."""

from __future__ import annotations

from dataclasses import dataclass

from dicom.status import SEE_ITS_LOG, Outcome, Verdict, sentence_of


@dataclass(frozen=True, slots=True)
class HttpStatus:
    """Row of the table: statuses `first` to `last`.

    With `of_server` the cause is the server, its address or the credentials, and no object: all
    objects wait, and none loses an attempt.
    """

    first: int
    last: int
    verdict: Verdict
    sentence: str
    remedy: str
    of_server: bool = False


_LATER, _NEVER = Verdict.LATER, Verdict.NEVER
_TRIED_AGAIN = "It is tried again."
_CREDENTIALS = "Check user, password or token."
_URL = "Is the url right?"

HTTP_STATUSES: tuple[HttpStatus, ...] = (
    # Some servers say 102 or 103 before they answer, and the library takes that for the answer.
    HttpStatus(100, 199, _LATER, "it has not answered to the end", _TRIED_AGAIN),
    HttpStatus(200, 299, Verdict.STORED, "", ""),
    HttpStatus(300, 399, _NEVER, "it refers to another address", _URL, True),
    HttpStatus(400, 400, _NEVER, "it does not understand the request", SEE_ITS_LOG),
    HttpStatus(401, 401, _NEVER, "it does not accept the credentials", _CREDENTIALS, True),
    HttpStatus(403, 403, _NEVER, "the credentials do not allow it", _CREDENTIALS, True),
    HttpStatus(404, 405, _NEVER, "there is no such service", _URL, True),
    HttpStatus(407, 407, _NEVER, "a proxy requires credentials", _CREDENTIALS, True),
    HttpStatus(408, 408, _LATER, "the request took too long", _TRIED_AGAIN),
    HttpStatus(
        *(409, 409, _NEVER, "it conflicts with what is there, or its class is not taken"),
        SEE_ITS_LOG,
    ),
    HttpStatus(410, 410, _NEVER, "the service has gone", _URL, True),
    HttpStatus(412, 412, _NEVER, "several results of this identifier are there", SEE_ITS_LOG),
    HttpStatus(
        *(413, 413, _NEVER, "it is larger than the server allows"),
        "Raise that limit, then: tandem retry; or lower objects.max_mib, then: tandem rerun.",
    ),
    HttpStatus(415, 415, _NEVER, "its media type or transfer syntax is not taken", SEE_ITS_LOG),
    HttpStatus(422, 422, _NEVER, "its content breaks a rule of the server", SEE_ITS_LOG),
    HttpStatus(423, 423, _LATER, "what is there is locked", _TRIED_AGAIN),
    HttpStatus(424, 424, _LATER, "what the server depends on is not available", _TRIED_AGAIN, True),
    HttpStatus(425, 425, _LATER, "it is too early", _TRIED_AGAIN, True),
    HttpStatus(429, 429, _LATER, "the server gets too many requests", _TRIED_AGAIN, True),
    HttpStatus(400, 499, _NEVER, "a refusal of the class 4xx", SEE_ITS_LOG),
    HttpStatus(501, 501, _NEVER, "there is no such service", _URL, True),
    HttpStatus(502, 504, _LATER, "the server is not available", _TRIED_AGAIN, True),
    HttpStatus(507, 507, _LATER, "the server's disk is full", _TRIED_AGAIN, True),
    HttpStatus(500, 599, _LATER, "the server failed", _TRIED_AGAIN),
    HttpStatus(0, 999, _NEVER, "a status outside of the standard", SEE_ITS_LOG),
)
"""What each status means; the first row that fits counts."""


def find_http_status(http: int) -> HttpStatus:
    """Return the row of a status."""
    fitting = (row for row in HTTP_STATUSES if row.first <= http <= row.last)
    return next(fitting, HTTP_STATUSES[-1])


def query_remedy(row: HttpStatus) -> str:
    """Return cause and remedy of a status of a query; the table's own rows speak of objects."""
    if row.of_server or row.verdict is _LATER:
        return f"{row.sentence}. {row.remedy}"
    return "it refused the query. Look into its log; it is asked again."


def classify_http(http: int) -> Outcome:
    """Return the outcome for an object whose answer has nothing but an HTTP status."""
    row = find_http_status(http)
    if row.verdict is Verdict.STORED:
        # 202 without a statement on the object: a query decides later.
        return Outcome(verdict=Verdict.STORED)
    text = sentence_of(row.verdict, row.sentence, f"HTTP {http}", row.remedy)
    return Outcome(verdict=row.verdict, text=text)
