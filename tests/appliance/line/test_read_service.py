"""``POST /read`` over a real socket: who may ask, for which files, and what the answer is."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from appliance.errors import SettingsError
from appliance.line import read_service
from appliance.line.read_service import ADDRESS, RefusedError, read_app, run_read_service
from appliance.settings.intake import Watch
from appliance.settings.read_service import ReadService
from appliance.settings.secrets import open_secrets
from appliance.settings.settings import Settings
from models.synthesis.slides import SyntheticCase

TOKEN = "0123456789abcdef0123"  # noqa: S105


class Site:
    """A service with a watched folder and a token, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.scans = folder / "scans"
        self.scans.mkdir()
        self.outside = folder / "outside.svs"
        self.token = folder / "token"
        self.token.write_text(TOKEN + "\n")
        self.token.chmod(0o600)
        self.taken = socket.create_server((ADDRESS, 0))
        self.port = self.taken.getsockname()[1]
        self.settings = Settings(
            state_dir=folder / "state",
            watch=Watch(folder=self.scans),
            low_disk_gib=0,
            read_service=ReadService(token_file=self.token, port=self.port, largest_gib=0.05),
        )

    def post(
        self, body: bytes, query: str = "", *, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Ask the service; return status and answer."""
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=1200)
        try:
            given = {"Authorization": f"Bearer {TOKEN}"} | (headers or {})
            connection.request("POST", f"/read{query}", body, given)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def named(self, **facts: object) -> tuple[int, dict[str, Any]]:
        """Ask for a file by its path."""
        return self.post(json.dumps(facts).encode(), headers={"Content-Type": "application/json"})

    def left(self) -> list[Path]:
        """Return the files that a request left in the state folder."""
        return [path for path in self.settings.state_dir.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("read"))
    server = uvicorn.Server(uvicorn.Config(read_app(made.settings), log_config=None))
    thread = threading.Thread(target=server.run, args=([made.taken],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield made
    server.should_exit = True
    thread.join()


def test_a_slide_by_path_and_by_upload_gets_the_same_opinions(
    site: Site, small_case: SyntheticCase
) -> None:
    slide = shutil.copy(small_case.he_path, site.scans / "S26-1_A1_HE.svs")
    status, by_path = site.named(path=str(slide), stain="HE")
    assert status == 200, by_path
    (opinion,) = by_path["opinions"]
    assert (opinion["reader"], opinion["about"]) == ("tumor", "tumor")
    assert opinion["weights"]["fingerprint"] and sum(opinion["probabilities"]) > 0
    assert by_path["notice"].startswith("For research use only")
    status, uploaded = site.post(Path(slide).read_bytes(), "?name=any.svs&stain=HE")
    assert (status, uploaded) == (200, by_path)
    assert site.left() == []  # nothing of either, nor of the upload


def test_a_slide_in_the_wrong_slot_or_no_slide_is_told_not_read(
    site: Site, small_case: SyntheticCase
) -> None:
    slide = shutil.copy(small_case.he_path, site.scans / "S26-2_A1_HER2.svs")
    status, answer = site.named(path=str(slide), stain="HER2")
    assert status == 422 and answer["error"].startswith("wrong-picture: ")
    assert "this looks like" in answer["error"]
    status, answer = site.named(path=str(slide), stain="CD3")
    assert status == 400 and "take HE or HER2" in answer["error"]
    status, answer = site.post(b"no slide", "?name=a.svs&stain=HE")
    assert status == 422 and answer["error"].startswith("unreadable: The file is not a slide")
    status, answer = site.post(b"index alone", "?name=a.mrxs&stain=HE")
    assert status == 422 and answer["error"].startswith("vanished: ")
    assert site.left() == []


@pytest.mark.parametrize("stain", ["", "her2", "CD3"])
def test_an_unknown_stain_is_told_before_the_slide_is_taken(
    site: Site, stain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_service, "CHUNK_SECONDS", 0.0)  # the body is not read
    status, answer = site.post(b"no slide", f"?name=a.svs&stain={stain}")
    assert status == 400 and "take HE or HER2" in answer["error"]


def test_an_upload_that_stands_still_gives_up_its_place(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_service, "CHUNK_SECONDS", 0.1)
    connection = http.client.HTTPConnection(ADDRESS, site.port, timeout=1200)
    connection.putrequest("POST", "/read?name=a.svs&stain=HE")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"a part")
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (408, "close")
    assert "stood still" in json.loads(answer.read())["error"]
    connection.close()
    assert site.left() == []


@pytest.mark.parametrize("kind", ["application/json", "application/octet-stream"])
def test_a_client_that_leaves_while_it_sends_is_no_error_of_the_service(
    site: Site, kind: str
) -> None:
    sent: list[MutableMapping[str, Any]] = []
    parts = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return parts.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = {"host": ADDRESS, "authorization": f"Bearer {TOKEN}", "content-type": kind}
    scope = {
        **{
            "type": "http",
            "method": "POST",
            "path": "/read",
            "query_string": b"name=a.svs&stain=HE",
        },
        "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
    }
    app = read_app(site.settings)
    asyncio.run(app(scope, receive, send))
    app.state.service.close()
    assert sent[0]["status"] == 499


def test_a_name_without_a_port_and_a_type_in_capitals_are_taken(site: Site) -> None:
    asked = {"Host": ADDRESS, "Content-Type": "Application/JSON; charset=utf-8"}
    status, answer = site.post(b"{}", headers=asked)
    assert status == 400 and '{"path": "…"' in answer["error"]


def test_what_is_no_regular_file_is_refused(site: Site) -> None:
    pipe = site.scans / "pipe.svs"
    os.mkfifo(pipe)
    for path in (site.scans, pipe):
        status, answer = site.named(path=str(path), stain="HE")
        assert status == 400 and "no regular file" in answer["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer 0123456789abcdef0124"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        ({"Host": "evil.example:80"}, 421),
        ({"Host": "evil.example"}, 421),
    ],
)
def test_who_has_no_token_or_comes_by_another_name_gets_nothing(
    site: Site, headers: dict[str, str], status: int
) -> None:
    assert site.post(b"x", "?name=a.svs", headers=headers)[0] == status


def test_only_watched_folders_are_read_by_path(site: Site) -> None:
    site.outside.write_bytes(b"x")
    link = site.scans / "link.svs"
    link.symlink_to(site.outside)
    for path in (site.outside, link, site.scans / ".." / "outside.svs", "/etc/passwd"):
        assert site.named(path=str(path), stain="HE")[0] == 403
    assert site.named(path=str(site.scans / "none.svs"), stain="HE")[0] == 404
    # No file has a name of half a character, or one as long.
    for name in ("\ud800.svs", "a" * 5000):
        assert site.named(path=str(site.scans / name), stain="HE")[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"path": "a.svs"}',
        b'{"path": 3, "stain": "HE"}',
        b'{"path": "a\\u0000", "stain": "HE"}',
        b'{"path": ' * 7000,
    ],
)
def test_a_body_that_names_no_file_is_refused_in_words(site: Site, body: bytes) -> None:
    status, answer = site.post(body, headers={"Content-Type": "application/json"})
    assert status == 400 and '{"path": "…"' in answer["error"]


def test_a_body_beyond_64_kib_is_refused(site: Site) -> None:
    status, answer = site.post(b" " * 65537, headers={"Content-Type": "application/json"})
    assert status == 413 and '{"path": "…"' in answer["error"]


def test_an_upload_without_a_name_or_too_large_leaves_nothing(site: Site) -> None:
    for name in ("", "?name=../../etc/passwd", "?name=slide"):
        assert site.post(b"x", name)[0] == 400
    status, answer = site.post(bytes(60_000_000), "?name=a.svs&stain=HE")
    assert status == 413 and "largest_gib" in answer["error"]
    assert list((site.settings.state_dir / "uploads").iterdir()) == []


def hang(path: Path, *_: object) -> None:
    """Stand for a slide that is read for long; tell the process that reads it."""
    with path.with_suffix(".begun").open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    time.sleep(120)


def until(seen: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_clients_that_left_keep_neither_the_slide_nor_a_place(
    site: Site, small_case: SyntheticCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = Path(shutil.copy(small_case.he_path, site.scans / "S26-4_A1_HE.svs"))
    begun = slide.with_suffix(".begun")
    uploads = site.settings.state_dir / "uploads"
    body = json.dumps({"path": str(slide), "stain": "HE"}).encode()
    given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    with monkeypatch.context() as patched:
        patched.setattr(read_service, "opinions_on", hang)
        clients = []
        for _ in range(1 + site.settings.read_service.waiting):  # type: ignore[union-attr]
            clients.append(http.client.HTTPConnection(ADDRESS, site.port, timeout=1200))
            clients[-1].request("POST", "/read", body, given)
        until(begun.exists)
        until(lambda: len(list(uploads.iterdir())) == len(clients))
        assert site.named(path=str(slide), stain="HE")[0] == 503
        for client in clients[1:5]:
            client.close()
        until(lambda: len(list(uploads.iterdir())) == len(clients) - 4)
        for client in (clients[0], *clients[5:]):
            client.close()
        until(lambda: not list(uploads.iterdir()))
    (process,) = begun.read_text().split()  # of those that waited none was read
    assert not Path(f"/proc/{process}").exists()
    status, answer = site.named(path=str(slide), stain="HE")
    assert status == 200 and answer["opinions"]
    assert site.left() == []


def test_a_slide_of_many_files_has_the_time_of_all_of_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ten-thousandth of an hour, and of four more for each of 3 GiB."""
    slide = site.scans / "S26-5_A1_HE.mrxs"
    slide.write_bytes(b"index")
    data = slide.with_suffix("") / "Data0000.dat"
    data.parent.mkdir()
    with data.open("wb") as stream:
        stream.truncate(3 * 2**30)
    monkeypatch.setattr(read_service, "opinions_on", hang)
    lanes = site.settings.lanes.model_copy(update={"deadline_factor": 1e-4})
    app = read_app(site.settings.model_copy(update={"lanes": lanes}))
    service = app.state.service
    try:
        with pytest.raises(RefusedError, match="longer than 5 s") as refused:
            service._in_child(slide, "HE", site.scans)
    finally:
        service.close()
        data.unlink()
    assert refused.value.status == 504


def test_a_stop_abandons_the_slide_that_is_read(site: Site, small_case: SyntheticCase) -> None:
    slide = shutil.copy(small_case.he_path, site.scans / "S26-3_A1_HE.svs")
    config = uvicorn.Config(read_app(site.settings), host=ADDRESS, port=0, log_config=None)
    service = config.app.state.service
    service.abandon()
    with pytest.raises(RefusedError, match="stopped"):
        service._in_child(Path(slide), "HE", site.scans)
    service.close()


def test_a_service_is_off_by_default_and_wants_a_token_that_nobody_guesses(site: Site) -> None:
    with pytest.raises(SettingsError, match="is off"):
        run_read_service(Settings())
    assert not list(open_secrets(site.settings))
    short = site.token.with_name("short")
    short.touch(0o644)
    wanted = ReadService(token_file=short)
    settings = site.settings.model_copy(update={"read_service": wanted})
    for token in ("abc", "ein-Schlüssel-mit-Umlaut"):
        short.write_text(token)
        with pytest.raises(SettingsError, match="at least 16"):
            run_read_service(settings)
    assert len(list(open_secrets(settings))) == 1  # every user may read it
