"""Settings of the dashboard: who signs in, and for how long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from appliance.settings.network import Url, WithSecret, is_loopback
from appliance.settings.section import Section

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def _check_name(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError("a name without https://, port or final dot, such as her2.lab.example")
    return value


HostName = Annotated[str, AfterValidator(_check_name)]
"""Name of a machine as browsers write it: without a scheme and a port."""
RoleName = Literal["viewer", "operator", "pathologist", "admin"]


class Oidc(WithSecret):
    """The hospital's own sign-in (OpenID Connect, authorization code flow) beside local users.

    Its people need no ``tandem users add``: a claim of the ID token names their groups, and `roles`
    says what each group may do.
    """

    issuer: Url
    """Address of the provider, as its ID tokens have it; its settings are read at
    ``/.well-known/openid-configuration`` below it."""
    client_id: Annotated[str, Field(min_length=1, max_length=256)]
    """Name under which the provider knows this dashboard. Its secret stands in `secret_file` or
    `secret_env`; without one the dashboard is a public client. PKCE is used either way."""
    roles: Mapping[Annotated[str, Field(min_length=1)], RoleName] = Field(min_length=1)
    """Role for each group; of several, the one that may do most counts. Who is in no such group is
    not let in."""
    roles_claim: Annotated[str, Field(min_length=1)] = "groups"
    """Claim of the ID token with the groups: a text or a list. Dots lead into objects, such as
    ``realm_access.roles``."""
    person_claim: str = ""
    """Claim with the person's name, as it stands beside actions and in reports. Empty:
    ``family_name^given_name``, and ``name`` where the token lacks one of them."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """Scopes that are asked for; ``openid`` is one of them."""
    title: Annotated[str, Field(min_length=1, max_length=64)] = "the hospital's account"
    """Words of the link on the page to sign in: "Sign in with …"."""

    @property
    def urls(self) -> tuple[str, ...]:
        """URLs that the secret is sent to."""
        return (self.issuer,)

    @model_validator(mode="after")
    def _client_is_whole(self) -> Self:
        if self.user is not None:
            raise ValueError("user: the provider knows the dashboard by client_id")
        plain = self.issuer.startswith("http:")
        if plain and not is_loopback(urlsplit(self.issuer).hostname or ""):
            raise ValueError("issuer: over http anybody on the way could vouch; use https")
        if "openid" not in self.scopes:
            raise ValueError('scopes: "openid" is needed for an ID token')
        return self


class Dashboard(Section):
    """Access to the dashboard; users are made by ``tandem users add``, or are the hospital's."""

    names: tuple[HostName, ...] = ()
    """Names under which people ask a proxy for the dashboard, such as ``her2.lab.example``; with
    one, people sign in. ``tandem dashboard --name`` adds to them."""
    login: Literal["beyond", "always"] = "beyond"
    """Rule for signing in: "beyond", where other machines reach the dashboard; "always", also where
    it listens on this machine alone."""
    idle_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 30.0
    """Time without a click, key or tile after which a session ends. Refreshes do not count."""
    longest_hours: Annotated[float, Field(gt=0, le=24 * 7)] = 12.0
    """Longest life of a session: a long shift."""
    mask: Literal["by-hand", "viewers", "always"] = "by-hand"
    """Screens that hide accessions, names of patients and files, and free text, for a wall that
    passers-by see: "by-hand", where somebody hides them in that browser; "viewers", also where a
    viewer is signed in; "always", all screens. Nothing can be done on a screen that hides them."""
    oidc: Oidc | None = None
    """The hospital's own sign-in. None: users of ``tandem users add`` alone."""
    open_metrics: bool = True
    """Whether ``/metrics`` answers without a session. The figures hold no patient data, and a
    Prometheus server cannot sign in."""
