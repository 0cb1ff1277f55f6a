"""Channels of alerts: real messages to a local mail server and a local web server."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from fixtures.alerts import NOW, changed, lanes, stat_case
from fixtures.judges import require_judge
from fixtures.orthanc import free_port
from pydantic import ValidationError
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.errors import AlertUnsentError
from appliance.ledger.ledger import Ledger
from appliance.line.alerting import Alerting
from appliance.operations.alert_channels import Message, channels_of, send_mail
from appliance.operations.alerts import AlertWatch, alert_lines, send_test
from appliance.settings.alerts import AlertKind, Alerts, Mail, Webhook
from appliance.settings.secrets import open_secrets, secret_files
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings

SECRET = "a long secret"  # noqa: S105  of a made server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two certificates of 127.0.0.1, each its own authority."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    name = ("-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1")
    for each in ("server", "stranger"):
        out = ("-keyout", f"{each}.key", "-out", f"{each}.pem")
        command = [require_judge("openssl"), "req", "-x509", *key, *name, *out]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return folder


@dataclass
class Inbox:
    """Handler of a mail server; `refuse` is the answer to each message, if any."""

    mails: list[Any] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    refuse: str = ""

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        if self.refuse:
            return self.refuse
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"

    def authenticate(self, *facts: Any) -> AuthResult:
        said = facts[-1]
        self.logins.append((said.login, said.password))
        return AuthResult(success=said.password == SECRET.encode())


@pytest.fixture
def inbox(certificates: Path) -> Iterator[tuple[Inbox, int]]:
    """Return a mail server that asks for STARTTLS and a password, and its port."""
    found = Inbox()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    controller = Controller(
        found,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=found.authenticate,
        ready_timeout=300,
    )
    controller.start()
    assert controller.server is not None
    try:
        yield found, controller.server.sockets[0].getsockname()[1]
    finally:
        controller.stop()


@pytest.fixture
def posted() -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Return the bodies that a web server was posted, and its address."""
    bodies: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            bodies.append(
                json.loads(body) | {"auth": self.headers.get("Authorization"), "path": self.path}
            )
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield bodies, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path / "state",
        low_disk_gib=0,
        alerts=Alerts(after_minutes=5, quiet_from=None),
    )


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    opened = Ledger(settings.ledger_url)
    yield opened
    opened.close()


def test_mail_goes_over_starttls_with_the_password_and_names_no_patient(
    settings: Settings, ledger: Ledger, inbox: tuple[Inbox, int], certificates: Path,
    tmp_path: Path, posted: tuple[list[dict[str, Any]], str],
) -> None:  # fmt: skip
    box, port = inbox
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    mail = Mail(
        host="127.0.0.1", port=port, sender="tandem@lab.example", to=("it@lab.example",),
        user="tandem", secret_file=secret, ca_file=certificates / "server.pem",
    )  # fmt: skip
    hook = Webhook(url=posted[1], secret_file=secret)
    given = changed(settings, mail=mail, webhook=hook, after_minutes=0)
    watch = AlertWatch(given)
    watch.look(NOW)
    stat_case(ledger, NOW)
    watch.look(NOW + 1)
    watch.close()
    (sent,) = box.mails
    assert sent["Subject"] == "Tandem: a STAT result" and sent["To"] == "it@lab.example"
    assert "case-1 has a result" in sent.get_content()
    assert "research use only" in sent.get_content().lower()
    assert "S26" not in sent.as_string() and box.logins == [(b"tandem", SECRET.encode())]
    (body,) = posted[0]
    assert (
        body["kind"] == "stat" and "case-1" in body["text"] and body["auth"] == f"Bearer {SECRET}"
    )
    assert "S26" not in json.dumps(body)
    assert set(dict(secret_files(given)).values()) == {secret}
    end = Message(kind="site", key="x", sentence="Held up.", since=NOW, ended=NOW + 600)
    for send in channels_of(given).values():
        send(end)
    assert box.mails[-1]["Subject"] == "Tandem: ended: held up"
    assert "This has ended: Held up." in box.mails[-1].get_content()
    body = posted[0][-1]
    assert body["text"] == "Tandem: ended: held up: This has ended: Held up."
    assert datetime.fromisoformat(body["ended"]).timestamp() == NOW + 600
    # Refused, another certificate, nobody there: an error that holds no secret.
    box.refuse = f"550 {SECRET}"
    message = Message(kind="test", key="test", sentence="x", since=NOW)
    stranger = mail.model_copy(update={"ca_file": certificates / "stranger.pem"})
    nobody = mail.model_copy(update={"port": 1})
    for each in (mail, stranger, nobody):
        with pytest.raises(AlertUnsentError, match=r"127\.0\.0\.1") as caught:
            send_mail(each, message, "")
        assert SECRET not in str(caught.value)
    secret.write_text("Paßwort")  # smtplib sends ASCII alone
    with pytest.raises(AlertUnsentError, match="UnicodeEncodeError"):
        send_mail(mail, message, "")
    for url, why in ((f"{posted[1]}/broken", "500"), ("http://127.0.0.1:1/broken", "failed")):
        broken = changed(settings, webhook=Webhook(url=url))
        with pytest.raises(AlertUnsentError, match=why) as caught:
            channels_of(broken)["webhook"](message)
        assert "broken" not in str(caught.value)


@pytest.mark.parametrize("answers", [True, False], ids=["QUIT is answered", "it hangs up"])
def test_mail_that_was_taken_is_sent_whatever_comes_after(
    settings: Settings, ledger: Ledger, answers: bool
) -> None:
    class Server(SMTP):
        async def smtp_QUIT(self, arg: str) -> None:  # noqa: N802
            if answers:
                await super().smtp_QUIT(arg)
            else:
                self.transport.close()

    class Picky(Inbox):
        async def handle_RCPT(  # noqa: N802
            self, _server: object, _session: object, envelope: Any, address: str, _options: object
        ) -> str:
            if address.startswith("typo"):
                return "550 no such user typo"
            envelope.rcpt_tos.append(address)
            return "250 taken"

    box = Picky()
    controller = Controller(box, hostname="127.0.0.1", port=free_port(), ready_timeout=300)
    controller.factory = lambda: Server(box, hostname="127.0.0.1")  # type: ignore[method-assign]
    controller.start()
    mail = Mail(
        host="127.0.0.1", port=controller.port, security="none", sender="a@lab.example",
        to=("it@lab.example", "typo@lab.example"),
    )  # fmt: skip
    given = changed(settings, mail=mail, after_minutes=0)
    lanes(settings, gpu="held")
    try:
        watch = AlertWatch(given)
        for later in range(3):
            watch.look(NOW + 3700 * later)
        watch.close()
        assert len(box.mails) == 1
        said = "refused 1 of 2 recipients, code 550"
        assert said in send_test(given)["mail"] and said in alert_lines(given)[0]
        assert "typo" not in alert_lines(given)[0]
        right = changed(settings, mail=mail.model_copy(update={"to": ("it@lab.example",)}))
        assert send_test(right) == {"mail": ""}
        for started, stays in ((given, True), (right, False)):
            watch = AlertWatch(started)
            watch.look(NOW + 3700 * 3)
            watch.close()
            assert (said in alert_lines(started)[0]) == stays
        assert len(box.mails) == 3  # two of them tests
    finally:
        controller.stop()


def test_the_address_of_a_webhook_comes_from_a_file_that_nothing_shows(
    tmp_path: Path, posted: tuple[list[dict[str, Any]], str]
) -> None:
    file, config = tmp_path / "hook", tmp_path / "tandem.toml"
    config.write_text(f"state_dir = '{tmp_path}'\n[alerts.webhook]\nurl_file = '{file}'\n")
    given = load_settings(config)
    assert set(dict(secret_files(given)).values()) == {file}
    for address, told in (
        (f"{posted[1]}/a@b/c?v=1&sig=SECRET", ""),
        (f"{posted[1].replace('http:', 'ftp:')}/SECRET", f"{file} holds no web address"),
        ("http://127.0.0.1:1/SECRET?sig=SECRET", "the webhook: 127.0.0.1:1: POST failed"),
    ):
        file.write_text(f"{address}\n")
        outcome = send_test(given)["webhook"]
        assert outcome.startswith(told) or told in outcome
        assert bool(outcome) == bool(told) and "SECRET" not in outcome
    assert posted[0][0]["path"] == "/a@b/c?v=1&sig=SECRET"
    assert [str(file) in line for line in open_secrets(given)] == [True]
    file.chmod(0o600)
    shown = CliRunner().invoke(app, ["config", "check", "--config", str(config)]).output
    assert str(file) in shown and "SECRET" not in shown
    file.unlink()
    assert f"no secret in {file}" in send_test(given)["webhook"]
    file.write_text("http://chat.lab/SECRET")
    token = Webhook(url_file=file, secret_env="X")  # noqa: S106
    with pytest.raises(AlertUnsentError, match="use https"):
        channels_of(changed(given, webhook=token))["webhook"](
            Message(kind="test", key="test", sentence="x", since=NOW)
        )


def test_a_host_that_is_none_is_told_and_holds_no_other_channel(
    settings: Settings, ledger: Ledger, tmp_path: Path
) -> None:
    url, mails = "https://chat..lab/hooks/secret", list[Message]()
    given = changed(settings, webhook=Webhook.model_construct(url=url), after_minutes=0)

    def take(mail: Message) -> str:
        mails.append(mail)
        return ""

    watch = AlertWatch(given, {"mail": take, "webhook": channels_of(given)["webhook"]})
    for later, lane in enumerate(("gpu", "cpu", "io")):
        lanes(settings, **{lane: f"{lane} is held"})
        watch.look(NOW + later)
    watch.close()
    assert [mail.key for mail in mails if not mail.ended] == [
        "lane gpu is held", "lane cpu is held", "lane io is held",
    ]  # fmt: skip
    config = tmp_path / "tandem.toml"
    port = "https://chat.lab:99999/hooks/secret"
    config.write_text(f'state_dir = "{tmp_path}"\n[alerts.webhook]\nurl = "{port}"\n')
    tried = CliRunner().invoke(app, ["alerts", "--test", "--config", str(config)])
    assert tried.exit_code == 1 and "webhook: the webhook: chat.lab:99999: POST" in tried.output
    assert "secret" not in tried.output


def test_settings_send_no_secret_that_can_be_read_and_are_off_by_default(
    tmp_path: Path, posted: tuple[list[dict[str, Any]], str]
) -> None:
    assert channels_of(Settings()) == {}
    facts: dict[str, Any] = {"host": "mail.lab", "sender": "a@b", "to": ["c@d"]}
    with pytest.raises(ValidationError, match="without TLS"):
        Mail(**facts, user="x", secret_env="X", security="none")  # noqa: S106
    with pytest.raises(ValidationError, match="add user"):
        Mail(**facts, secret_env="X")  # noqa: S106
    with pytest.raises(ValidationError, match="to"):
        Mail(**facts | {"to": ["a@b\nBcc: e@f"]})
    config = tmp_path / "tandem.toml"
    config.write_text(f'state_dir = "{tmp_path}"\n')
    off = CliRunner().invoke(app, ["alerts", "--test", "--config", str(config)])
    assert off.exit_code == 1 and "alerts are off" in off.output
    config.write_text(f'state_dir = "{tmp_path}"\n[alerts.webhook]\nurl = "{posted[1]}"\n')
    sent = CliRunner().invoke(app, ["alerts", "--test", "--config", str(config)])
    assert sent.exit_code == 0 and "webhook: sent" in sent.output
    assert posted[0][0]["kind"] == "test"
    shown = CliRunner().invoke(app, ["alerts", "--config", str(config)])
    assert "webhook: nothing sent yet" in shown.output


def test_the_thread_goes_on_after_an_error_and_ends_when_told(
    settings: Settings, ledger: Ledger, posted: tuple[list[dict[str, Any]], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    looks: list[float] = []
    look = AlertWatch.look

    def failing_first(watch: AlertWatch, now: float) -> None:
        looks.append(now)
        if len(looks) == 1:
            raise RuntimeError("nobody foresaw it")
        look(watch, now)

    monkeypatch.setattr(AlertWatch, "look", failing_first)
    lanes(settings, gpu="held")
    stop = threading.Event()
    given = changed(settings, webhook=Webhook(url=posted[1]), after_minutes=0)
    thread = Alerting(given, stop, period_s=0.01)
    thread.start()
    deadline = time.monotonic() + 600
    while not posted[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(600)
    assert not thread.is_alive() and len(looks) >= 2
    assert posted[0][0]["kind"] == AlertKind.SITE and "held" in posted[0][0]["text"]
