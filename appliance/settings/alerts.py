"""Settings of alerts: who is told of trouble, by e-mail or webhook, and when nobody is."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from appliance.settings.network import Url, WithSecret, is_loopback
from appliance.settings.section import PathOrNone, Section
from appliance.settings.tls import Host

Mailbox = Annotated[
    str, StringConstraints(pattern=r"^[^\s@,;<>\"]+@[^\s@,;<>\"]+$", max_length=254)
]
"""Address of a mailbox, without a name."""
Hour = Annotated[int, Field(ge=0, le=23)]


class AlertKind(StrEnum):
    """Kind of a cause that people are told of."""

    SITE = "site"  #: the appliance is held up: share, weights, ledger, a destination
    STAT = "stat"  #: the result of a STAT case is there
    SILENCE = "silence"  #: nothing arrived for long
    DISK = "disk"  #: little space is left, or the disk fills up
    BACKUP = "backup"  #: the ledger is not backed up as it should be


class Mail(WithSecret):
    """E-mail over SMTP, which is sent where this section stands."""

    host: Host
    """Name or address of the mail server."""
    port: Annotated[int, Field(gt=0, lt=65536)] = 587
    """TCP port: that of message submission (RFC 6409)."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """Protection of the connection: STARTTLS, TLS from the start (port 465), or none. Without one
    no secret is sent, except to this machine."""
    sender: Mailbox
    """Address that the messages come from."""
    to: Annotated[tuple[Mailbox, ...], Field(min_length=1, max_length=20)]
    """Addresses that the messages go to."""

    @model_validator(mode="after")
    def _secret_is_a_password_that_nobody_reads(self) -> Self:
        if self.has_secret and self.user is None:
            raise ValueError("a mail server asks for a user with the secret: add user")
        if self.has_secret and self.security == "none" and not is_loopback(self.host):
            raise ValueError(
                'a secret without TLS can be read by everyone on the way: security = "starttls"'
            )
        return self


class Webhook(WithSecret):
    """Message as JSON to a web address, which is sent where this section stands."""

    url: Url | None = None
    """Address that each message is posted to. Chat systems show the key ``text``."""
    url_file: PathOrNone = None
    """File that holds the address, where that is a secret or has a query, as chat systems give it.
    It is read at each use and never printed."""

    @field_validator("url", mode="before")
    @classmethod
    def _holds_no_secret(cls, value: object) -> object:
        if isinstance(value, str) and re.search("[@?#]", value):
            raise ValueError(
                "an address with '@', '?' or '#' holds a secret. Put it into a file that other "
                "users cannot read, and name that: url_file"
            )
        return value

    @model_validator(mode="after")
    def _has_one_address(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("name url or url_file")
        return self

    @property
    def urls(self) -> tuple[str, ...]:
        """URL that the secret is sent to, where the settings name it."""
        return () if self.url is None else (self.url,)


class Alerts(Section):
    """Messages of the daemon to people. Off: without ``[alerts.mail]`` and ``[alerts.webhook]``
    nothing is sent. No message names a patient, an accession or a slide's file.
    """

    kinds: tuple[AlertKind, ...] = tuple(AlertKind)
    """Kinds of causes that are told. A daemon that has stopped sends nothing: for that, let a
    monitoring system ask it (docs/monitoring.md)."""
    after_minutes: Annotated[float, Field(ge=0)] = 5.0
    """Time for which a cause must last before it is told, and be away before it counts as ended.
    What ends by itself sooner, such as a share that is mounted again, asks nothing of anybody."""
    tell_end: bool = True
    """Tell the end of a cause, too, to those who had its message."""
    quiet_from: Hour | None = None
    """Hour of the day, by the machine's local time, from which nothing but a STAT result is told.
    What still lasts at the end of the quiet time is told then. None: no quiet time."""
    quiet_until: Hour = 7
    """Hour of the day at which the quiet time ends."""
    nothing_arrived_hours: Annotated[float, Field(gt=0)] | None = None
    """Time without a new slide after which that is told. None: never, as a laboratory has nights
    and holidays. With a quiet time: a little more than the longest pause of a working day."""
    disk_days: Annotated[float, Field(ge=0)] = 3.0
    """Days until the disk is at ``low_disk_gib``, by the forecast, below which that is told. Less
    space than ``low_disk_gib`` is told anyway."""
    mail: Mail | None = None
    webhook: Webhook | None = None
