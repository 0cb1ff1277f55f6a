"""STOW-RS and QIDO-RS against a faulty server; Orthanc is in test_delivery."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fixtures.dripping import dripping
from fixtures.instances import made_object, parcel_of

from appliance.delivery.destinations.contract import Answer, Proof
from appliance.delivery.destinations.dicomweb import DicomWeb
from appliance.settings.destinations import DicomWebDestination
from dicom.dicomweb import Secret, WebAddress, check_query, check_stow, find_instances, query, stow
from dicom.errors import PacsRejectedError, PacsUnavailableError
from dicom.status import (
    HAS_ALREADY,
    STATUSES,
    Failed,
    Found,
    InstanceRef,
    Outcome,
    Service,
    Verdict,
    classify,
)


class Server(ThreadingHTTPServer):
    """Answers each request with the next of `answers`: HTTP status and body, or ``drop``."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any] | str] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.kind = ""  #: Content-Type of the answers
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0)
        if isinstance(answer, str):
            self.close_connection = True
            return
        status, said = answer
        text = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        if self.server.kind:
            self.send_header("Content-Type", self.server.kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = _answer  # noqa: N815  names of http.server

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


NO_DATA_SETS: list[Any] = [
    *(None, [None], "text", 5, {"00081198": None}, {"00081198": []}),
    *(
        {"00081198": {"Value": {}}},
        {"00081198": {"Value": [None, 3]}},
        {"00081199": {"Value": "x"}},
    ),
    *(b"[" * 100_000, b'[{"00081198": ' + b"9" * 5000 + b"}]", b"\xff\xfe"),
]
"""Bodies of answers that are no DICOM JSON."""


def failed(ref: InstanceRef, reason: int) -> Any:
    return {"00081198": {"vr": "SQ", "Value": [_item(ref, "00081197", reason)]}}


def stored(ref: InstanceRef, warning: int | None = None) -> Any:
    return {"00081199": {"vr": "SQ", "Value": [_item(ref, "00081196", warning)]}}


def _item(ref: InstanceRef, tag: str, code: int | None) -> dict[str, Any]:
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [ref.sop_instance_uid]}}
    return item if code is None else item | {tag: {"vr": "US", "Value": [code]}}


def send(address: WebAddress, items: list[tuple[InstanceRef, Path]]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    stow(
        address,
        items,
        before=lambda _path: None,
        after=lambda _path, outcome: outcomes.append(outcome),
    )
    return outcomes


def test_body_is_the_file_with_a_length(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    ref = made_object(path, size_bytes=10**6)
    server.answers = [(200, stored(ref))]
    (outcome,) = send(WebAddress(url=server.url), [(ref, path)])
    assert outcome == Outcome(verdict=Verdict.STORED)
    where, headers, body = server.requests[0]
    assert where == f"/dicom-web/studies/{ref.study_uid}"
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"')
    assert "Transfer-Encoding" not in headers
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    head, part, tail = body.split(b"--" + boundary)
    assert (head, tail) == (b"", b"--\r\n")
    assert part == b"\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n"


@pytest.mark.parametrize(
    ("http", "answer", "verdict", "status"),
    [
        (200, lambda ref: stored(ref), Verdict.STORED, 0),
        (200, lambda ref: [stored(ref)], Verdict.STORED, 0),
        (202, lambda ref: stored(ref, 0xB007), Verdict.WARNED, 0xB007),
        (409, lambda ref: failed(ref, 0xA777), Verdict.NEVER, 0xA777),
        (202, lambda ref: failed(ref, 0xA700), Verdict.LATER, 0xA700),
        (200, lambda ref: failed(ref, 0x0110), Verdict.LATER, 0x0110),
        (409, lambda ref: failed(ref, 0x0122), Verdict.NEVER, 0x0122),
        (409, lambda ref: failed(ref, 0xA900), Verdict.NEVER, 0xA900),
        (409, lambda ref: failed(ref, 0xC000), Verdict.NEVER, 0xC000),
        (409, lambda _: {"0008119A": {"Value": [{"00081197": {"Value": [0xC122]}}]}}, "never", 0),
        (400, lambda _: b"no", Verdict.NEVER, 0),
        (409, lambda _: b"", Verdict.NEVER, 0),
        (413, lambda _: b"too large", Verdict.NEVER, 0),
        (415, lambda _: b"", Verdict.NEVER, 0),
        (500, lambda _: b"", Verdict.LATER, 0),
        (200, lambda _: b"<NativeDicomModel/>", Verdict.STORED, 0),
        (102, lambda _: b"", Verdict.LATER, 0),
        # JSON that is no data set: what the HTTP status says counts.
        *((500, lambda _, each=each: each, Verdict.LATER, 0) for each in NO_DATA_SETS),
    ],
)
def test_answers(
    http: int, answer: Any, verdict: str, status: int, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "one.dcm"
    ref = made_object(path)
    server.answers = [(http, answer(ref))]
    (outcome,) = send(WebAddress(url=server.url), [(ref, path)])
    assert outcome.verdict == verdict
    assert outcome.status == status or outcome.status == 0xC122


def test_a_server_that_answers_every_reason(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    ref = made_object(path)
    reasons = sorted({row.first for row in STATUSES})
    server.answers = [(409, failed(ref, reason)) for reason in reasons]
    for reason, outcome in zip(
        reasons, send(WebAddress(url=server.url), [(ref, path)] * len(reasons)), strict=True
    ):
        meant = classify(reason, service=Service.STOW)
        if meant.verdict in (Verdict.STORED, Verdict.WARNED) and reason not in HAS_ALREADY:
            # It lies among what failed: whether it is there, a query tells.
            assert outcome.verdict is Verdict.WARNED and "no failure" in outcome.text
        else:
            assert outcome == meant
        assert f"(0x{reason:04X})" in outcome.text


def test_one_objects_trouble_is_not_anothers(server: Server, tmp_path: Path) -> None:
    items = [(made_object(tmp_path / f"{n}.dcm"), tmp_path / f"{n}.dcm") for n in range(6)]
    items[4][1].unlink()
    server.answers = [
        (200, {}),
        "drop",
        (409, failed(items[2][0], 0xA900)),
        (500, b""),
        (200, {}),
    ]
    verdicts = [outcome.verdict for outcome in send(WebAddress(url=server.url), items)]
    assert verdicts == ["stored", "later", "never", "later", "later", "stored"]


@pytest.mark.parametrize("answers", [["drop", "drop"], [(401, b"")], [(503, b"")], [(404, b"")]])
def test_the_servers_trouble_is_no_objects(
    answers: list[Any], server: Server, tmp_path: Path
) -> None:
    items = [(made_object(tmp_path / f"{n}.dcm"), tmp_path / f"{n}.dcm") for n in range(3)]
    server.answers = list(answers)
    with pytest.raises(PacsUnavailableError):
        send(WebAddress(url=server.url), items)
    assert len(server.requests) == len(answers)


def test_secrets_are_read_at_each_use_and_never_shown(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    basic = WebAddress(url=server.url, user="tandem", secret=Secret(file=secret))
    with pytest.raises(PacsUnavailableError, match=str(secret)):
        query(basic, "studies", {})
    secret.write_bytes(b"\xff\xfe")
    with pytest.raises(PacsUnavailableError, match=str(secret)):
        query(basic, "studies", {})
    secret.write_text("pass word\n")
    token = WebAddress(url=server.url, secret=Secret(variable="TEST_TOKEN"))
    monkeypatch.setenv("TEST_TOKEN", "old")
    server.answers = [(200, []), (200, []), (200, []), (200, {})]
    query(basic, "studies", {})
    query(token, "studies", {})
    monkeypatch.setenv("TEST_TOKEN", "new")
    query(token, "studies", {})
    assert "no text" not in check_stow(token)
    sent = [headers["Authorization"] for _, headers, _ in server.requests]
    assert sent == ["Basic dGFuZGVtOnBhc3Mgd29yZA==", "Bearer old", "Bearer new", "Bearer new"]
    assert "pass word" not in repr(basic) and "new" not in repr(token)


@pytest.mark.parametrize("written", ["4711\n4712", "\n", "4711\r4712"])
def test_a_secret_that_cannot_be_sent_is_told_without_it(
    written: str, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(written)
    for user in (None, "tandem"):
        address = WebAddress(url=server.url, user=user, secret=Secret(file=tmp_path / "secret"))
        with pytest.raises(PacsUnavailableError, match="must hold one secret") as caught:
            check_query(address)
        assert "471" not in str(caught.value)
    assert server.requests == []


def test_secrets_of_any_letters_are_sent(server: Server, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbf" + "pąßwörd €\r\n".encode())
    secret = Secret(file=tmp_path / "secret")
    server.answers = [(200, []), (401, b"")]
    check_query(WebAddress(url=server.url, user="üser", secret=secret))
    with pytest.raises(PacsRejectedError, match="user, password or token"):
        check_query(WebAddress(url=server.url, secret=secret))
    sent = server.requests[0][1]["Authorization"].removeprefix("Basic ")
    assert base64.b64decode(sent).decode() == "üser:pąßwörd €"


def test_an_answer_without_end_is_not_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom.dicomweb.MOST_ANSWER_BYTES", 2**20)
    address = WebAddress(url=server.url)
    server.answers = [(200, b" " * 2**20 + b"[]"), (200, b" " * (2**20 - 2) + b"[]")]
    with pytest.raises(PacsUnavailableError, match="more than 1 MiB"):
        check_query(address)
    check_query(address)


def test_query_finds_what_is_there(server: Server, tmp_path: Path) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(3)]
    address = WebAddress(url=server.url)
    there = [{"00080018": {"vr": "UI", "Value": [refs[0].sop_instance_uid]}}]
    server.answers = [(200, there), (200, there), (204, b""), (204, b""), (200, there)]
    found = [ref.sop_instance_uid for ref in refs]
    assert find_instances(address, refs) == dict(zip(found, (True, False, False), strict=True))
    for said in ([{"00080018": None}], [{"00080018": {"Value": [None]}}], [{}]):
        server.answers = [(200, said), (200, said)]
        assert find_instances(address, refs[:1]) == {found[0]: False}
    for answer, error in (
        ((503, b""), PacsUnavailableError),
        ((403, b""), PacsRejectedError),
        ((200, b"<html>"), PacsRejectedError),
        ((200, [None]), PacsRejectedError),
        ((200, b"[" * 100_000), PacsRejectedError),
    ):
        server.answers = [answer] * 3
        with pytest.raises(error):
            find_instances(address, refs[:1])


def test_an_object_that_the_archive_declares_unavailable_is_neither_proven_nor_missing(
    server: Server, tmp_path: Path
) -> None:
    made_object(tmp_path / "one.dcm")
    instance, section = parcel_of(tmp_path / "one.dcm"), DicomWebDestination
    place = DicomWeb(section(kind="dicomweb", name="web", url=server.url))
    uid = instance.ref.sop_instance_uid

    def proof(*said: str) -> Answer:
        named = {"00080018": {"vr": "UI", "Value": [uid]}}
        stated = [{"00080056": {"vr": "CS", "Value": [each]}} if each else {} for each in said]
        server.answers = [(200, [named | each for each in stated])]
        return place.prove([instance])[uid]

    assert proof("UNAVAILABLE").proof is Proof.UNKNOWN
    assert "declares it unavailable: look into the archive" in proof("UNAVAILABLE").text
    for there in (("ONLINE",), ("NEARLINE",), ("OFFLINE",), ("",), ("UNAVAILABLE", "ONLINE")):
        assert proof(*there).proof is Proof.THERE
    assert proof().proof is Proof.ABSENT


def test_an_instance_whose_own_query_fails_is_no_trouble_of_the_server(
    server: Server, tmp_path: Path
) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(2)]
    there = [{"00080018": {"vr": "UI", "Value": [refs[1].sop_instance_uid]}}]
    for trouble in ((500, b""), (400, b""), (200, b"<html>"), "drop"):
        server.answers = [trouble, (200, there), (200, [])]
        first, second = find_instances(WebAddress(url=server.url), refs).values()
        assert type(first) is Failed and second is True
    server.answers = ["drop", "drop", (200, [])]  # adjacent ones, too
    assert {type(each) for each in find_instances(WebAddress(url=server.url), refs).values()} == {
        Failed
    }
    server.answers = ["drop"] * 4
    with pytest.raises(PacsUnavailableError):
        find_instances(WebAddress(url=server.url), refs)


def names(ref: InstanceRef) -> list[dict[str, Any]]:
    return [{"00080018": {"vr": "UI", "Value": [ref.sop_instance_uid]}}]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("refusal", [(400, b""), (403, b""), (500, b""), "drop"])
def test_a_server_that_refuses_studies_it_does_not_have_proves_the_others(
    is_first: bool, refusal: Any, server: Server, tmp_path: Path
) -> None:
    lacks, has = (made_object(tmp_path / f"{n}.dcm") for n in range(2))
    in_order = [(lacks, refusal), (has, (200, names(has)))][:: 1 if is_first else -1]
    server.answers = [answer for _, answer in in_order] + [refusal, (200, [])]
    said = find_instances(WebAddress(url=server.url), [ref for ref, _ in in_order])
    assert said[has.sop_instance_uid] is True
    assert type(said[lacks.sop_instance_uid]) is str  # whether such a query works is not known
    server.answers = [refusal, refusal, (200, [])]  # nothing is answered, and the server is there
    if refusal in ((500, b""), "drop"):
        with pytest.raises(PacsUnavailableError):
            find_instances(WebAddress(url=server.url), [lacks])
    else:
        assert type(*find_instances(WebAddress(url=server.url), [lacks]).values()) is str


@pytest.mark.parametrize("trouble", [(503, b""), (500, b""), "drop"])
def test_a_server_that_answers_no_query_on_instances_is_away(
    trouble: Any, server: Server, tmp_path: Path
) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(5)]
    server.answers = [*[trouble] * 3, *[(200, [])] * 9]  # studies?limit=1 works
    with pytest.raises(PacsUnavailableError):
        find_instances(WebAddress(url=server.url), refs)
    assert len(server.requests) == 3


@pytest.mark.parametrize(("http", "most"), [(401, 1), (407, 1), (403, 4), (400, 4)])
def test_a_server_that_refuses_everything_is_not_asked_for_each_object(
    http: int, most: int, server: Server, tmp_path: Path
) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(5)]
    server.answers = [(http, b"")] * 20
    with pytest.raises(PacsRejectedError, match=str(http)):
        find_instances(WebAddress(url=server.url), refs)
    assert len(server.requests) == most
    server.answers = [(200, names(refs[0])), *[(http, b"")] * 20]  # what was answered counts
    first, *others = find_instances(WebAddress(url=server.url), refs).values()
    assert first is True and {type(each) for each in others} == {Failed}
    assert len(server.requests) == 2 * most + 1


def test_a_server_that_refuses_each_study_it_does_not_have_is_asked_why_once(
    server: Server, tmp_path: Path
) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(5)]
    refused = [(403, b"")] * 2
    server.answers = [*refused, (403, b""), (200, []), *refused, (200, names(refs[4]))]
    *lacks, has = find_instances(WebAddress(url=server.url), refs).values()
    assert has is True and {type(each) for each in lacks} == {str}
    assert len(server.requests) == 7


def test_what_was_answered_counts_where_the_server_goes_away(
    server: Server, tmp_path: Path
) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(5)]
    server.answers = [(200, names(refs[0])), *[(503, b"")] * 4]
    first, *others = find_instances(WebAddress(url=server.url), refs).values()
    assert first is True and {type(each) for each in others} == {Failed}  # none is sent unseen
    assert len(server.requests) == 5  # an instance that nobody answers on may take long
    server.answers = [(500, b""), (200, [])]  # an archive that refuses studies?limit=1
    find_instances(WebAddress(url=server.url), refs[:1])
    assert server.requests[-1][0].startswith("/dicom-web/studies/2.25.1/series/2.25.1/instances")


@pytest.mark.parametrize(
    ("answers", "proof"),
    [
        ([(500, b""), (200, [])], Proof.FAILED),
        ([(403, b"")] * 3, Proof.UNKNOWN),
        ([(204, b""), (200, ["2.25.9"])], Proof.ELSEWHERE),
        ([(204, b""), (200, [""])], Proof.UNKNOWN),
    ],
)
def test_what_a_query_proves(
    answers: list[Any], proof: Proof, server: Server, tmp_path: Path
) -> None:
    uid = made_object(tmp_path / "one.dcm").sop_instance_uid
    item = {"00080018": {"Value": [uid]}}
    server.answers = [
        (http, [item | {"0020000D": {"Value": said}}] if isinstance(said, list) and said else said)
        for http, said in answers
    ]
    place = DicomWeb(DicomWebDestination(kind="dicomweb", name="web", url=server.url))
    assert place.prove([parcel_of(tmp_path / "one.dcm")])[uid].proof is proof


def test_an_instance_in_another_study_is_found_there(server: Server, tmp_path: Path) -> None:
    refs = [made_object(tmp_path / f"{n}.dcm") for n in range(2)]
    address, uid = WebAddress(url=server.url), refs[0].sop_instance_uid
    moved = [{"00080018": {"Value": [uid]}, "0020000D": {"Value": ["2.25.9"]}}]
    server.answers = [(204, b""), (200, moved)]
    assert find_instances(address, refs[:1]) == {uid: Found.ELSEWHERE}
    assert server.requests[-1][0] == f"/dicom-web/instances?SOPInstanceUID={uid}&limit=1"
    late = [moved[0] | {"0020000D": {"Value": [refs[0].study_uid]}}]
    server.answers = [(204, b""), (200, late)]  # it was indexed meanwhile
    assert find_instances(address, refs[:1]) == {uid: True}
    server.answers = [(204, b""), (400, b""), (204, b"")]  # it takes no such query: not asked twice
    assert set(find_instances(address, refs).values()) == {False}


def test_a_query_that_is_answered_by_way_of_a_proxy_or_in_another_character_set(
    server: Server,
) -> None:
    said = [{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller"}]}}]
    server.answers = [(203, said), (206, said)]
    for _ in range(2):
        assert query(WebAddress(url=server.url), "studies", {}) == said
    latin = json.dumps(said, ensure_ascii=False).encode("latin-1")
    for stated, is_read in (("ISO-8859-1", True), ("none", False), ("hex", False), ("", False)):
        server.kind = "application/dicom+json" + (f"; charset={stated}" if stated else "")
        server.answers = [(200, latin)]
        if is_read:
            assert query(WebAddress(url=server.url), "studies", {}) == said
        else:
            with pytest.raises(PacsRejectedError, match="no JSON"):
                query(WebAddress(url=server.url), "studies", {})


def test_a_refused_query_has_the_remedy_of_a_query(server: Server) -> None:
    for http in (400, 413):
        server.answers = [(http, b"")]
        with pytest.raises(PacsRejectedError, match="refused the query") as caught:
            check_query(WebAddress(url=server.url))
        assert "max_mib" not in str(caught.value) and "tandem retry" not in str(caught.value)


def test_the_check_of_stow_asks_where_objects_are_sent(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    ref = made_object(path)
    server.answers = [(200, stored(ref)), (409, b"")]
    send(WebAddress(url=server.url), [(ref, path)])
    check_stow(WebAddress(url=server.url))
    sent, checked = (where.rpartition("/") for where, _, _ in server.requests)
    assert sent[0] == checked[0] == "/dicom-web/studies" and checked[2] == "2.25.1"


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_of_a_byte_a_time_ends(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicom.deadline.TIMEOUTS", 0.05)  # the whole exchange: 1 s
    with dripping(start + bytes(1000), each_s=0.02) as port:
        address = WebAddress(url=f"http://127.0.0.1:{port}", timeout_s=20)
        with pytest.raises(PacsUnavailableError, match="did not end within 1 s"):
            check_query(address)


def test_a_wrong_url_is_no_absence(server: Server, tmp_path: Path) -> None:
    ref, address = made_object(tmp_path / "one.dcm"), WebAddress(url=server.url)
    # Some servers answer 404 for an instance that is not there.
    server.answers = [(404, b""), (200, [])] * 2
    assert find_instances(address, [ref]) == {ref.sop_instance_uid: False}
    server.answers = [(404, b"")] * 5
    with pytest.raises(PacsRejectedError, match=f"{server.url}.*Is the url right"):
        find_instances(address, [ref])
    assert server.requests[-1][0] == "/dicom-web/studies?limit=1"
    server.answers = [(404, b"")]
    with pytest.raises(PacsRejectedError, match=server.url):
        check_query(address)


def test_the_environment_changes_no_setting(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / "netrc"
    login.write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(login))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.answers = [(200, [])]
    check_query(WebAddress(url=server.url))
    ((_, headers, _),) = server.requests
    assert "Authorization" not in headers
