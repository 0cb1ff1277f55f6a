"""``tandem doctor``: checks of everything that a case needs, one line each, with the remedy."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from appliance.artifacts import nearest_there
from appliance.assays.registry import assays, check_assays, tasks, with_own_weights
from appliance.delivery.destinations.contract import KindCheck, open_destination
from appliance.delivery.destinations.network import tls_files, web_address
from appliance.delivery.order_csv import read_csv
from appliance.delivery.order_files import OrdersRead
from appliance.delivery.order_hl7 import read_hl7
from appliance.delivery.orders import check_order_files, check_worklist
from appliance.errors import LedgerError, SettingsError, TandemError, WorklistUnavailableError
from appliance.ledger import overview
from appliance.ledger.backups import newest_good
from appliance.ledger.daily import backup_trouble
from appliance.ledger.heartbeat import life
from appliance.ledger.reader import LedgerReader
from appliance.ledger.tables import CaseRow
from appliance.operations.cluster_check import check_cluster
from appliance.operations.disk import forecast, retention_trouble
from appliance.operations.scanner_folders import check_folders
from appliance.operations.sign_in_provider import check_provider
from appliance.operations.site_calibration import threshold_trouble
from appliance.operations.start_checks import checked_weights, folder_problems, word_problems
from appliance.readers.chosen_weights import chosen_weights
from appliance.readers.reader import OwnWeights
from appliance.readers.site_calibrations import calibration_words
from appliance.settings.audit import Audit
from appliance.settings.destinations import DestinationSection
from appliance.settings.orders import Orders
from appliance.settings.owner import other_user
from appliance.settings.secrets import open_secrets
from appliance.settings.settings import Settings
from appliance.settings.settings_file import find_settings_file, load_settings
from appliance.settings.workitems import WorkItems
from dicom.audit import AuditServer
from dicom.errors import DicomError
from dicom.ups import find_work
from models.errors import ModelError
from models.spec import Task

NVIDIA_SECONDS = 30.0
"""Longest time for nvidia-smi to answer; with a GPU that hangs it never does."""


@dataclass(frozen=True, slots=True)
class Examined:
    """Result of one check: one line of ``tandem doctor``."""

    what: str
    ok: bool
    text: str


def examine(config: Path | None) -> list[Examined]:
    """Run all checks; a failed check does not hide the others."""
    try:
        settings = load_settings(config)
        source = find_settings_file(config) or "defaults (no settings file)"
    except TandemError as err:
        return [Examined("settings", False, str(err))]
    return [Examined("settings", True, str(source)), *_checks(settings)]


def examine_destination(settings: Settings, name: str) -> list[KindCheck]:
    """Return the kinds of objects that a destination takes, before the first case needs it.

    Raises
    ------
    TandemError
        If there is no destination of this name, or it cannot be queried.
    """
    with closing(open_destination(settings, find_destination(settings, name))) as destination:
        return destination.kinds()


def find_destination(settings: Settings, name: str) -> DestinationSection:
    """Return the section of a destination.

    Raises
    ------
    SettingsError
        If there is none of this name.
    """
    for section in settings.destinations:
        if section.name == name:
            return section
    known = ", ".join(section.name for section in settings.destinations)
    raise SettingsError(f"no destination '{name}' in the settings; there are: {known}")


def _checks(settings: Settings) -> Iterator[Examined]:
    if user := other_user(settings):
        warning = (
            f"warning: these checks ran as root, and the state folder is {user}'s: whether {user} "
            f"may read and write is not known. Run: sudo -u {user} tandem doctor"
        )
        yield Examined("user", True, warning)
    yield _try("scanner's folder", partial(check_folders, settings))
    problems = folder_problems(settings)
    for problem in problems:
        yield Examined("folders", False, problem)
    if not problems:
        yield _try("state folder", lambda: _writable(settings.state_dir, settings.low_disk_gib))
        if settings.state_dir.is_dir():
            yield _try("disk", lambda: forecast(settings).sentence)
            yield _try("rights", partial(_rights, settings))
            if trouble := retention_trouble(settings):
                yield Examined("retention", False, trouble)
    yield _try("ledger", partial(_ledger, settings))
    daemon = _try("daemon", partial(_daemon, settings))
    if daemon.text:
        yield daemon
    yield _try("assays", partial(_assays, settings))
    for assay in assays():
        if assay.has_guideline:
            yield _try("guideline", partial(assay.check, settings))
    for task in _tasks():
        yield _try(f"weights for {task}", partial(_weights, task, settings))
    for name, reader in _own_readers().items():
        yield _try(f"weights for {name}", partial(_own_weights, reader, settings))
    yield _try("device", lambda: _device(settings))
    yield _try("libturbojpeg", _turbojpeg)
    if settings.cluster.scheduler:
        yield _try("cluster", partial(check_cluster, settings.cluster))
    if settings.dashboard.oidc is not None:
        yield _try("dashboard.oidc", partial(check_provider, settings.dashboard.oidc))
    if settings.worklist is not None:
        yield _try("worklist", partial(check_worklist, settings.worklist))
    orders = settings.orders
    if orders.hl7 is not None:
        yield _try("orders.hl7", partial(_orders, read_hl7, orders.hl7, orders))
    if orders.csv is not None:
        yield _try("orders.csv", partial(_orders, read_csv, orders.csv, orders))
    if settings.workitems is not None:
        yield _try("workitems", partial(_work_items, settings.workitems))
    if settings.alerts.mail is not None or settings.alerts.webhook is not None:
        test = "set, not asked here: tandem alerts --test sends a test by each channel"
        yield Examined("alerts", True, test)
    if settings.audit is not None:
        yield _try("audit", partial(_audit, settings.audit))
    yield Examined("patients", True, _patients(settings))
    for section in settings.destinations:
        yield _try(f"destination {section.name}", partial(check_destination, settings, section))


def _try(what: str, check: Callable[[], str]) -> Examined:
    try:
        return Examined(what, True, check())
    except (TandemError, ModelError, DicomError, OSError, ValueError) as err:
        return Examined(what, False, str(err))


def _orders(read: Callable[[Path, Orders], OrdersRead], path: Path, settings: Orders) -> str:
    try:
        return check_order_files(read(path, settings))
    except OSError as err:
        raise WorklistUnavailableError(
            f"{path} cannot be read ({err.strerror}): mount or create it, or correct the setting."
        ) from err


def _work_items(wanted: WorkItems) -> str:
    """Return that the server of work items answers; none is claimed."""
    found = find_work(web_address(wanted, wanted.url))
    return f"{wanted.url} answers; scheduled work items: {len(found)}"


def _audit(audit: Audit) -> str:
    """Return that the audit repository takes a connection over TLS; no message is sent."""
    server = AuditServer(audit.host, audit.port, tls_files(audit), audit.timeout_seconds)
    with closing(server):
        server.connect()
    return f"{audit.host}:{audit.port} takes a connection over TLS"


def check_destination(settings: Settings, section: DestinationSection) -> str:
    """Ask a destination whether it answers; return what it said.

    Raises
    ------
    TandemError
        If something about it is wrong.
    """
    with closing(open_destination(settings, section)) as destination:
        return destination.check()


def _writable(folder: Path, least_gib: float) -> str:
    """Return that a folder, or the nearest one above it, can be written and has room.

    Nothing is made: what root makes the service could not use.
    """
    there = nearest_there(folder)
    if there == folder:  # such as artifacts/ or backups/ on another disk
        for inner in (*folder.iterdir(), *folder.glob("artifacts/*")):
            nearest_there(inner)
    with tempfile.TemporaryFile(dir=there):
        pass
    free_gib = shutil.disk_usage(there).free / 2**30
    if free_gib < least_gib:
        raise OSError(f"only {free_gib:.1f} GiB free in {folder}: make room or move state_dir.")
    return f"{folder} (write)" if there == folder else f"{folder}: none yet, tandem run makes it"


def _rights(settings: Settings) -> str:
    """Return that only Tandem's user gets into the state folder, and to the secrets."""
    folder = settings.state_dir
    troubles = list(open_secrets(settings))
    if folder.stat().st_mode & 0o077:
        troubles.append(
            f"{folder}: other users can get to results, which name patients. Run: "
            f"chmod -R go= {folder}"
        )
    if troubles:
        raise OSError(" ".join(troubles))
    return f"only its owner can enter {folder}"


def _ledger(settings: Settings) -> str:
    with closing(LedgerReader(settings.ledger_url)) as reader:
        if not reader.ready:
            return "none yet: tandem run makes it"
        with reader.reading() as tx:
            cases = sum(overview.numbers(tx, CaseRow).values())
    if trouble := backup_trouble(settings, time.time()):
        raise LedgerError(trouble)
    backup = newest_good(settings.ledger_file)
    made = "no backup yet" if backup is None else f"last backup {backup.made}"
    return f"{cases} cases, {made}"


def _daemon(settings: Settings) -> str:
    """Return that the daemon lives; empty where none has run yet."""
    found = life(settings)
    if found.told and (not found.alive or found.trouble):
        raise TandemError(found.sentence)
    return found.sentence if found.told else ""


def _assays(settings: Settings) -> str:
    check_assays(settings)
    if problems := list(word_problems(settings)):
        raise SettingsError(" ".join(problems))
    return ", ".join(
        f"{assay.name} ({assay.anatomy.label} and {assay.target.label})" for assay in assays()
    )


def _tasks() -> tuple[Task, ...]:
    """Tasks of the installed networks; none where a reader is missing, which "assays" tells."""
    try:
        return tasks()
    except SettingsError:
        return ()


def _weights(task: Task, settings: Settings) -> str:
    _, spec = chosen_weights(task, settings)
    known = f"{spec.name} {spec.version}, sha256 {spec.sha256[:12]}… fits"
    trouble = "" if spec.site is None else threshold_trouble(task, settings)
    warning = f". Warning: {trouble}" if trouble else ""
    return f"{known}; {calibration_words(spec, settings)}{warning}"


def _own_readers() -> dict[str, OwnWeights]:
    """Readers with weights of no task; none where an assay names an unknown reader, see
    `_assays`."""
    try:
        return with_own_weights()
    except SettingsError:
        return {}


def _own_weights(reader: OwnWeights, settings: Settings) -> str:
    fingerprint = checked_weights(reader, settings)
    return f"fingerprint {fingerprint[:12]}…, fits" if fingerprint else "none: it says nothing"


def _device(settings: Settings) -> str:
    if settings.models.device == "cpu":
        return "CPU, as set"
    tool = shutil.which("nvidia-smi")
    if tool is None:
        if settings.models.device == "cuda":
            raise OSError("models.device = 'cuda', but no NVIDIA driver is installed.")
        return "no GPU found: CPU is used"
    command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        found = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=NVIDIA_SECONDS
        )
    except subprocess.TimeoutExpired as err:
        raise OSError(
            f"nvidia-smi does not answer within {NVIDIA_SECONDS:.0f} s: a GPU that hangs needs a "
            "restart of the machine."
        ) from err
    if found.returncode != 0:
        raise OSError(f"nvidia-smi failed: {found.stderr.strip() or found.stdout.strip()}")
    return found.stdout.strip()


def _patients(settings: Settings) -> str:
    """Return what happens to a slide whose patient neither its header nor an order names."""
    return {
        "none": (
            "warning: objects of slides whose patient nobody names carry no Patient ID, and an "
            "archive may take all of them for one patient. Set identify.without_patient to "
            "'stand-in' or 'hold'."
        ),
        "stand-in": "objects of slides whose patient nobody names carry a stand-in Patient ID",
        "hold": "slides whose patient nobody names are set aside until an order names it",
    }[settings.identify.without_patient]


def _turbojpeg() -> str:
    if ctypes.util.find_library("turbojpeg") is None:
        return "not installed: NDPI and Philips are compressed again (apt install libturbojpeg0)"
    return "installed: JPEG tiles of NDPI and Philips pass through untouched, too"
