"""Secrets: which files hold one, where the service manager puts them, and who may read them.

Shipped sections name files and environment variables, never a secret itself. A site's own
destinations may have fields that are secrets: pydantic's ``SecretStr``, or a name such as
``password``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from pydantic import BaseModel, SecretBytes, SecretStr

from appliance.errors import SettingsError
from appliance.settings.cluster import Cluster
from appliance.settings.network import Network, WithSecret
from appliance.settings.section import read_toml
from appliance.settings.settings import Settings
from appliance.settings.tls import OverTls

SIGN_IN = "dashboard's sign-in"
"""Words for `dashboard.oidc`, whose secret the dashboard alone needs."""
HIDDEN = "**********"
"""Words in place of a secret, as pydantic has them."""
_IS_SECRET = re.compile(r"(^|_)(secret|password|passphrase|token|api_?key)$")
"""Names of keys whose value is a secret; ``secret_file`` and ``secret_env`` are not."""
_OTHERS = 0o007
_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]+")


def credential_name(file: Path) -> str:
    """Return the name of the credential that systemd makes of a file (``LoadCredential=``)."""
    return _UNUSUAL.sub("-", str(file).strip("/"))


@overload
def handed_over(file: Path) -> Path: ...
@overload
def handed_over(file: None) -> None: ...
def handed_over(file: Path | None) -> Path | None:
    """Return where a file with a secret is read: its credential, if the service manager made one.

    systemd puts credentials into a folder of memory that only the service can read
    (``CREDENTIALS_DIRECTORY``), so that the file itself can be root's alone.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if file is None or not folder:
        return file
    credential = Path(folder) / credential_name(file)
    return credential if credential.is_file() else file


def key_file(section: OverTls | Cluster) -> Path | None:
    """Return the file of a private key: the key's own, else the certificate's, which holds it."""
    return section.key or section.certificate


def secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the files that hold secrets, each with the words that name its setting."""
    sections: dict[str, OverTls | Cluster] = {"cluster": settings.cluster}
    if settings.worklist is not None:
        sections["worklist"] = settings.worklist
    if settings.workitems is not None:
        sections["work list"] = settings.workitems
    if settings.audit is not None:
        sections["audit"] = settings.audit
    if settings.dashboard.oidc is not None:
        sections[SIGN_IN] = settings.dashboard.oidc
    for title, alert in (("mail", settings.alerts.mail), ("webhook", settings.alerts.webhook)):
        if alert is not None:
            sections[f"alerts by {title}"] = alert
    for each in settings.destinations:
        if isinstance(each, Network):
            sections[f"destination '{each.name}'"] = each
    for name, section in sections.items():
        if isinstance(section, WithSecret) and section.secret_file is not None:
            yield f"secret_file of the {name}", section.secret_file
    webhook = settings.alerts.webhook
    if webhook is not None and webhook.url_file is not None:
        yield "url_file of the alerts by webhook", webhook.url_file
    if settings.read_service is not None:
        yield "token_file of the read service", settings.read_service.token_file
    for name, section in sections.items():
        if (file := key_file(section)) is not None:
            yield f"private key of the {name}", file


def open_secrets(settings: Settings) -> Iterator[str]:
    """Yield a line for each file with a secret that every user of this machine can read."""
    for name, file in dict(secret_files(settings)).items():
        try:
            is_open = file.stat().st_mode & _OTHERS
        except OSError:  # it is missing, or only the service manager sees it
            continue
        if is_open:
            yield f"{name} = {file}: other users can read this secret. Run: chmod 600 {file}"


def check_settings_file(file: Path, settings: Settings) -> None:
    """Refuse a settings file that holds a secret and that every user of this machine can read.

    Raises
    ------
    SettingsError
        With the remedy.
    """
    if not file.stat().st_mode & _OTHERS:
        return
    secret = set(_secret_keys(settings))
    found = sorted(secret.intersection(_keys(read_toml(file))))
    if found:
        raise SettingsError(
            f"{file}: holds a secret ('{found[0]}') and can be read by other users. Run: "
            f"chmod 600 {file}"
        )


def printable(settings: Settings) -> dict[str, Any]:
    """Return the settings, ready for JSON, without what is secret."""
    shown: dict[str, Any] = _hidden(settings.model_dump(mode="json"))
    return shown


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if each and _IS_SECRET.search(str(key)) else _hidden(each)
            for key, each in value.items()
        }
    return [_hidden(each) for each in value] if isinstance(value, list) else value


def _secret_keys(value: object, key: str = "") -> Iterator[str]:
    """Yield the names of the fields that hold a secret."""
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secret_keys(getattr(value, name), name)
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _secret_keys(each, key)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _secret_keys(each, str(name))
    elif isinstance(value, (SecretStr, SecretBytes)) or (value and _IS_SECRET.search(key)):
        yield key


def _keys(value: object) -> Iterator[str]:
    """Yield all keys of a TOML document, at any depth."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _keys(each)
    elif isinstance(value, list):
        for each in value:
            yield from _keys(each)
