"""Provider of the hospital's sign-in (OpenID Connect): its settings, asked for and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from appliance.delivery.destinations.network import web_address
from appliance.errors import SettingsError
from appliance.settings.dashboard import Oidc
from appliance.settings.network import is_loopback
from dicom.errors import PacsUnavailableError

ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")
"""Addresses that a sign-in needs (OpenID Connect Discovery 1.0, 3)."""
_DISCOVERY = ".well-known/openid-configuration"
_JSON = {"Accept": "application/json"}


def check_provider(oidc: Oidc) -> str:
    """Return that the provider answers, with all that a sign-in needs.

    Our secret is not read: the dashboard's service alone has it. Whether the provider takes it, the
    first sign-in tells.

    Raises
    ------
    SettingsError
        If not, with the remedy.
    """
    metadata = read_provider(oidc)
    places = {name: endpoint_of(oidc, metadata, name) for name in ENDPOINTS}
    keys = ask_json(oidc, "GET", places["jwks_uri"]).get("keys")
    if not isinstance(keys, list) or not keys:
        raise SettingsError(f"{oidc.issuer} has no key that its ID tokens could be checked with.")
    return f"{oidc.issuer} answers, with {len(keys)} keys"


def read_provider(oidc: Oidc) -> dict[str, Any]:
    """Return the provider's settings (OpenID Connect Discovery 1.0, 4).

    Raises
    ------
    SettingsError
        If it does not answer, or is another one than the issuer of the settings.
    """
    found = ask_json(oidc, "GET", f"{oidc.issuer.rstrip('/')}/{_DISCOVERY}")
    if found.get("issuer") != oidc.issuer:
        raise SettingsError(
            f"[dashboard.oidc] issuer: {oidc.issuer} calls itself another name. Write "
            "it as the provider does, with or without '/' at the end."
        )
    return found


def endpoint_of(oidc: Oidc, metadata: Mapping[str, Any], name: str) -> str:
    """Return an address of the provider's settings; it must be of https, or on this machine.

    Raises
    ------
    SettingsError
        If it is not.
    """
    place = metadata.get(name)
    if isinstance(place, str):
        parts = urlsplit(place)
        if parts.scheme == "https" or is_loopback(parts.hostname or ""):
            return place
    raise SettingsError(f"{oidc.issuer} names no {name} with https.")


def ask_json(
    oidc: Oidc, method: str, place: str, *, headers: Mapping[str, str] | None = None, **options: Any
) -> dict[str, Any]:
    """Return the JSON object of an answer. No secret is sent but what `options` hold.

    Raises
    ------
    SettingsError
        If there is no answer, or one with an error.
    """
    base = urlsplit(place)._replace(path="", query="", fragment="").geturl()
    # The secret stands in one request alone, in its own form.
    address = replace(web_address(oidc, base), secret=None)
    try:
        answer = address.call(
            method,
            place.removeprefix(base).lstrip("/"),
            headers=_JSON | dict(headers or {}),
            **options,
        )
    except PacsUnavailableError as err:
        raise SettingsError(f"The provider cannot be asked: {err}") from err
    found = answer.json()
    if not isinstance(found, dict) or answer.status >= 400:
        code = str(found.get("error", "")) if isinstance(found, dict) else ""
        shown = code if code.isascii() and code.isprintable() else ""
        raise SettingsError(
            f"{base} answered {answer.status} {shown[:64]}".rstrip() + ". Try again."
        )
    return found
