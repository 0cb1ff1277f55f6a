"""The system page: the appliance's lanes, machine, destinations, weights, backups and checks."""

from __future__ import annotations

from html import escape

import streamlit as st

from appliance.ledger.lifecycle import DeliveryState
from appliance.operations.users import Role
from appliance.readers.device import DeviceSign
from dashboard.log_tail import LogTail
from dashboard.masking import HIDDEN
from dashboard.system import (
    Checks,
    Machine,
    Place,
    System,
    chain_check,
    doctors_checks,
    read_system,
)
from dashboard.views import acting, look
from dashboard.wording import TASK_WORDS

KEPT_SECONDS = 10
"""Seconds for which all sessions share the facts."""


@look.telling_trouble()
def render() -> None:
    """Render the page (``system``)."""
    acting.told()
    look.block('<div class="td-card"><h1>System</h1></div>')
    _live()
    if acting.may_see(Role.ADMIN):
        look.block(
            '<a href="record" target="_self">Record of access: who opened which case, who did '
            "what</a>"
        )
    if acting.may_act(Role.ADMIN):
        look.block(
            '<a href="first-run" target="_self">First run: folder, names, PACS, settings</a>'
        )
        acting.destination_form(tuple(each.name for each in look.settings().destinations))
    _checked(_doctor(), "Checks of tandem doctor", "Run the checks")
    _checked(_chain(), "Chain of events, as tandem ledger verify reads it", "Verify the ledger")


@st.fragment(run_every=look.REFRESH_SECONDS)
@look.telling_trouble()
def _live() -> None:
    if not look.live():
        return
    found = _facts(look.names_hidden())
    look.block(_lanes(found))
    look.block(_machine(found.machine))
    look.block(_destinations(found.places))
    look.block(_readers(found))
    look.block(_keeping(found))
    look.block(_log(found.log))


@st.cache_resource(ttl=KEPT_SECONDS, show_spinner=False)
def _facts(hidden: bool) -> System:
    return read_system(look.ledger(), look.settings_for(hidden))


@st.cache_resource(show_spinner=False)
def _doctor() -> Checks:
    return doctors_checks()


@st.cache_resource(show_spinner=False)
def _chain() -> Checks:
    return chain_check(look.settings())


def _checked(checks: Checks, title: str, button: str) -> None:
    """Show the last run of some checks, and a button that runs them."""
    if acting.may_act() and st.button(button):
        with st.spinner("Under way …"):
            ran = checks.run()
        if not ran:
            look.block('<div class="td-said" role="status">They run already.</div>')
    told = "Nobody ran them since this server started."
    if checks.at:
        told = f"Run at {look.moment(checks.at)}"
    hidden = look.names_hidden()  # a check's words may name a file
    rows = [
        (
            escape(line.what),
            look.pill("ok", "good") if line.ok else look.pill("wrong", "trouble"),
            HIDDEN if hidden else escape(line.text),
        )
        for line in checks.lines
    ]
    found = look.table(("Check", "State", "Found"), rows, "") if rows else ""
    look.block(
        f'<div class="td-card"><h2>{title}</h2><div class="muted small">{told}</div>{found}</div>'
    )


def _lanes(found: System) -> str:
    rows = [
        (
            escape(name),
            look.pill("held up", "trouble")
            if lane.trouble
            else look.pill("at work", "running")
            if lane.doing
            else look.pill("idle", "quiet"),
            escape(lane.trouble or lane.doing),
            look.ago(lane.since),
        )
        for name, lane in found.lanes.items()
    ]
    return (
        '<div class="td-card"><h2>Lanes</h2>'
        + look.table(("Lane", "State", "What", "For>"), rows, "The appliance does not run.")
        + "</div>"
    )


def _machine(machine: Machine) -> str:
    memory = "not told by the kernel"
    if machine.memory_size:
        memory = f"{machine.memory_free / 2**30:.1f} of {machine.memory_size / 2**30:.1f} GiB free"
    cores = f"load {machine.load:.1f} of the last minute, on {machine.cores} cores"
    if machine.busy is not None:
        cores = f"{100 * machine.busy:.0f} % busy; {cores}"
    disk = machine.disk
    if machine.disk_size:
        used = 1 - machine.disk_free / machine.disk_size
        disk = f"{100 * used:.0f} % of {machine.disk_size / 2**30:.0f} GiB used; {disk}"
    rows = [
        ("Processor", cores),
        ("Memory", memory),
        ("Disk of the state folder", escape(disk)),
        ("Networks run on", _device(machine.device)),
    ]
    return (
        '<div class="td-card td-facts"><h2>Machine</h2>'
        + look.table(("Part", "Now"), rows, "")
        + "</div>"
    )


def _device(device: DeviceSign | None) -> str:
    if device is None:
        return "not told yet: no network was used here"
    memory = ""
    if device.memory:
        used, size = device.used / 2**30, device.memory / 2**30
        memory = f", {used:.1f} of {size:.1f} GiB in use by all processes"
    return (
        f"{escape(device.name)}{memory}, by {escape(device.runtime)}; said when networks were last "
        f"asked, {look.ago(device.at)} ago"
    )


def _log(tail: LogTail) -> str:
    rows = [
        (
            f'<span class="nowrap muted">{escape(line.time)}</span>',
            escape(line.level),
            escape(line.name),
            escape(line.text),
        )
        for line in tail.lines
    ]
    return (
        '<div class="td-card"><h2>Log of the daemon</h2>'
        f'<div class="muted small">{escape(tail.said)} Only lines of Tandem\'s own parts at INFO '
        "and above are shown, without names of slide files.</div>"
        + (look.table(("Time (server)", "Level", "Part", "Text"), rows, "") if rows else "")
        + "</div>"
    )


def _destinations(places: tuple[Place, ...]) -> str:
    rows = []
    for place in places:
        outcome = (
            f"proven {look.ago(place.proven_at)} ago" if place.proven_at else "no proof lately"
        )
        if place.held is not None:
            outcome += f'<div class="small muted">{escape(place.held.error)}</div>'
        waiting = place.objects[DeliveryState.QUEUED] + place.objects[DeliveryState.SENT]
        rows.append(
            (
                escape(place.name),
                escape(place.kind),
                str(waiting),
                str(place.objects[DeliveryState.UNPROVEN]),
                str(place.objects[DeliveryState.REFUSED]),
                outcome,
            )
        )
    heads = ("Destination", "Kind", "Waiting>", "Not proven>", "Refused>", "Last outcome")
    return (
        '<div class="td-card"><h2>Destinations, in objects</h2>'
        + look.table(heads, rows, "")
        + "</div>"
    )


def _readers(found: System) -> str:
    rows = [
        (
            escape(reader.name),
            escape(TASK_WORDS.get(reader.name, "")),
            escape(", ".join(reader.assays)),
            str(reader.version),
            escape(reader.weights or "none"),
        )
        for reader in found.readers
    ]
    return (
        '<div class="td-card"><h2>Readers and weights in use</h2>'
        + look.table(
            ("Reader", "Reads", "Assays", "Version>", "Weights"),
            rows,
            "They cannot be told: run the checks.",
        )
        + "</div>"
    )


def _keeping(found: System) -> str:
    backup, kept = "none yet", look.settings().retention
    if found.backup is not None:
        # Each backup is checked when it is made (SQLite's integrity_check).
        sound = "sound" if found.backup.whole else "damaged"
        backup = (
            f"{found.backup.made}, checked then: {sound}; {found.backup.cases} cases, the chain's "
            f"head is <code>{escape(found.backup.head[:16])}</code>"
        )
    if found.backup_trouble:
        backup += f'<div class="small">{escape(found.backup_trouble)}</div>'
    alerts = "<br>".join(escape(line) for line in found.alerts)
    last = look.moment(found.retained_at) if found.retained_at else "not yet"
    retention = f"working data of finished cases stay {kept.keep_days:g} days; last run: {last}"
    if found.retention_trouble:
        retention += f'<div class="small">{escape(found.retention_trouble)}</div>'
    rows = [
        ("Last backup of the ledger", backup),
        ("Retention", retention),
        ("Alerts", alerts),
    ]
    return (
        '<div class="td-card td-facts"><h2>Ledger, disk and alerts</h2>'
        + look.table(("What", "State"), rows, "")
        + "</div>"
    )
