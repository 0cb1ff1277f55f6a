"""systemd units of a site: those that ship, and a drop-in for each with the site's own paths.

The units are hardened and know no site: the whole file system is read-only to them. The drop-in
``NAME.service.d/site.conf`` opens the folders that the settings name, hands secrets over as
credentials (``LoadCredential=``), and names the command and the settings file of this installation.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from appliance.errors import SettingsError
from appliance.operations.start_checks import is_inside
from appliance.settings.destinations import FolderDestination, Hl7Destination
from appliance.settings.secrets import SIGN_IN, credential_name, key_file, secret_files
from appliance.settings.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
GPU_DROP_IN = "gpu.conf"
WORKER = "tandem-worker"
LINK = Path("/usr/local/bin/tandem")
_PLAIN = re.compile(r"[\w./+@,=-]+")
"""Paths that need no quotes: no blank, quote, ``:``, ``;`` or specifier is in them."""
_TABLE = "orders.csv"
_NO_PROGRAM = re.compile(r"""["'\\]""")
_NVIDIA = Path("/dev/nvidiactl")
_STATE = Path("/var/lib/tandem")
"""State folder of the units as they ship (``StateDirectory=tandem``)."""
_HIDDEN = tuple(Path(each) for each in ("/home", "/root", "/run/user"))
"""Folders that ``ProtectHome=`` hides."""
_PRIVATE = tuple(Path(each) for each in ("/tmp", "/var/tmp"))  # noqa: S108  refused
"""Folders of which each service has its own (``PrivateTmp=``)."""


def unit_names(settings: Settings) -> tuple[str, ...]:
    """Return the units of a site: those of a cluster only where the settings name one."""
    if settings.cluster.scheduler:
        return ("tandem", "tandem-dashboard", "tandem-scheduler", WORKER)
    return ("tandem", "tandem-dashboard")


def unit_files(settings: Settings, config: Path, command: Path) -> dict[str, str]:
    """Return the text of each file below ``/etc/systemd/system``, by its path there.

    `config` is the settings file, `command` the installed program ``tandem``; both absolute.

    Raises
    ------
    SettingsError
        If a path of the settings is relative, lies in a folder for temporary files or has control
        characters, or two secrets would have the same name.
    """
    _check(settings, config, command)
    shipped, files = _shipped(), {}
    for name in unit_names(settings):
        unit = f"{name}.service"
        files[unit] = (shipped / unit).read_text()
        files[f"{unit}.d/site.conf"] = _drop_in(name, settings, config, command)
        if name in ("tandem", "tandem-worker") and _has_gpu(settings):
            files[f"{unit}.d/{GPU_DROP_IN}"] = (shipped / GPU_DROP_IN).read_text()
    return files


def commands(settings: Settings, config: Path, units: Path) -> list[str]:
    """Return what an administrator runs as root: user, rights, folders, units, start.

    The unit of the worker is not started: see `worker_commands`.
    """
    owned = [_quoted(folder) for _, folder, away in _written(settings) if not away]
    started = [name for name in unit_names(settings) if name != WORKER]
    return [
        _user(settings),
        _closed(config),
        f"install -d -m 700 -o tandem -g tandem {' '.join(owned)}",
        f"cp -r {_quoted(units)}/. /etc/systemd/system/",
        "systemctl daemon-reload",
        f"systemctl enable --now {' '.join(started)}",
    ]


def link_commands(program: Path) -> list[str]:
    """Return what lets ``sudo -u tandem tandem`` find the program: a name in the path of sudo."""
    if program == LINK:
        return []
    return [f"ln -sf {_quoted(program)} {LINK}"]


def worker_commands(settings: Settings, config: Path, units: Path) -> list[str]:
    """Return what is run as root on each worker of a cluster; nothing without one.

    A second daemon would write the same ledger: file locks of NFS and of the daemon's machine do
    not see each other. The state folder there is a mount, whose owner the user must be.
    """
    if not settings.cluster.scheduler:
        return []
    unit = _quoted(units / f"{WORKER}.service")
    owner = f'--uid "$(stat -c %u {_quoted(settings.state_dir)})" '
    return [
        _user(settings, owner),
        _closed(config),
        f"cp -r {unit} {unit}.d /etc/systemd/system/",
        "systemctl daemon-reload",
        f"systemctl enable --now {WORKER}",
    ]


def _user(settings: Settings, number: str = "") -> str:
    return (
        f"id tandem >/dev/null 2>&1 || useradd --system --user-group {number}--no-create-home "
        f"--home-dir {_quoted(settings.state_dir)} --shell /usr/sbin/nologin tandem"
    )


def _closed(config: Path) -> str:
    return f"chown root:tandem {_quoted(config)} && chmod 640 {_quoted(config)}"


def _shipped() -> Path:
    """Folder of the units that ship: in the source tree, or where the wheel put them."""
    for folder in (ROOT / "systemd", Path(sysconfig.get_path("data")) / "share/tandem/systemd"):
        if (folder / "tandem.service").is_file():
            return folder
    raise SettingsError("the systemd units of this installation are missing: install Tandem again.")


def _drop_in(name: str, settings: Settings, config: Path, command: Path) -> str:
    verb = {"tandem": "run"}.get(name, name.removeprefix("tandem-"))
    # A "$" of the program stays: variables are looked for in its arguments alone.
    start = f"{_word(command)} {verb} --config {_word(config).replace('$', '$$')}"
    lines = [
        f"# Written by `tandem init --systemd` for {_word(config)}. Run it again when folders or",
        "# secrets in the settings change; do not edit it.",
    ]
    writes = list(_written(settings))
    if name in ("tandem-dashboard", "tandem-worker"):
        writes = writes[:1]
    if name == "tandem-scheduler":
        writes = []
    if writes:
        lines += ["[Unit]", f"RequiresMountsFor={_word(settings.state_dir)}"]
    lines += ["[Service]", "ExecStart=", f"ExecStart={start}"]
    opened = [_word(path, away) for _, path, away in writes]
    if settings.state_dir != _STATE:
        lines += ["StateDirectory=", "ReadWritePaths="]
    else:
        opened = opened[1:]
    lines += [f"ReadWritePaths={path}" for path in dict.fromkeys(opened)]
    reads = list(_read(settings)) if name in ("tandem", "tandem-worker") else []
    if name == "tandem-dashboard":  # it shows the slides
        reads = [("watch.folder", root) for root in settings.watch.roots]
        reads += _tls_files(settings.dashboard.oidc)
    program = [ROOT, command.parent.parent, Path(sys.prefix), Path(sys.base_prefix), config]
    seen = [each for name, path in reads for each in _seen(name, path)]
    lines += _homes([path for _, path, _ in writes], [*program, *seen])
    lines += [
        # The path ends the line as it is: quotes would be part of it.
        "LoadCredential=" + f"{credential_name(file)}:{file}".replace("%", "%%")
        for file in _secrets_of(name, settings)
    ]
    return "\n".join(lines) + "\n"


def _secrets_of(name: str, settings: Settings) -> list[Path]:
    """Files of the secrets that a service needs, each once."""
    cluster = key_file(settings.cluster)
    worklist = None if settings.worklist is None else key_file(settings.worklist)
    oidc = settings.dashboard.oidc
    sign_in = () if oidc is None else (oidc.secret_file, key_file(oidc))
    needed: Mapping[str, Iterable[Path | None]] = {
        "tandem": (file for words, file in secret_files(settings) if SIGN_IN not in words),
        "tandem-scheduler": (cluster,),
        "tandem-worker": (cluster, worklist),  # a worker asks for orders
        "tandem-dashboard": sign_in,
    }
    return list(dict.fromkeys(file for file in needed.get(name, ()) if file is not None))


def _seen(name: str, path: Path) -> set[Path]:
    """Paths that show a folder or file to a service, whose setting is `name`."""
    if name != _TABLE:
        return {path}
    # A table is replaced by renaming another: a mount of the file would stay at the former one.
    return {path.parent, Path(os.path.realpath(path)).parent}


def _homes(writes: Iterable[Path], reads: Iterable[Path]) -> Iterator[str]:
    """Yield the lines that show what a service needs of home folders, which are hidden from it."""
    binds = []
    # Of two lines for one folder systemd takes the stricter: what is written is named once.
    for key, paths in (("BindPaths", writes), ("BindReadOnlyPaths", {*reads} - {*writes})):
        hidden = sorted({path for path in paths if _lies_in(path, _HIDDEN)})
        binds += [f"{key}={_word(path, away=True)}" for path in hidden]
    if binds:
        yield "ProtectHome=tmpfs"
        yield from binds


def _written(settings: Settings) -> Iterator[tuple[str, Path, bool]]:
    """Folders that the daemon writes to: the setting, the path, and whether it may be away."""
    yield "state_dir", settings.state_dir, False
    for each in settings.destinations:
        if isinstance(each, FolderDestination) and each.folder is not None:
            yield f"folder of the destination '{each.name}'", each.folder, True
    if settings.workitems is not None:
        yield "workitems.folder", settings.workitems.folder, True


def _read(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Folders and files that daemon and worker read; not secrets, which are handed over."""
    for root in settings.watch.roots:
        yield "watch.folder", root
    for name in ("csv", "hl7"):
        if (path := getattr(settings.orders, name)) is not None:
            yield f"orders.{name}", path
    for name, value in settings.models:
        if isinstance(value, Path):
            yield f"models.{name}", value
    for each in settings.destinations:
        if isinstance(each, Hl7Destination) and each.template is not None:
            yield f"template of the destination '{each.name}'", each.template
    sections = [
        *(settings.worklist, settings.workitems, settings.cluster),
        *(settings.alerts.mail, settings.alerts.webhook, settings.audit),
        *settings.destinations,
    ]
    for section in sections:
        yield from _tls_files(section)


def _tls_files(section: object) -> Iterator[tuple[str, Path]]:
    """Yield the certificates that a section of the settings names."""
    for name in ("ca_file", "certificate"):
        if (path := getattr(section, name, None)) is not None:
            yield name, path


def _check(settings: Settings, config: Path, command: Path) -> None:
    named = [(name, path) for name, path, _ in _written(settings)]
    named += [*_read(settings), *_tls_files(settings.dashboard.oidc), *secret_files(settings)]
    problems = [
        f"{name} = {str(path)!r}: a unit file cannot name this path."
        for name, path in (*named, ("the settings file", config), ("the program", command))
        if not str(path).isprintable()
    ]
    if _NO_PROGRAM.search(str(command)):
        problems.append(
            f"the program = {command}: systemd runs none whose path has a quote or backslash. "
            "Install Tandem in another folder."
        )
    for name, path in named:
        if not path.is_absolute():
            problems.append(f"{name} = {path}: a service needs an absolute path, such as /data/x.")
        elif _lies_in(path, _PRIVATE):
            problems.append(
                f"{name} = {path}: a service has a folder for temporary files of its own, and does "
                "not see this one. Name a folder elsewhere."
            )
        elif name == _TABLE and any(map(_is_home, _seen(name, path))):
            problems.append(
                f"{name} = {path}: a service is shown the whole folder of this table, and this "
                "folder is shown to none. Name a table in a folder of its own."
            )
    names: dict[str, Path] = {}
    for _, file in secret_files(settings):
        other = names.setdefault(credential_name(file), file)
        if other != file:
            problems.append(f"{file} and {other}: rename one; as credentials they have one name.")
    if problems:
        raise SettingsError("\n".join(problems))


def _lies_in(path: Path, folders: Iterable[Path]) -> bool:
    return any(folder.exists() and is_inside(path, folder) for folder in folders)


def _is_home(path: Path) -> bool:
    return _lies_in(path, _HIDDEN) and any(is_inside(folder, path) for folder in _HIDDEN)


def _has_gpu(settings: Settings) -> bool:
    device = settings.models.device
    return device == "cuda" or (device == "auto" and _NVIDIA.exists())


def _word(path: Path, away: bool = False) -> str:
    """Return a path as a word of a unit file (systemd.syntax(7)); "-": it may be missing."""
    text = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    mark = "-" if away else ""
    return f"{mark}{text}" if _PLAIN.fullmatch(text) else f'"{mark}{text}"'


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
