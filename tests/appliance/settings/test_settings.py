"""Settings: an error names the key and the remedy."""

from __future__ import annotations

import math
import os
import pickle
from pathlib import Path

import pytest

from appliance.errors import SettingsError
from appliance.settings import settings_file
from appliance.settings.destinations import FolderDestination
from appliance.settings.settings import Settings
from appliance.settings.settings_file import find_settings_file, load_settings

WEB = "[[destinations]]\nkind = 'dicomweb'\n"
WORKLIST = "[worklist]\nport = 104\n"
PACS = (
    "[[destinations]]\nkind = 'dicom'\nhost = 'h'\nport = 1\ncalled_aet = 'A'\n"
    "commitment_port = 2\n"
)


HOOK = "[alerts.webhook]\n"


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "tandem.toml"
    path.write_text(text)
    return load_settings(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[watch]\nfolde = '/x'\n", "unknown key 'watch.folde'.*did you mean 'watch.folder'"),
        ("[watch]\nrescan_seconds = -1\n", "'watch.rescan_seconds' = -1.*greater than 0"),
        ("destinations = []\n", "name at least one destination"),
        ("[[destinations]]\nkind = 'dicom'\nport = 1\n", "destinations.0.dicom.host"),
        (WEB + "url = 'https://me:pw@pacs'\n", "destinations.0.dicomweb.url"),
        (WEB + "url = 'https://pacs?token=pw'\n", "destinations.0.dicomweb.url"),
        (WEB + "url = 'https://pacs'\nuser = 'me'\n", "user needs secret_file or secret_env"),
        (WEB + "url = 'http://pacs'\nsecret_env = 'X'\n", "use https in the url"),
        (WEB + "url = 'http://127.pacs:80'\nuser = 'me'\nsecret_env = 'X'\n", "use https"),
        (PACS + "dicomweb_url = 'http://pacs'\nsecret_env = 'X'\n", "use https in the url"),
        (WEB + "url = 'https://pacs'\nobjects = ['SRR']\n", "destinations.0.dicomweb.objects.0"),
        (WEB + "url = 'https://pacs'\nkey = 'k'\n", "key needs certificate"),
        (2 * PACS, "two destinations have the same name"),
        (PACS + PACS.replace("'dicom'", "'dicom'\nname = 'b'"), "the same commitment_port"),
        ("[identify.stains]\nki67 = ['KI67']\n", "'ki67' is not a stain code"),
        ('organization = "Lab\\\\East"\n', "'organization'"),
        (f"organization = '{65 * 'x'}'\n", "'organization'"),
        ("= 3", "not valid TOML"),
        ("state_dir = ''\n", "'state_dir' = ''.*an empty path"),
        ("[watch]\nfolders = ['/x', '']\n", "'watch.folders.1' = ''.*an empty path"),
        ("[[destinations]]\nkind = 'folder'\nfolder = ''\n", "folder' = ''.*an empty path"),
        ("state_dir = '/lab?'\n", "'state_dir' = '/lab\\?'.*rename the folder"),
        ("state_dir = '/50%41'\n", "'state_dir' = '/50%41'.*two of 0-9 and A-F: rename the folder"),
        ("[retention]\nfree_gib = inf\n", "'retention.free_gib' = inf.*finite"),
        ("[watch]\npoll_seconds = inf\n", "'watch.poll_seconds' = inf.*finite"),
        (HOOK + "url = 'https://chat/a?sig=pw'\n", "'alerts.webhook.url':.*url_file"),
        (HOOK + "url = 'https://chat/a@b/c'\n", "'alerts.webhook.url':.*url_file"),
        (HOOK, "name url or url_file"),
        (WEB + "url = 'pacs'\n", "begins with http:// or https://"),
        ('\nstate_dir = "C:\\lab"\n', r"line 2.*Write paths with / or in single quotes"),
        ('\nstate_dir = "C:\\users"\n', r"line 2.*Write paths with / or in single quotes"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"(?s){message}"):
        load(tmp_path, text)


def test_a_settings_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "tandem.toml"
    path.write_text("organization = 'Präparate'\n", encoding="utf-8-sig")
    assert load_settings(path).organization == "Präparate"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "cp1252"])
def test_a_settings_file_in_another_encoding_says_the_remedy(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "tandem.toml"
    path.write_text("\norganization = 'Präparate'\n", encoding=encoding)
    with pytest.raises(SettingsError, match=r"not in UTF-8\. Save the file as UTF-8\.$"):
        load_settings(path)


@pytest.mark.parametrize(
    "name", ["CLUSTER__CA_FILE", "CLUSTER__KEY", "ALERTS__WEBHOOK__SECRET_FILE"]
)
def test_an_empty_variable_of_a_file_is_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"TANDEM_{name}", "")
    monkeypatch.setenv("TANDEM_ALERTS__WEBHOOK__URL", "https://chat.lab/x")
    settings = load_settings()
    assert settings.cluster.ca_file is None and settings.cluster.key is None
    assert settings.alerts.webhook is not None and settings.alerts.webhook.secret_file is None


@pytest.mark.parametrize("name", ["MODELS__TUMOR", "ORDERS__CSV"])
def test_an_empty_variable_of_weights_or_orders_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"TANDEM_{name}", "")
    with pytest.raises(SettingsError, match="an empty path"):
        load_settings()


def test_the_waits_of_delivery_may_grow_without_end(tmp_path: Path) -> None:
    path = tmp_path / "tandem.toml"
    path.write_text("[delivery]\nlast_retry_seconds = inf\n")
    assert load_settings(path).delivery.last_retry_seconds == math.inf
    path.write_text("[delivery]\nlast_retry_seconds = nan\n")
    with pytest.raises(SettingsError, match="greater than 0"):
        load_settings(path)


def test_an_empty_variable_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_STATE_DIR", "")
    with pytest.raises(SettingsError, match=r"TANDEM_STATE_DIR: 'state_dir' = '': .*an empty path"):
        load_settings()


MAIL = "[alerts.mail]\nsender = 'a@b'\nto = ['a@b']\nhost = "


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (WORKLIST + "host = 'ris..lab'\ncalled_aet = 'RIS'\n", "worklist.host"),
        (WORKLIST + "host = 'ris'\ncalled_aet = 'ÄRZTE'\n", "worklist.called_aet"),
        (WORKLIST + "host = 'ris'\ncalled_aet = 'R\\IS'\n", "worklist.called_aet"),
        (WORKLIST + "host = 'ris'\ncalled_aet = '   '\n", "worklist.called_aet"),
        (WORKLIST + f"host = 'ris'\ncalled_aet = '{17 * 'R'}'\n", "worklist.called_aet"),
        (PACS + "calling_aet = 'PATHO_MÜNCHEN'\n", "destinations.0.dicom.calling_aet"),
        (PACS.replace("'h'", "'pacs lab'"), "destinations.0.dicom.host"),
        (PACS + "commitment_host = 'a..b'\n", "destinations.0.dicom.commitment_host"),
        ("[[destinations]]\nkind = 'hl7'\nport = 1\nhost = ''\n", "destinations.0.hl7.host"),
        (WEB + "url = 'https://pacs..lab/web'\n", "destinations.0.dicomweb.url"),
        (WEB + "url = 'https://[::1/web'\n", "destinations.0.dicomweb.url"),
        ("[alerts.webhook]\nurl = 'https://chat..lab/hooks/1'\n", "alerts.webhook.url"),
        (MAIL + "'mail..lab'\n", "alerts.mail.host"),
        ("[audit]\nhost = 'a..b'\n", "audit.host"),
    ],
)
def test_names_that_can_never_work_are_refused(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SettingsError, match=f"'{key}'.*(no machine|an AE title|Invalid IPv6)"):
        load(tmp_path, text)


def test_names_that_work_are_taken_as_they_are(tmp_path: Path) -> None:
    for host in ("ris.lab.", "ris_1", "münchen.lab", "10.0.0.5", "fe80::1%eth0"):
        text = WORKLIST + f"host = '{host}'\ncalled_aet = 'RIS 1^A'\n"
        worklist = load(tmp_path, text + WEB + "url = 'https://münchen.lab:8042/web'\n").worklist
        assert worklist is not None and worklist.host == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8042", "[::1]:8042"])
def test_a_secret_may_go_to_a_proxy_on_this_machine(host: str, tmp_path: Path) -> None:
    load(tmp_path, WEB + f"url = 'http://{host}/studies'\nsecret_env = 'X'\n")


def test_stains_are_an_open_set(tmp_path: Path) -> None:
    settings = load(tmp_path, "[identify.stains]\nHE = ['HE']\nKI67 = ['KI-67', 'MIB1']\n")
    assert settings.identify.stains == {"HE": ("HE",), "KI67": ("KI-67", "MIB1")}
    assert settings.pair.expected_assays == ("her2",)


@pytest.mark.parametrize(
    "text",
    [
        WEB + "url = 'https://me:hidden@pacs'\n",
        WEB + "url = 'https://me:hidden@pacs'\nuser = 'me'\n",
        "[[destinations]]\nkind = 'web'\nurl = 'https://me:hidden@pacs'\n",
        "[[destinations]]\nkind = 'dicom'\ndicomweb_url = 'https://me:hidden@pacs'\n",
        "destinations = 'https://me:hidden@pacs'\n",
        "destinations = ['https://me:hidden@pacs']\n",
        WEB + "url = 'https://pacs'\npassword = 'hidden'\n",
        WEB + "url = 'https://pacs'\nsecret_file = 7\nsecret_env = ['hidden']\n",
    ],
)
def test_a_password_in_a_wrong_setting_is_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="destinations") as caught:
        load(tmp_path, text)
    assert "hidden" not in str(caught.value)


def test_environment_is_stronger_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_WATCH__STABLE_SECONDS", "42")
    settings = load(tmp_path, "[watch]\nstable_seconds = 7\nrescan_seconds = 8\n")
    assert (settings.watch.stable_seconds, settings.watch.rescan_seconds) == (42, 8)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TANDEM_WATCH__FOLDERS", "/a,/b", 'TANDEM_WATCH__FOLDERS: no JSON.*["/a", "/b"]'),
        ("TANDEM_DESTINATIONS", "[{kind", "TANDEM_DESTINATIONS: no JSON"),
        ("TANDEM_WATCH__FOLDRE", "/a", "TANDEM_WATCH__FOLDRE: unknown key 'watch.foldre'"),
        ("TANDEM_WATCH", '{"foldre": 1}', "TANDEM_WATCH: unknown key 'watch.foldre'"),
        ("TANDEM_DESTINATIONS", '[{"kind": "fold"}]', "TANDEM_DESTINATIONS: 'destinations.0'"),
        ("TANDEM_LOW_DISK_GIB", "much", "TANDEM_LOW_DISK_GIB: 'low_disk_gib' = 'much'"),
        ("TANDEM_STATEDIR", "/data", "TANDEM_STATEDIR: no setting.*mean TANDEM_STATE_DIR?"),
        ("TANDEM_LOW_DISK", "99", "TANDEM_LOW_DISK: no setting has this name"),
        ("TANDEM_READ_SERVICE_PORT", "1", "TANDEM_READ_SERVICE_PORT: no setting has this name"),
    ],
)
def test_trouble_of_the_environment_names_the_variable_and_not_the_file(
    name: str, value: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    # Beside it stands what is right, in the same table.
    monkeypatch.setenv("TANDEM_WATCH__FOLDER", "/scans")
    first, _, rest = says.partition(".*")
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "[watch]\nrescan_seconds = 8\n")
    assert str(caught.value).startswith(f"environment variable {first}")
    assert rest in str(caught.value) and "tandem.toml" not in str(caught.value)


def test_trouble_of_the_file_is_the_files_whatever_the_environment_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_WATCH", '{"folder": "/scans"}')
    with pytest.raises(SettingsError, match=r"^.*tandem\.toml: unknown key 'watch\.foldre'"):
        load(tmp_path, "[watch]\nfoldre = '/a'\n")


def test_variables_of_others_are_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret's name is the site's own; Kubernetes tells of a service that is called tandem."""
    kubernetes = {"PORT": "tcp://10.0.0.1:1", "SERVICE_HOST": "10.0.0.1", "PORT_1_TCP_ADDR": "a"}
    for name, value in (kubernetes | {"CLOUD_TOKEN": "x", "DASHBOARD_NAMES": "lab"}).items():
        monkeypatch.setenv(f"TANDEM_{name}", value)
    web = WEB + "url = 'https://pacs'\n"
    load(tmp_path, web + "secret_env = 'TANDEM_CLOUD_TOKEN'\n")
    with pytest.raises(SettingsError, match="TANDEM_CLOUD_TOKEN: no setting"):
        load(tmp_path, web)


def test_defaults_need_no_file_and_survive_the_way_to_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert isinstance(settings.destinations[0], FolderDestination)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301  our own bytes


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such settings file"):
        load_settings(tmp_path / "none.toml")


def test_a_folder_that_the_user_cannot_enter_has_no_settings_to_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``sudo -u tandem tandem status`` is typed in root's home."""
    home, site = tmp_path / "root", tmp_path / "etc" / "tandem.toml"
    home.mkdir()
    site.parent.mkdir()
    site.touch()
    tmp_path.chmod(0o755)
    monkeypatch.delenv("TANDEM_CONFIG", raising=False)
    monkeypatch.setattr(settings_file, "SEARCHED", ("tandem.toml", str(site)))
    monkeypatch.chdir(home)
    home.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root enters every folder
    try:
        with pytest.raises(PermissionError):
            Path("tandem.toml").is_file()
        assert find_settings_file(None) == find_settings_file(None) == site
        (line,) = capsys.readouterr().err.splitlines()
        assert "cannot be read" in line and line.endswith(f"using {site}")
        monkeypatch.setattr(settings_file, "SEARCHED", ("tandem.toml", "/none/tandem.toml"))
        with pytest.raises(SettingsError, match="--config"):
            find_settings_file(None)  # the defaults would be another site's
    finally:
        os.seteuid(user)
        home.chmod(0o700)
