"""The hospital's own sign-in, against a provider on loopback that signs real tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from fixtures.oidc import CLIENT, CLIENT_SECRET, OidcProvider, oidc_provider
from joserfc.jwk import ECKey, OctKey
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from appliance.ledger.tables import EventRow
from appliance.operations.service_units import _secrets_of
from appliance.operations.users import Role, Users
from appliance.settings.dashboard import Dashboard, Oidc
from appliance.settings.secrets import secret_files
from appliance.settings.settings import Settings
from dashboard.access import Access, token_of
from dashboard.guard import Guard
from dashboard.sessions import FREE_TRIES
from dashboard.sign_in import access_routes
from dashboard.zoom.routes import zoom_routes

if TYPE_CHECKING:
    from conftest import Lab

HTML = {"accept": "text/html"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Iterator[OidcProvider]:
    with oidc_provider() as made:
        yield made


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "oidc-secret"
    file.write_text(CLIENT_SECRET + "\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def settings(lab: Lab, provider: OidcProvider, secret: Path) -> Settings:
    oidc = Oidc(
        issuer=provider.issuer,
        client_id=CLIENT,
        secret_file=secret,
        roles={"her2-pathologists": "pathologist", "staff": "viewer", "her2-it": "admin"},
    )
    return lab.settings.model_copy(update={"dashboard": Dashboard(login="always", oidc=oidc)})


async def page(_request: object) -> HTMLResponse:
    return HTMLResponse("<html><head></head><body>S26-0000001</body></html>")


class Browser:
    """A browser at the dashboard, whose address has a port as a real one."""

    def __init__(self, settings: Settings) -> None:
        self.clock = Clock()
        self.access = Access(settings, required=True, clock=self.clock)
        routes = [*zoom_routes(settings), *access_routes(self.access), Route("/", page)]
        app = Starlette(routes=routes, middleware=[Middleware(Guard, access=self.access)])
        self.client = TestClient(app, "http://127.0.0.1:8501", follow_redirects=False)

    def there(self, to: str = "/") -> str:
        """Follow the link on the page to sign in to the provider, and return the way back."""
        answer = self.client.get("/access/oidc", params={"to": to})
        assert answer.status_code == 303, answer.text
        told = requests.get(answer.headers["location"], allow_redirects=False, timeout=300)
        return told.headers["location"]

    def sign_in(self, to: str = "/") -> Any:
        return self.client.get(self.there(to), headers=HTML)


@pytest.fixture
def browser(settings: Settings) -> Browser:
    return Browser(settings)


def events(lab: Lab) -> list[EventRow]:
    with lab.ledger.transaction() as tx:
        return list(tx.events("dashboard"))


def test_who_the_provider_vouches_for_has_a_session_of_ours(browser: Browser, lab: Lab) -> None:
    client = browser.client
    assert client.get("/zoom/1").status_code == 401
    asked = client.get("/", headers=HTML)
    shown = client.get(asked.headers["location"])
    # Without local users nobody is asked for a password.
    assert "Sign in with the hospital&#x27;s account" in shown.text
    assert "password" not in shown.text
    answer = browser.sign_in("/case?case=3")
    assert (answer.status_code, answer.headers["location"]) == (303, "/case?case=3")
    assert client.get("/zoom/1").status_code == 200
    user = browser.access.user(client.cookies["tandem_session"])
    assert user is not None and (user.person, user.role) == ("Meyer^Anna", Role.PATHOLOGIST)
    assert (
        client.post("/access/out", headers={"origin": "http://127.0.0.1:8501"}).status_code == 303
    )
    assert client.get("/zoom/1").status_code == 401
    told = [(event.code, event.by) for event in events(lab)]
    assert told == [("signed-in", "Meyer^Anna"), ("signed-out", "Meyer^Anna")]
    assert '"account": "0815"' in events(lab)[0].params


def test_who_comes_from_the_provider_ends_the_session_that_the_browser_had(
    browser: Browser, provider: OidcProvider
) -> None:
    browser.sign_in()
    former = browser.client.cookies["tandem_session"]
    assert "Signed in: Meyer^Anna" in browser.client.get("/access/in").text
    provider.claims = {"sub": "0816", "family_name": "Ito", "given_name": "Bert"}
    assert browser.sign_in().status_code == 303
    user = browser.access.user(browser.client.cookies["tandem_session"])
    assert user is not None and user.person == "Ito^Bert"
    assert browser.access.user(former) is None


def test_a_session_of_the_provider_ends_by_our_own_limits(browser: Browser) -> None:
    browser.sign_in()
    browser.clock.now += 29 * 60
    assert browser.client.get("/zoom/1").status_code == 200
    browser.clock.now += 31 * 60
    assert browser.client.get("/zoom/1").status_code == 401


def test_a_code_counts_once_and_only_in_the_browser_that_asked(
    browser: Browser, settings: Settings
) -> None:
    way = browser.there()
    other = Browser(settings)
    assert "not begun in this browser" in other.client.get(way).text
    other.there()  # a sign-in of its own is under way there
    assert other.client.get(way).status_code == 401
    # A stolen state without the process's key makes no verifier.
    state = browser.client.cookies["tandem_oidc"]
    other.client.cookies.clear()
    other.client.cookies.set("tandem_oidc", state, path="/access/")
    assert other.client.get(way).status_code == 401
    way = browser.there()
    assert browser.client.get(way).status_code == 303
    browser.client.cookies.clear()
    assert browser.client.get(way).status_code == 401
    assert "did not sign you in" in browser.client.get(_denied(browser)).text


def _denied(browser: Browser) -> str:
    way = browser.there()
    return f"/access/oidc-back?error=access_denied&state={way.rpartition('state=')[2]}"


def _foreign_key(provider: OidcProvider) -> None:
    provider.key = ECKey.generate_key("P-256", {"kid": "one"})


def _secret_as_key(provider: OidcProvider) -> None:
    provider.key, provider.algorithm = OctKey.import_key(CLIENT_SECRET * 2, {"kid": "one"}), "HS256"


def _unsigned(provider: OidcProvider) -> None:
    provider.unsigned = True


def _claiming(**claims: object) -> Callable[[OidcProvider], None]:
    def change(provider: OidcProvider) -> None:
        provider.claims = claims

    return change


@pytest.mark.parametrize(
    "change",
    [
        _foreign_key,
        _secret_as_key,
        _unsigned,
        _claiming(aud="another program"),
        _claiming(aud=[CLIENT, "another program"], azp="another program"),
        _claiming(iss="http://127.0.0.1:9/realm"),
        _claiming(nonce="of another sign-in"),
        _claiming(nonce=None),
        _claiming(exp=int(time.time()) - 3600),
        _claiming(exp=None),
        _claiming(sub=None),
        _claiming(family_name=None),  # then the name is asked for, and there is none
        _claiming(family_name="x" * 64),
        _claiming(family_name="a\nb"),
        _claiming(groups=["her2-strangers"]),
        _claiming(groups=None),
    ],
)
def test_a_token_that_is_not_what_it_must_be_lets_nobody_in(
    browser: Browser, provider: OidcProvider, change: Callable[[OidcProvider], None]
) -> None:
    change(provider)
    answer = browser.sign_in()
    assert answer.status_code == 401 and 'role="alert"' in answer.text
    assert not token_of(answer.headers.get("set-cookie", ""))
    assert CLIENT_SECRET not in answer.text


@pytest.mark.parametrize(
    ("claims", "more", "person", "role"),
    [
        ({"groups": "staff"}, {}, "Meyer^Anna", Role.VIEWER),
        ({"groups": ["staff", "her2-it"]}, {}, "Meyer^Anna", Role.ADMIN),
        (
            {"realm": {"roles": ["her2-it"]}, "groups": None},
            {"roles_claim": "realm.roles", "person_claim": "preferred_username"},
            "a.meyer",
            Role.ADMIN,
        ),
        (
            {"https://x.y/roles": ["staff"]},
            {"roles_claim": "https://x.y/roles"},
            "Meyer^Anna",
            Role.VIEWER,
        ),
    ],
)
def test_claims_give_person_and_role(
    settings: Settings,
    provider: OidcProvider,
    claims: dict[str, object],
    more: dict[str, str],
    person: str,
    role: Role,
) -> None:
    provider.claims, provider.ways = claims, ["client_secret_post"]
    oidc = settings.dashboard.oidc
    assert oidc is not None
    dashboard = settings.dashboard.model_copy(update={"oidc": oidc.model_copy(update=more)})
    browser = Browser(settings.model_copy(update={"dashboard": dashboard}))
    assert browser.sign_in().status_code == 303
    user = browser.access.user(browser.client.cookies["tandem_session"])
    assert user is not None and (user.person, user.role) == (person, role)


@pytest.mark.parametrize(
    ("person", "claims"),
    [
        ("MEYER^Anna", {}),
        ("Mèyer^Anna", {"family_name": "Me\u0300yer"}),
        ("Meyer^Anna", {"given_name": "Anna^"}),
        ("Meyer^Anna Maria", {"given_name": "Anna  Maria"}),
    ],
)
def test_a_local_users_name_is_not_taken_by_another_account(
    browser: Browser,
    settings: Settings,
    lab: Lab,
    provider: OidcProvider,
    person: str,
    claims: dict[str, str],
) -> None:
    provider.claims = claims
    Users(settings).add("anna", "admin", person, "several words are good")
    answer = browser.sign_in()
    assert answer.status_code == 401 and "A local user has your name" in answer.text
    assert 'type="password"' in answer.text  # who has a password may use it beside
    assert [event.code for event in events(lab)] == ["sign-in-failed"]


def test_a_refused_token_is_an_event_and_the_next_ones_are_heard_less_often(
    browser: Browser, provider: OidcProvider, lab: Lab
) -> None:
    provider.claims = {"nonce": "of another sign-in"}
    for _ in range(FREE_TRIES):
        assert "is refused" in browser.sign_in().text
    assert {event.code for event in events(lab)} == {"sign-in-failed"}
    assert len(events(lab)) == FREE_TRIES
    provider.claims = {}
    assert "Too many failed tries" in browser.sign_in().text  # it is not asked
    browser.clock.now += 60
    assert browser.sign_in().status_code == 303


def test_a_provider_that_is_away_or_another_one_is_told(
    settings: Settings, provider: OidcProvider, secret: Path
) -> None:
    provider.issuer, asked = f"{provider.issuer}/", provider.issuer
    answer = Browser(settings).client.get("/access/oidc")
    assert answer.status_code == 401 and "calls itself another name" in answer.text
    provider.issuer = asked
    browser = Browser(settings)
    way = browser.there()
    secret.unlink()
    assert "no secret in" in browser.client.get(way).text


def test_settings_of_a_provider_keep_its_secret(tmp_path: Path, settings: Settings) -> None:
    roles = {"all": "viewer"}
    with pytest.raises(ValidationError, match="https"):
        Oidc(issuer="http://login.example", client_id="t", roles=roles, secret_env="T")  # noqa: S106
    with pytest.raises(ValidationError, match="could vouch"):
        Oidc(issuer="http://login.example", client_id="t", roles=roles)
    with pytest.raises(ValidationError, match="client_id"):
        Oidc(issuer="https://x.y", client_id="t", roles=roles, user="u", secret_env="T")  # noqa: S106
    assert settings.dashboard.oidc is not None
    file = settings.dashboard.oidc.secret_file
    assert file in dict(secret_files(settings)).values()
    # The daemon does not get what the dashboard alone needs.
    assert _secrets_of("tandem-dashboard", settings) == [file]
    assert _secrets_of("tandem", settings) == []
