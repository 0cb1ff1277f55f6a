"""The hospital's own sign-in: OpenID Connect Core 1.0, authorization code flow with PKCE.

Streamlit's `st.login` is not used. A page must run before it can ask, which the guard lets nobody
do without a session; and it keeps who came in a cookie of 30 days, beside our sessions.

The server keeps nothing of a sign-in under way. The browser's cookie holds a random state; nonce
and PKCE verifier are made from it with a key of this process, so nobody else can make them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus, urlencode

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from appliance.delivery.destinations.network import secret_of
from appliance.errors import SettingsError
from appliance.operations.sign_in_provider import ask_json, endpoint_of, read_provider
from appliance.operations.users import Role
from appliance.settings.dashboard import Oidc
from appliance.text import is_text
from dashboard.access import Vouched
from dicom.errors import PacsUnavailableError

KNOWN_SECONDS = 600.0
"""Time for which the provider's own settings are not asked for again."""
LEEWAY_S = 60
"""Difference of both clocks that is let pass."""
MOST_PERSON = 64
"""Characters of a person's name (PN, PS3.5 6.2)."""
SIGNED_BY = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Algorithms of ID tokens: signatures by a key that the provider alone has. The client's secret as
the key (HS256), or none at all, is refused."""


class NotVouchedError(Exception):
    """Error where nobody is vouched for; the message says why, for people."""


class Provider:
    """The provider of the settings; several threads use it."""

    def __init__(self, oidc: Oidc, clock: Callable[[], float] = time.monotonic) -> None:
        self._oidc, self._clock = oidc, clock
        self._key = secrets.token_bytes(32)
        self._known: tuple[float, dict[str, Any]] | None = None

    def begin(self, back: str) -> tuple[str, str]:
        """Return the address at which a person signs in, and the state for the browser's cookie.

        `back` is the address of this server to which the provider sends the browser.

        Raises
        ------
        NotVouchedError
            If the provider does not answer, or not as one.
        """
        state = secrets.token_urlsafe(32)
        challenge = hashlib.sha256(self._made("verifier", state).encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": back,
            "scope": " ".join(self._oidc.scopes),
            "state": state,
            "nonce": self._made("nonce", state),
            "code_challenge": _base64url(challenge),
            "code_challenge_method": "S256",
        }
        place = self._endpoint("authorization_endpoint")
        return f"{place}{'&' if '?' in place else '?'}{urlencode(asked)}", state

    def finish(self, state: str, code: str, back: str) -> Vouched:
        """Return for whom the provider vouches by a code, which it takes once.

        Raises
        ------
        NotVouchedError
            If it does not, or the ID token is not what it must be.
        """
        token = self._asked_for_token(state, code, back)
        try:
            keys = KeySet.import_key_set(self._json("GET", self._endpoint("jwks_uri")))
            claims = jwt.decode(token, keys, algorithms=SIGNED_BY).claims
            wanted = jwt.JWTClaimsRegistry(
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self._oidc.issuer},
                aud={"essential": True, "value": self._oidc.client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": self._made("nonce", state)},
            )
            wanted.validate(claims)
        except (JoseError, ValueError, KeyError, TypeError) as err:
            # The words of libraries may quote the token.
            raise NotVouchedError(
                f"The ID token of {self._oidc.issuer} is refused ({type(err).__name__}). Are "
                "issuer and client_id right, and the clocks?"
            ) from err
        if claims.get("azp", self._oidc.client_id) != self._oidc.client_id:
            raise NotVouchedError("The ID token was made for another program (azp).")
        return self._person(claims)

    def _asked_for_token(self, state: str, code: str, back: str) -> str:
        """Return the ID token that the provider gives for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "code_verifier": self._made("verifier", state),
        }
        place = self._endpoint("token_endpoint")
        ways = self._metadata().get("token_endpoint_auth_methods_supported")
        named, secret = self._oidc.client_id, secret_of(self._oidc)
        headers: dict[str, str] = {}
        if secret is None:
            form["client_id"] = named
        elif isinstance(ways, list) and "client_secret_post" in ways:
            form |= {"client_id": named, "client_secret": _read(secret.read)}
        else:  # RFC 6749, 2.3.1: both are encoded as in a form
            told = f"{quote_plus(named)}:{quote_plus(_read(secret.read))}"
            headers["Authorization"] = f"Basic {b64encode(told.encode()).decode()}"
        token = self._json("POST", place, headers=headers, data=form).get("id_token")
        if not isinstance(token, str):
            raise NotVouchedError(f"{self._oidc.issuer} gave no ID token. Try again.")
        return token

    def _person(self, claims: Mapping[str, Any]) -> Vouched:
        """Return the person that claims name, with the role of the groups that they name."""
        account = str(claims["sub"])
        family, given = _text(claims, "family_name"), _text(claims, "given_name")
        if self._oidc.person_claim:
            person = _text(claims, self._oidc.person_claim)
        else:
            person = f"{family}^{given}" if family and given else _text(claims, "name")
        if not person or len(person) > MOST_PERSON:
            raise NotVouchedError(
                f"The ID token names no person of at most {MOST_PERSON} readable characters: set "
                "[dashboard.oidc] person_claim, or the provider's claims."
            )
        roles = [
            Role(self._oidc.roles[group])
            for group in _groups(claims, self._oidc.roles_claim)
            if group in self._oidc.roles
        ]
        known = _text(claims, "preferred_username") or account
        return Vouched(
            account=account[:256],
            name=known[:256],
            person=person,
            role=max(roles, key=list(Role).index, default=None),
        )

    def _made(self, what: str, state: str) -> str:
        """Return a text that nobody can make from a state without the key of this process."""
        return _base64url(hmac.digest(self._key, f"{what} {state}".encode(), "sha256"))

    def _metadata(self) -> dict[str, Any]:
        """Return the provider's settings (OpenID Connect Discovery 1.0, 4)."""
        now = self._clock()
        if self._known is not None and now - self._known[0] < KNOWN_SECONDS:
            return self._known[1]
        with _vouching():
            found = read_provider(self._oidc)
        self._known = (now, found)
        return found

    def _endpoint(self, name: str) -> str:
        with _vouching():
            return endpoint_of(self._oidc, self._metadata(), name)

    def _json(self, method: str, place: str, **options: Any) -> Any:
        with _vouching():
            return ask_json(self._oidc, method, place, **options)


@contextmanager
def _vouching() -> Iterator[None]:
    """Turn what is wrong with the provider into an error of the one who signs in."""
    try:
        yield
    except SettingsError as err:
        raise NotVouchedError(str(err)) from err


def _read(secret: Callable[[], str]) -> str:
    try:
        return secret()
    except PacsUnavailableError as err:
        raise NotVouchedError(f"[dashboard.oidc]: {err}") from err


def _text(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim that is a readable text, without what stands around it; else nothing."""
    found = claims.get(name)
    plain = isinstance(found, str) and found.isprintable() and is_text(found)
    return str(found).strip() if plain else ""


def _groups(claims: Mapping[str, Any], name: str) -> list[str]:
    """Return the groups of a claim; one of the whole name goes before a path of objects."""
    found: Any = claims
    for part in (name,) if name in claims else name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return [found]
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
