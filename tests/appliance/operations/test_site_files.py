"""``tandem init``: a settings file that explains every key and loads, and units made from it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.daemon import TANDEM, tandem_here
from pydantic import BaseModel

from appliance.errors import SettingsError
from appliance.operations.service_units import commands, unit_files
from appliance.operations.settings_text import NO_DEFAULT, settings_text
from appliance.operations.site_files import write_site
from appliance.settings.cluster import Cluster
from appliance.settings.destinations import (
    DicomWebDestination,
    FolderDestination,
    Hl7Destination,
    PacsDestination,
    section_types,
)
from appliance.settings.intake import Watch
from appliance.settings.networks import ModelSettings
from appliance.settings.section import SomePath
from appliance.settings.settings import Settings
from appliance.settings.settings_file import load_settings

CONFIG, COMMAND = Path("/etc/tandem/tandem.toml"), Path("/opt/tandem/.venv/bin/tandem")
SET = {"state_dir": Path("/data/a folder"), "watch.folder": Path("/mnt/scans")}


def keys_of_file(text: str) -> Iterator[tuple[str, str]]:
    """Yield table and key of each line of a settings file, also of those that are commented out."""
    table = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"#?(\[\[?[a-z_.]+\]\]?)", line):
            table = header[1]
        elif key := re.fullmatch(r"#?([a-z][a-z0-9_]*) = .+", line):
            yield table, key[1]


def keys_of_model(model: type[BaseModel], table: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [each for each in kinds if isinstance(each, type) and issubclass(each, BaseModel)]
        if name == "destinations":
            for kind in section_types():
                yield from (("[[destinations]]", key) for key in kind.model_fields)
        elif inner and not str(field.annotation).startswith("tuple"):
            yield from keys_of_model(inner[0], f"[{table.strip('[]')}.{name}]".replace("[.", "["))
        else:
            yield table, name


def test_the_file_has_every_key_and_loads(tmp_path: Path) -> None:
    text = settings_text(SET)
    assert sorted(keys_of_file(text)) == sorted(keys_of_model(Settings))
    (tmp_path / "tandem.toml").write_text(text)
    settings = load_settings(tmp_path / "tandem.toml")
    assert settings == Settings(
        state_dir=Path("/data/a folder"), watch=Watch(folder=Path("/mnt/scans"))
    )


def test_each_shown_default_is_the_default(tmp_path: Path) -> None:
    def load(text: str) -> Settings:
        (tmp_path / "tandem.toml").write_text(text)
        return load_settings(tmp_path / "tandem.toml")

    text = settings_text(SET)
    blocks = re.split(r"\n\n\n", text)
    taken = [
        block
        if re.search(r"^#\[", block, re.M)
        else re.sub(rf"^#(?=[a-z][a-z0-9_]* = (?!.*{NO_DEFAULT}))", "", block, flags=re.M)
        for block in blocks
    ]
    set_all = "\n\n\n".join(taken)
    assert set_all.count("\n#") < text.count("\n#") - 60
    assert load(set_all) == load(text)


def test_tables_and_keys_are_explained() -> None:
    lines = settings_text(SET).splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if re.fullmatch(r"#?\[\[?[a-z_.]+\]\]?", line) or re.match(r"#?(state_dir|host) =", line):
            assert re.match(r"# \S", before), line


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").write_text(
        "state_dir = '/data/tandem'\n[watch]\nfolder = '/mnt/scans'\n"
    )
    done = tandem_here("init", "--out", tmp_path, "--systemd")
    assert "left as it is" in done.stdout
    drop_in = tmp_path / "systemd" / "tandem.service.d" / "site.conf"
    assert "ReadWritePaths=/data/tandem\n" in drop_in.read_text()
    assert drop_in.stat().st_mode & 0o777 == 0o644
    assert "useradd --system" in done.stdout and "systemctl enable --now tandem" in done.stdout


def test_the_program_is_found_by_the_name_that_pages_and_remedies_use(tmp_path: Path) -> None:
    out = tmp_path / "a site"
    said = tandem_here("init", "--out", out, "--systemd").stdout
    # Printed whole: without --out it would write into the folder where it is typed.
    assert f"\n{shlex.quote(str(TANDEM))} init --out '{out}' --systemd\n" in said
    (line,) = [line for line in said.splitlines() if line.startswith("  ln ")]
    ln, option, program, link = shlex.split(line)
    assert (ln, option, program) == ("ln", "-sf", str(TANDEM))
    assert link == "/usr/local/bin/tandem"  # Debian's sudo looks there
    subprocess.run([ln, option, program, tmp_path / "tandem"], check=True)
    found = ["sh", "-c", "tandem --version"]
    done = subprocess.run(found, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=False)
    assert done.returncode == 0


def test_the_commands_for_a_worker_start_no_second_daemon(tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").write_text(
        "state_dir = '/data/my tandem'\n[watch]\nfolder = '/mnt/scans'\n[cluster]\n"
        "scheduler = 'tls://10.0.0.5:8786'\nca_file = '/etc/tandem/ca.pem'\n"
        "certificate = '/etc/tandem/c.pem'\nkey = '/etc/tandem/c.key'\n"
    )
    said = tandem_here("init", "--out", tmp_path, "--systemd").stdout
    daemons, _, workers = said.partition("on each machine that does steps")
    assert "systemctl enable --now tandem tandem-dashboard tandem-scheduler\n" in daemons
    assert "  install -d -m 700 -o tandem -g tandem '/data/my tandem'\n" in daemons
    lines = [line.strip() for line in workers.splitlines() if line.startswith("  ")]
    assert lines[-1] == "systemctl enable --now tandem-worker"
    assert not any("install" in line or "chown root:tandem /data" in line for line in lines)
    unit = tmp_path / "systemd" / "tandem-worker.service"
    assert f"cp -r {unit} {unit}.d /etc/systemd/system/" in lines
    (user,) = [line for line in lines if "useradd" in line]
    assert """--uid "$(stat -c %u '/data/my tandem')" """ in user


def test_each_folder_that_is_made_can_be_entered(tmp_path: Path) -> None:
    there = tmp_path / "srv"
    there.mkdir(mode=0o700)
    before = os.umask(0o077)  # that of the commands
    try:
        write_site(there / "a" / "b", Path("/mnt/scans"), Path("/data/tandem"), systemd=False)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (there, there / "a", there / "a" / "b")]
    assert modes == [0o700, 0o755, 0o755]


def test_nothing_else_beside_the_units_is_touched(tmp_path: Path) -> None:
    closed, link = tmp_path / "closed", tmp_path / "etc" / "systemd" / "system" / "masked.service"
    closed.write_text("others' own")
    closed.chmod(0o600)
    link.parent.mkdir(parents=True)
    link.symlink_to(closed)
    written = write_site(tmp_path / "etc", Path("/mnt/scans"), Path("/data/tandem"), systemd=True)
    assert {path.stat().st_mode & 0o777 for path in written.units} == {0o644}
    assert closed.stat().st_mode & 0o777 == 0o600


def test_names_of_folders_that_no_settings_file_can_hold_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"not in UTF-8.*Rename that folder"):
        write_site(tmp_path, Path("/mnt/\udcff"), Path("/data/t"), systemd=False)
    assert list(tmp_path.iterdir()) == []
    odd = Path("/mnt/\x7f \\ \" 'é'")
    load = load_settings(write_site(tmp_path, odd, odd, systemd=False).config)
    assert (load.state_dir, load.watch.folder) == (odd, odd)


def test_a_folder_in_place_of_the_settings_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "tandem.toml").mkdir()
    with pytest.raises(SettingsError, match=f"{tmp_path}: Is a directory"):
        write_site(tmp_path, Path("/mnt/s"), Path("/data/t"), systemd=False)


def test_a_settings_file_of_another_user_is_told(tmp_path: Path) -> None:
    config = write_site(tmp_path, Path("/mnt/s"), Path("/data/t"), systemd=False).config
    load_settings(config)
    config.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root reads every file
    try:
        with pytest.raises(SettingsError, match=r"cannot be read .Permission denied.*sudo -u tan"):
            load_settings(config)
    finally:
        os.seteuid(user)


def site(**more: object) -> Settings:
    return Settings.model_validate(
        {"state_dir": "/data/my tandem", "watch": {"folder": "/mnt/scans"}, "models": {}} | more
    )


def lines_of(settings: Settings, unit: str) -> list[str]:
    return unit_files(settings, CONFIG, COMMAND)[f"{unit}.service.d/site.conf"].splitlines()


def test_the_daemon_may_write_where_the_settings_say() -> None:
    settings = site(
        watch={"folder": "/home/lab/scans"},
        destinations=(
            FolderDestination(folder=Path("/home/lab/50% archive")),
            FolderDestination(name="own"),
        ),
    )
    lines = lines_of(settings, "tandem")
    assert "StateDirectory=" in lines  # not the folder of the unit as it ships
    assert 'ReadWritePaths="/data/my tandem"' in lines
    assert 'ReadWritePaths="-/home/lab/50%% archive"' in lines  # a share may be away
    assert "ProtectHome=tmpfs" in lines
    assert 'BindPaths="-/home/lab/50%% archive"' in lines
    assert f"ExecStart={COMMAND} run --config {CONFIG}" in lines
    dashboard = lines_of(settings, "tandem-dashboard")
    assert not any("archive" in line for line in dashboard)
    scans = "BindReadOnlyPaths=-/home/lab/scans"
    assert scans in lines and scans in dashboard  # the deep zoom reads the slides
    assert any("'/data/my tandem'" in line for line in commands(settings, CONFIG, Path("/u")))


def test_all_weights_and_templates_in_home_folders_are_shown_to_who_reads_them() -> None:
    named = {
        name: f"/home/lab/{name}"
        for name, field in ModelSettings.model_fields.items()
        if field.annotation == SomePath | None
    }
    assert {"tumor", "mil_encoder", "interim", "calibrations"} < set(named)
    lis = Hl7Destination(
        kind="hl7", name="lis", host="lis", port=2575, template=Path("/home/lab/oru.txt")
    )
    cluster = Cluster(scheduler="tls://10.0.0.5:8786", ca_file=CONFIG, certificate=CONFIG)
    settings = site(models=named, destinations=(lis,), cluster=cluster)
    for unit in ("tandem", "tandem-worker"):
        wanted = [*named.values(), "/home/lab/oru.txt"]
        assert {f"BindReadOnlyPaths=-{path}" for path in wanted} <= set(lines_of(settings, unit))


def test_a_table_of_orders_that_is_replaced_is_seen_by_its_folder(tmp_path: Path) -> None:
    """A mount of the file would show the former table for ever."""
    table, link = Path("/home/lis/export/orders.csv"), tmp_path / "orders.csv"
    link.symlink_to(table)
    cluster = Cluster(scheduler="tls://10.0.0.5:8786", ca_file=CONFIG, certificate=CONFIG)
    for named in (table, link):
        settings = site(orders={"csv": named}, cluster=cluster)
        for unit in ("tandem", "tandem-worker"):
            lines = lines_of(settings, unit)
            assert "BindReadOnlyPaths=-/home/lis/export" in lines
            assert not any("orders.csv" in line for line in lines)
    archive = FolderDestination(folder=table.parent)
    lines = lines_of(site(orders={"csv": table}, destinations=(archive,)), "tandem")
    assert "BindPaths=-/home/lis/export" in lines
    assert "BindReadOnlyPaths=-/home/lis/export" not in lines


@pytest.mark.parametrize("name", ["it's", "a:b", "a;b", "a~b"])
def test_names_that_mean_something_to_systemd_are_quoted(name: str) -> None:
    """systemd ignores a line whose quotes do not close, and divides BindPaths= at a colon."""
    folder = Path("/home/lab") / name
    lines = lines_of(site(destinations=(FolderDestination(folder=folder),)), "tandem")
    for key in ("ReadWritePaths", "BindPaths"):
        assert f'{key}="-{folder}"' in lines


def test_the_program_is_named_as_systemd_reads_it() -> None:
    def lines(program: str) -> str:
        files = unit_files(site(), Path("/etc/$x/tandem.toml"), Path(program))
        return files["tandem.service.d/site.conf"]

    start = 'ExecStart="/opt/a$b/tandem" run --config "/etc/$$x/tandem.toml"\n'
    assert start in lines("/opt/a$b/tandem")
    for program, says in (("/opt/it's/tandem", "quote or backslash"), ("/opt/a\nb", "cannot name")):
        with pytest.raises(SettingsError, match=says):
            lines(program)


def test_secrets_become_credentials_of_the_services_that_need_them() -> None:
    settings = site(
        cluster=Cluster(
            scheduler="tls://10.0.0.5:8786",
            ca_file=Path("/etc/tandem/ca.pem"),
            certificate=Path("/etc/tandem/c.pem"),
            key=Path("/etc/tandem/c.key"),
        ),
        destinations=(
            DicomWebDestination(
                kind="dicomweb", url="https://pacs", secret_file=Path("/etc/tandem/token")
            ),
            PacsDestination(
                kind="dicom", host="h", port=1, called_aet="A", certificate=Path("/etc/tandem/p")
            ),
        ),
    )
    cluster = "LoadCredential=etc-tandem-c.key:/etc/tandem/c.key"
    token = "LoadCredential=etc-tandem-token:/etc/tandem/token"  # noqa: S105  a path
    assert {cluster, token, "LoadCredential=etc-tandem-p:/etc/tandem/p"} < set(
        lines_of(settings, "tandem")
    )
    for unit in ("tandem-worker", "tandem-scheduler"):
        assert [line for line in lines_of(settings, unit) if "LoadC" in line] == [cluster]
    assert not any("LoadC" in line for line in lines_of(settings, "tandem-dashboard"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(), "state_dir = tandem-state: a service needs an absolute path"),
        (Settings(state_dir=Path("/tmp/x")), "of its own"),  # noqa: S108
        (Settings(state_dir=Path("/a\nExecStartPre=/b")), "a unit file cannot name this path"),
        (site(orders={"csv": "/root/orders.csv"}), "Name a table in a folder of its own"),
        (site(orders={"csv": "/home/orders.csv"}), "Name a table in a folder of its own"),
        (
            site(
                destinations=(
                    DicomWebDestination(
                        kind="dicomweb", name="a", url="https://a", secret_file=Path("/a/b-c")
                    ),
                    DicomWebDestination(
                        kind="dicomweb", name="b", url="https://b", secret_file=Path("/a-b/c")
                    ),
                )
            ),
            "as credentials they have one name",
        ),
    ],
)
def test_what_a_service_cannot_do_is_told(settings: Settings, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        unit_files(settings, CONFIG, COMMAND)
