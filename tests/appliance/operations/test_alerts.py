"""Alerts: real messages to a local mail server and a local web server, one for each cause."""

from __future__ import annotations

import json
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from fixtures.judges import require_judge
from fixtures.orthanc import free_port
from fixtures.pairings import HER2_PAIR
from pydantic import ValidationError
from typer.testing import CliRunner

from appliance.cli.main import app
from appliance.domain import HER2, Identity
from appliance.errors import AlertUnsentError
from appliance.ledger.heartbeat import LaneSign, Sign, write_sign
from appliance.ledger.ledger import Ledger
from appliance.ledger.lifecycle import CaseState
from appliance.ledger.tables import CaseRow, id_of, set_reason
from appliance.ledger.transaction import NewDelivery
from appliance.line.alerting import Alerting
from appliance.operations.alert_channels import Message, channels_of, send_mail
from appliance.operations.alerts import AlertWatch, is_quiet, read_memory
from appliance.settings.alerts import AlertKind, Alerts, Mail, Webhook
from appliance.settings.secrets import secret_files
from appliance.settings.settings import Settings

NOW = 1_750_000_000.0
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
            bodies.append(json.loads(body) | {"auth": self.headers.get("Authorization")})
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


def lanes(settings: Settings, **troubles: str) -> None:
    """Write the sign of life of a daemon whose lanes have troubles."""
    signs = {name: LaneSign(doing="", since=NOW, trouble=why) for name, why in troubles.items()}
    sign = Sign(at=NOW, monotonic=1.0, boot="", pid=1, born=1, started=NOW, lanes=signs)
    write_sign(settings, sign)


@dataclass
class Told:
    """Channel that keeps its messages, and fails while `down`."""

    messages: list[Message] = field(default_factory=list)
    down: bool = False

    def __call__(self, message: Message) -> None:
        if self.down:
            raise AlertUnsentError("the mail server is away")
        self.messages.append(message)

    @property
    def keys(self) -> list[str]:
        return [message.key for message in self.messages if not message.ended]

    @property
    def ends(self) -> list[str]:
        return [message.key for message in self.messages if message.ended]


def changed(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update={"alerts": settings.alerts.model_copy(update=values)})


def test_one_message_for_a_cause_until_it_ended_and_came_back(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()
    watch = AlertWatch(settings, {"mail": told})
    lanes(settings, gpu="no process starts: 3 tries", cpu="no process starts: 3 tries")
    watch.look(NOW)
    watch.look(NOW + 299)
    assert told.keys == []  # what ends by itself is told nobody
    lanes(settings, gpu="no process starts: 7 tries", cpu="no process starts: 7 tries")
    for later in (301, 400, 4000):
        watch.look(NOW + later)
    assert len(told.keys) == 1 and "gpu, cpu" in told.messages[0].sentence
    # A restart repeats nothing.
    watch.close()
    watch = AlertWatch(settings, {"mail": told})
    watch.look(NOW + 5000)
    # Away for a moment is not ended.
    lanes(settings)
    watch.look(NOW + 6000)
    lanes(settings, gpu="no process starts: 8 tries")
    watch.look(NOW + 6100)
    watch.look(NOW + 6500)
    assert len(told.keys) == 1
    # Ended, and come back.
    lanes(settings)
    watch.look(NOW + 7000)
    watch.look(NOW + 7400)
    lanes(settings, gpu="no process starts: 9 tries")
    watch.look(NOW + 8000)
    watch.look(NOW + 8400)
    assert len(told.keys) == 2
    watch.close()


def test_the_end_is_told_to_those_who_had_the_message(settings: Settings, ledger: Ledger) -> None:
    mail, hook = Told(), Told()
    watch = AlertWatch(settings, {"mail": mail, "webhook": hook})
    lanes(settings, gpu="held")
    watch.look(NOW)
    hook.down = True
    watch.look(NOW + 300)
    lanes(settings)
    watch.look(NOW + 400)
    watch.look(NOW + 699)
    assert mail.ends == []  # away for a moment is not ended
    hook.down = False
    mail.down = True
    watch.look(NOW + 700)
    watch.close()
    mail.down = False
    watch = AlertWatch(settings, {"mail": mail, "webhook": hook})
    for later in (800, 900, 2000):
        watch.look(NOW + later)
    assert mail.keys == mail.ends == ["lane held"] and hook.messages == []
    assert mail.messages[-1].ended == NOW + 400 and mail.messages[-1].since == NOW
    assert read_memory(settings).causes == {}
    # It comes back before its end was taken: that is told, the end is not.
    lanes(settings, gpu="held")
    watch.look(NOW + 3000)
    watch.look(NOW + 3300)
    lanes(settings)
    watch.look(NOW + 4000)
    mail.down = True
    watch.look(NOW + 4400)
    mail.down = False
    lanes(settings, gpu="held")
    watch.look(NOW + 9000)
    watch.look(NOW + 9300)
    assert len(mail.keys) == 3 and len(mail.ends) == 1
    watch.close()


def test_no_end_is_told_where_nobody_wants_it_or_the_disk_got_worse(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()
    watch = AlertWatch(changed(settings, after_minutes=0, tell_end=False), {"mail": told})
    lanes(settings, gpu="held")
    watch.look(NOW)
    lanes(settings)
    watch.look(NOW + 100)
    assert told.ends == [] and read_memory(settings).causes == {}
    watch.close()
    full = changed(settings, after_minutes=0)
    path = settings.state_dir / "alerts.json"
    fills = {"kind": "disk", "sentence": "it fills up", "since": NOW, "told": ["mail"]}
    for low_disk_gib, ends in ((1e9, []), (0, ["disk-fills"])):
        # As an older version wrote it: without channels of the end.
        memory = {"causes": {"disk-fills": fills}, "event": 0, "stat": [], "sent": {}, "failed": {}}
        path.write_text(json.dumps(memory))
        watch = AlertWatch(full.model_copy(update={"low_disk_gib": low_disk_gib}), {"mail": told})
        watch.look(NOW + 200)
        watch.look(NOW + 300)
        watch.close()
        assert told.ends == ends


def test_a_channel_that_is_away_is_tried_again_and_holds_no_other(
    settings: Settings, ledger: Ledger
) -> None:
    mail, hook = Told(down=True), Told()
    watch = AlertWatch(changed(settings, after_minutes=0), {"mail": mail, "webhook": hook})
    lanes(settings, gpu="held")
    for later in (0, 10, 59):
        watch.look(NOW + later)
    assert len(hook.keys) == 1 and "away" in read_memory(settings).failed["mail"].why
    mail.down = False
    watch.look(NOW + 61)
    assert len(mail.keys) == len(hook.keys) == 1
    assert read_memory(settings).failed == {}
    watch.close()


def test_quiet_time_holds_all_but_stat_results(settings: Settings, ledger: Ledger) -> None:
    night = time.mktime((2026, 11, 27, 23, 0, 0, 0, 0, -1))
    alerts = Alerts(quiet_from=20, quiet_until=7, after_minutes=0)
    assert [is_quiet(alerts, night + 3600 * h) for h in (-4, 0, 7, 8)] == [False, True, True, False]
    assert not is_quiet(Alerts(quiet_from=9, quiet_until=17), night)
    told = Told()
    watch = AlertWatch(settings.model_copy(update={"alerts": alerts}), {"mail": told})
    watch.look(night)
    lanes(settings, gpu="held")
    case_id = stat_case(ledger, night)
    watch.look(night + 60)
    assert told.keys == [f"stat case-{case_id}"]
    watch.look(night + 9 * 3600)
    assert len(told.keys) == 2
    watch.close()


def stat_case(ledger: Ledger, now: float, *, stat: bool = True) -> int:
    """Add a case that is delivered."""
    with ledger.transaction() as tx:
        name = Identity(accession="S26-0000001", block="A1", stain=HER2)
        case = tx.case_for(name, now, HER2_PAIR)
        case.stat = stat
        deliver(tx, case, now)
        return id_of(case)


def deliver(tx: Any, case: CaseRow, now: float) -> None:
    for state in (
        CaseState.READY,
        CaseState.ALIGNED,
        CaseState.SCORED,
        CaseState.WRITTEN,
        CaseState.DELIVERED,
    ):
        tx.advance(case, state, now=now)


def test_a_stat_result_is_told_once_and_again_after_a_rerun(
    settings: Settings, ledger: Ledger
) -> None:
    told = Told()
    old = stat_case(ledger, NOW - 60)  # before the first look: no news
    watch = AlertWatch(settings, {"mail": told})
    watch.look(NOW)
    assert told.keys == []

    def move(*states: CaseState) -> None:
        with ledger.transaction() as tx:
            row = tx.case(old)
            assert row is not None
            for state in states:
                tx.advance(row, state, now=NOW)

    move(
        CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN, CaseState.UNPROVEN
    )
    watch.look(NOW + 1)
    watch.close()
    watch = AlertWatch(settings, {"mail": told})
    move(CaseState.DELIVERED)  # proven later: the same result
    move(CaseState.SCORED, CaseState.WRITTEN, CaseState.DELIVERED)  # a person signed it
    watch.look(NOW + 2)
    assert told.keys == [f"stat case-{old}"]
    assert "sent and not proven" in told.messages[0].sentence
    assert "S26" not in told.messages[0].sentence
    move(
        CaseState.READY, CaseState.ALIGNED, CaseState.SCORED, CaseState.WRITTEN, CaseState.DELIVERED
    )
    watch.look(NOW + 3)
    assert len(told.keys) == 2
    watch.close()


def test_silence_disk_backup_and_a_destination_are_causes(
    settings: Settings, ledger: Ledger
) -> None:
    case_id = stat_case(ledger, NOW - 1, stat=False)
    with ledger.transaction() as tx:
        tx.add_slide("/scans/S26-0000001_A1_HE.svs", NOW - 3601)
        tx.enqueue(case_id, NewDelivery(
            destination="pacs", kind="SR", path="x.dcm", study_uid="2.25.1", series_uid="2.25.2",
            sop_instance_uid="2.25.3", sop_class_uid="1.2.840",
        ), NOW)  # fmt: skip
        (row,) = tx.deliveries(case_id)
        row.reason, row.params = "failed", json.dumps({"message": "S26-0000001 was not taken"})
        case = tx.case(case_id)
        assert case is not None
        tx.advance(case, CaseState.READY, now=NOW)
        set_reason(case, "weights-unusable", {"message": "/x/S26-0000001"})
    told = Told()
    full = changed(settings, after_minutes=0, nothing_arrived_hours=1.0)
    watch = AlertWatch(full.model_copy(update={"low_disk_gib": 1e9}), {"mail": told})
    failed = settings.ledger_file.parent / "backups" / "failed.json"
    failed.parent.mkdir()
    failed.write_text(json.dumps({"at": NOW, "why": "no room"}))
    watch.look(NOW)
    assert sorted(told.keys) == [
        "backup", "destination pacs", "disk-low", "silence", "weights-unusable",
    ]  # fmt: skip
    assert all("S26" not in message.sentence for message in told.messages)
    watch.close()
    with closing(sqlite3.connect(settings.ledger_file)) as other:
        other.execute("PRAGMA user_version = 1")  # of another build
    watch = AlertWatch(changed(settings, after_minutes=0), {"mail": told})
    watch.look(NOW + 1)
    # What the ledger told is not over because it cannot be read.
    assert told.keys[-1] == "ledger" and "silence" in read_memory(settings).causes
    watch.close()


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
    deadline = time.monotonic() + 60
    while not posted[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    thread.join(60)
    assert not thread.is_alive() and len(looks) >= 2
    assert posted[0][0]["kind"] == AlertKind.SITE and "held" in posted[0][0]["text"]
