"""Alerts: one message for each cause, kept in a file so that a restart repeats none.

A cause is told once it has lasted ``alerts.after_minutes``; what a destination refused for good is
told again where it grew, once an hour at most. Once it was away for as long its end is
told to those who had the message, and it may be told again. A channel that takes no message is
tried again later; the others are not.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from appliance.artifacts import write_whole
from appliance.errors import AlertUnsentError, LedgerError
from appliance.ledger.reader import LedgerReader
from appliance.operations.alert_causes import (
    NEWS_SECONDS,
    REFUSED_THERE,
    WAITS_THERE,
    Cause,
    causes_of_ledger,
    causes_of_machine,
    is_of_ledger,
    last_event,
    stat_news,
)
from appliance.operations.alert_channels import Message, Send, channels_of
from appliance.settings.alerts import AlertKind, Alerts
from appliance.settings.settings import Settings
from appliance.words.say import say

log = logging.getLogger(__name__)

NAME = "alerts.json"
"""File in the state folder: what was told, for no record of anything."""
FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 3600.0
"""Wait after a failed attempt of a channel; it doubles."""
OF_THE_DISK = "disk-"
"""Beginning of the keys of causes of the disk: one follows another, and that is no end."""
AGAIN_S = 3600.0
"""Least time between two messages of a cause that grows."""
MOST_CASES = 1000
"""Most STAT cases that are remembered as told, the newest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A cause that holds, or did just now; `told` names the channels that took its message.

    `since` and `gone` are seconds since the epoch; `gone` is 0 while it holds. `ended` names the
    channels that took the message of its end. `newest` is that of the cause when it was told, and
    `before` names the channels that took an earlier message, of less.
    """

    kind: AlertKind
    sentence: str
    since: float
    gone: float = 0.0
    told: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    newest: float = 0.0
    before: tuple[str, ...] = ()

    @property
    def heard(self) -> set[str]:
        """Channels that took any message of it."""
        return {*self.told, *self.before}

    def with_more(self, newest: float, now: float) -> Standing:
        """Return it as it is to be told again, where it grew since it was told."""
        if not self.told:
            return replace(self, newest=newest)
        known = min(self.newest, now)  # the clock was set back
        if newest <= known or now - self.since < AGAIN_S:
            return replace(self, newest=known)
        return replace(self, since=now, told=(), before=tuple(self.heard), newest=newest)

    def is_over(self, now: float, after_s: float) -> bool:
        """Return whether it has been away for long enough to count as ended."""
        return bool(self.gone) and now - self.gone >= after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Last attempt of a channel that failed, or did not reach everyone: when (s since epoch), and
    why."""

    at: float
    why: str


@dataclass(slots=True, kw_only=True)
class Memory:
    """Memory of the alerts; `event` is the last event read, None before the first look.

    `stat` holds the ids of STAT cases whose result was told, `sent` when each channel last took a
    message. `sections` holds a digest of each channel's settings: what failed under others is over.
    """

    causes: dict[str, Standing] = field(default_factory=dict)
    event: int | None = None
    stat: list[int] = field(default_factory=list)
    sent: dict[str, float] = field(default_factory=dict)
    failed: dict[str, Failed] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)


def read_memory(settings: Settings) -> Memory:
    """Return what is remembered; nothing where the file is not there or damaged."""
    try:
        found: dict[str, Any] = json.loads(_path(settings).read_text())
        causes = {key: _standing(each) for key, each in found["causes"].items()}
        failed = {name: Failed(**each) for name, each in found["failed"].items()}
        return Memory(
            causes=causes,
            event=found["event"],
            stat=list(found["stat"]),
            sent=dict(found["sent"]),
            failed=failed,
            sections=dict(found.get("sections", {})),  # earlier editions wrote none
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Memory()


def _standing(kept: Mapping[str, Any]) -> Standing:
    names = {name: tuple(kept.get(name, ())) for name in ("told", "ended", "before")}
    return Standing(**{**kept, **names, "kind": AlertKind(kept["kind"])})


def is_quiet(alerts: Alerts, now: float) -> bool:
    """Return whether the quiet time is on, by the machine's local time."""
    if alerts.quiet_from is None:
        return False
    hour, begin, end = time.localtime(now).tm_hour, alerts.quiet_from, alerts.quiet_until
    return begin <= hour < end if begin <= end else hour >= begin or hour < end


def send_test(settings: Settings) -> dict[str, str]:
    """Send a test by each channel; return why it failed by channel, or whom it did not reach.

    Empty: it was taken for all.
    """
    now, outcomes = time.time(), {}
    message = Message(kind="test", key="test", sentence=say("alert", "test"), since=now)
    for name, send in channels_of(settings).items():
        try:
            outcomes[name] = send(message)
        except AlertUnsentError as err:
            outcomes[name] = str(err)
    return outcomes


def alert_lines(settings: Settings) -> list[str]:
    """Return what stands of alerts, one line each: channels, then what was told and lasts."""
    memory, alerts = read_memory(settings), settings.alerts
    names = [name for name in ("mail", "webhook") if getattr(alerts, name) is not None]
    if not names:
        return ["off: the settings have no [alerts.mail] and no [alerts.webhook]"]
    lines = []
    for name in names:
        failed, sent = memory.failed.get(name), memory.sent.get(name)
        told = "nothing sent yet" if sent is None else f"last message {_when(sent)}"
        lines.append(f"{name}: {f'failed {_when(failed.at)}: {failed.why}' if failed else told}")
    for known in memory.causes.values():
        state = "told" if known.told else "not told yet"
        if known.gone:
            state += f", gone since {_when(known.gone)}"
        lines.append(f"since {_when(known.since)}, {state}: {known.sentence}")
    return lines


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


class AlertWatch:
    """The looks of one daemon; each `look` finds causes, sends what is due, and remembers it."""

    def __init__(self, settings: Settings, channels: Mapping[str, Send] | None = None) -> None:
        self._settings, self._alerts = settings, settings.alerts
        self._channels = channels_of(settings) if channels is None else channels
        self._reader = LedgerReader(settings.ledger_url)
        self._memory = read_memory(settings)
        self._forget_failures_of_other_settings()
        self._written = ""
        self._waits: dict[str, tuple[float, float]] = {}  # until, and the last wait

    def _forget_failures_of_other_settings(self) -> None:
        for name in self._channels:
            text = repr(getattr(self._alerts, name, None))
            digest = hashlib.sha256(text.encode()).hexdigest()
            if self._memory.sections.get(name, digest) != digest:
                self._memory.failed.pop(name, None)
            self._memory.sections[name] = digest

    def close(self) -> None:
        """Close the connections with the ledger."""
        self._reader.close()

    def look(self, now: float) -> None:
        """Look once, and send what is due."""
        found = {cause.key: cause for cause in causes_of_machine(self._settings, now)}
        readable = self._ask_ledger(found, now)
        self._follow(found, now, readable=readable)
        self._send(now)
        self._write()

    def _ask_ledger(self, found: dict[str, Cause], now: float) -> bool:
        """Add what the ledger tells; return False where it cannot be read."""
        try:
            if not self._reader.ready:
                return False
            with self._reader.reading() as tx:
                for cause in causes_of_ledger(tx, self._settings, now):
                    # The folder that is away is named by the scan, the full disk by its bytes.
                    if cause.key != "disk-full" or "disk-low" not in found:
                        found.setdefault(cause.key, cause)
                memory = self._memory
                if memory.event is None:  # older results are no news
                    memory.event = last_event(tx)
                news = stat_news(tx, memory.event, now)
        except LedgerError:
            told = say("alert", "ledger")
            found["ledger"] = Cause(key="ledger", kind=AlertKind.SITE, sentence=told)
            return False
        memory.event = news.event
        memory.stat = [case for case in memory.stat if case not in news.reopened]
        for case, sentence in news.results.items():
            if case not in memory.stat:
                memory.stat.append(case)
                memory.causes[f"stat case-{case}"] = Standing(
                    kind=AlertKind.STAT, sentence=sentence, since=now
                )
        del memory.stat[:-MOST_CASES]
        return True

    def _follow(self, found: Mapping[str, Cause], now: float, *, readable: bool) -> None:
        """Begin, go on with, or end the causes; STAT results are news and end when told."""
        causes, after_s = self._memory.causes, 60 * self._alerts.after_minutes
        for key, cause in found.items():
            known = causes.get(key)
            if known is None or known.is_over(now, after_s):
                known = Standing(kind=cause.kind, sentence="", since=now)
            known = known.with_more(cause.newest, now)
            since = min(known.since, now)  # the clock was set back
            causes[key] = replace(known, sentence=cause.sentence, since=since, gone=0.0)
        for key, known in list(causes.items()):
            if known.kind is AlertKind.STAT:
                over = now - known.since > NEWS_SECONDS or self._is_told(known)
            elif key in found or (not readable and is_of_ledger(key)):
                continue  # of a ledger that cannot be read nothing is known
            else:
                causes[key] = known = replace(known, gone=min(known.gone or now, now))
                over = not known.heard or (
                    known.is_over(now, after_s) and not self._owes_end(key, known, now)
                )
            if over:
                del causes[key]

    def _is_told(self, known: Standing) -> bool:
        return set(self._channels) <= set(known.told)

    def _owes_end(self, key: str, known: Standing, now: float) -> bool:
        """Return whether the end of a cause is to be told still; after a day it is no news."""
        wanted = self._alerts.tell_end and known.kind in self._alerts.kinds
        lasting = [other for other, each in self._memory.causes.items() if not each.gone]
        # What waited for a destination until it was given up has not ended well.
        word, _, place = key.partition(" ")
        refused = f"{REFUSED_THERE} {place}"
        given_up = refused in lasting and self._memory.causes[refused].since >= known.since
        heirs = (word == WAITS_THERE and given_up) or (
            key.startswith(OF_THE_DISK) and any(other.startswith(OF_THE_DISK) for other in lasting)
        )
        missing = known.heard & set(self._channels) - set(known.ended)
        return wanted and not heirs and bool(missing) and now - known.gone <= NEWS_SECONDS

    def _send(self, now: float) -> None:
        quiet, after_s = is_quiet(self._alerts, now), 60 * self._alerts.after_minutes
        for key, known in list(self._memory.causes.items()):
            is_news = known.kind is AlertKind.STAT
            if known.is_over(now, after_s) and not is_news:
                if not quiet and self._owes_end(key, known, now):
                    self._tell(key, now, "ended", known.heard)
                continue
            due = is_news or (not known.gone and not quiet and now - known.since >= after_s)
            if due and known.kind in self._alerts.kinds:
                self._tell(key, now, "told", set(self._channels))

    def _tell(self, key: str, now: float, what: Literal["told", "ended"], to: set[str]) -> None:
        """Send the message of a cause, or of its end, to those of `to` that have not had it."""
        for name, send in self._channels.items():
            known = self._memory.causes[key]
            had = known.told if what == "told" else known.ended
            message = Message(
                kind=known.kind,
                key=key,
                sentence=known.sentence,
                since=known.since,
                ended=known.gone if what == "ended" else 0.0,
            )
            if name in to and name not in had and self._try(name, send, message, now):
                had = (*had, name)
                told, ended = (had, known.ended) if what == "told" else (known.told, had)
                self._memory.causes[key] = replace(known, told=told, ended=ended)
                self._write()  # at once: a daemon that is killed repeats nothing

    def _try(self, name: str, send: Send, message: Message, now: float) -> bool:
        """Send a message by a channel that is not waiting; return whether it was taken."""
        until, last_s = self._waits.get(name, (0.0, 0.0))
        if now < until <= now + LONGEST_WAIT_S:  # one further ahead is of a clock that was ahead
            return False
        try:
            refused = send(message)
        except AlertUnsentError as err:
            wait_s = min(max(2 * last_s, FIRST_WAIT_S), LONGEST_WAIT_S)
            self._waits[name] = now + wait_s, wait_s
            self._memory.failed[name] = Failed(at=now, why=str(err))
            log.warning("an alert was not sent: %s; it is tried again", err)
            return False
        self._waits.pop(name, None)
        self._memory.failed.pop(name, None)
        if refused:  # it is sent: again it would come to those who have it
            self._memory.failed[name] = Failed(at=now, why=refused)
            log.warning("an alert did not reach everyone: %s", refused)
        self._memory.sent[name] = now
        log.info("an alert was sent by %s: %s", name, message.key)
        return True

    def _write(self) -> None:
        text = json.dumps(asdict(self._memory))
        if text == self._written:
            return
        try:
            write_whole(_path(self._settings), text.encode(), 0o600)
            self._written = text
        except OSError as err:  # a full disk, which is a cause itself
            log.warning("what alerts told cannot be kept: %s", type(err).__name__)


def _path(settings: Settings) -> Path:
    return settings.state_dir / NAME
