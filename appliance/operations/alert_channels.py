"""Channels of alerts: e-mail over SMTP (RFC 5321) and a message as JSON to a web address."""

from __future__ import annotations

import json
import smtplib
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from urllib.parse import urlsplit

from appliance.delivery.destinations.network import secret_of, tls_files, web_address
from appliance.errors import AlertUnsentError
from appliance.findings.findings import RESEARCH_USE
from appliance.settings.alerts import Alerts, Mail, Webhook
from appliance.settings.network import is_loopback
from appliance.settings.secrets import handed_over
from appliance.settings.settings import Settings
from appliance.words.say import say
from dicom.deadline import Deadline, limit_s
from dicom.dicomweb import Secret
from dicom.errors import DicomError

_END = "This message is sent once. The next one of this cause comes after it ended and came back."


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message: kind and key of its cause, the sentence, and since when (s since epoch).

    `ended` is when the cause ended (s since epoch), in the message of that; 0 in all others.
    """

    kind: str
    key: str
    sentence: str
    since: float
    ended: float = 0.0


Send = Callable[[Message], str]
"""Channel; it raises AlertUnsentError where the message was not taken, and returns who of several
did not get it; empty: all did."""


def channels_of(settings: Settings) -> Mapping[str, Send]:
    """Return the channels that the settings name, by name; none where alerts are off."""
    alerts: Alerts = settings.alerts
    channels: dict[str, Send] = {}
    if (mail := alerts.mail) is not None:
        channels["mail"] = lambda message: send_mail(mail, message, settings.organization)
    if (webhook := alerts.webhook) is not None:
        channels["webhook"] = lambda message: post(webhook, message, settings.organization)
    return channels


def send_mail(section: Mail, message: Message, site: str) -> str:
    """Send a message by e-mail; the exchange as a whole has a time limit.

    Returns how many recipients the server refused, where it took the message for the others.

    Raises
    ------
    AlertUnsentError
        If the server cannot be reached, offers no TLS where it is asked for, or refuses.
    """
    deadline = Deadline()
    try:
        secret = secret_of(section)
        context = tls_files(section).client()
        server = _connection(section, context)
        deadline.watch(lambda: server.sock)
        deadline.start(limit_s(section.timeout_seconds))
        try:
            server.connect(section.host, section.port)
            if section.security == "starttls":
                server.starttls(context=context)
            if secret is not None and section.user is not None:
                server.login(section.user, secret.read())
            refused = server.send_message(_mail(section, message, site))
            with suppress(smtplib.SMTPException, OSError):  # it has the message
                server.quit()
        finally:
            server.close()
    except smtplib.SMTPResponseException as err:  # its text may repeat what was sent
        raise AlertUnsentError(
            f"the mail server {section.host} refused: {type(err).__name__}, code {err.smtp_code}"
        ) from err
    except (smtplib.SMTPException, OSError, ValueError, DicomError) as err:
        # ValueError: a password that is not ASCII, which the text of the error would show.
        why = str(err) if isinstance(err, DicomError) else type(err).__name__
        raise AlertUnsentError(f"the mail server {section.host}: {why}") from err
    finally:
        deadline.stop()
    if not refused:
        return ""
    codes = ", ".join(sorted({str(code) for code, _ in refused.values()}))
    return (
        f"the mail server {section.host} took it, and refused {len(refused)} of "
        f"{len(section.to)} recipients, code {codes}"
    )


def _connection(section: Mail, context: ssl.SSLContext) -> smtplib.SMTP:
    """Return the client of a mail server, not connected yet."""
    timeout = section.timeout_seconds
    server = (
        smtplib.SMTP_SSL(timeout=timeout, context=context)
        if section.security == "tls"
        else smtplib.SMTP(timeout=timeout)
    )
    # TLS compares it. Given to the class, it would be connected before the deadline watches.
    server._host = section.host  # type: ignore[attr-defined]
    return server


def _mail(section: Mail, message: Message, site: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = _title(message, site)
    mail["From"] = section.sender
    mail["To"] = ", ".join(section.to)
    mail["Date"] = format_datetime(datetime.now().astimezone())
    mail["Message-ID"] = make_msgid(domain=section.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answer of a machine
    when = f"Since {_local(message.since):%Y-%m-%d %H:%M %z}"
    if message.ended:
        when += f" until {_local(message.ended):%Y-%m-%d %H:%M %z}"
    mail.set_content(
        f"{_sentence(message)}\n\n{when}, on {socket.gethostname()}.\n"
        f"{'' if message.ended else _END}\n\n{RESEARCH_USE}\n"
    )
    return mail


def post(section: Webhook, message: Message, site: str) -> str:
    """Post a message as JSON; a status of 2xx takes it.

    Raises
    ------
    AlertUnsentError
        If the address cannot be reached or refuses it.
    """
    url = _address(section)
    # The rest of a chat system's address is its secret.
    host = urlsplit(url).netloc.rpartition("@")[2]
    body = {
        "text": f"{_title(message, site)}: {_sentence(message)}",
        "kind": message.kind,
        "cause": message.key,
        "since": _local(message.since).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "notice": RESEARCH_USE,
    }
    if message.ended:
        body["ended"] = _local(message.ended).isoformat(timespec="seconds")
    try:
        answer = web_address(section, url).call(
            "POST",
            "",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "*/*"},
        )
    except DicomError as err:
        why = str(err).replace(url.rstrip("/"), host)
        raise AlertUnsentError(f"the webhook: {why}") from err
    except ValueError as err:  # of a host or a secret that cannot be sent; its text may show it
        raise AlertUnsentError(f"the webhook {host}: {type(err).__name__}") from err
    if not 200 <= answer.status < 300:
        raise AlertUnsentError(f"the webhook {host} answered {answer.status}")
    return ""


def _address(section: Webhook) -> str:
    """Return the address of a webhook; no error shows it.

    Raises
    ------
    AlertUnsentError
        If its file cannot be read, holds none, or a secret would go over http.
    """
    if section.url is not None:
        return section.url
    try:
        url = Secret(file=handed_over(section.url_file)).read()
        parts = urlsplit(url)
        named = parts.scheme in ("http", "https") and bool(parts.hostname)
    except DicomError as err:
        raise AlertUnsentError(f"the webhook: url_file: {err}") from err
    except ValueError:
        named = False
    if not named:
        raise AlertUnsentError(f"the webhook: {section.url_file} holds no web address")
    if section.has_secret and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise AlertUnsentError("the webhook: a secret is not sent over http: use https")
    return url


def _title(message: Message, site: str) -> str:
    where = f"Tandem, {site}" if site else "Tandem"
    title = say("alert", f"title-{message.kind}")
    return f"{where}: {say('alert', 'title-ended', {'title': title}) if message.ended else title}"


def _sentence(message: Message) -> str:
    if not message.ended:
        return message.sentence
    return say("alert", "ended", {"sentence": message.sentence})


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at).astimezone()
