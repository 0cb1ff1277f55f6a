"""The image of the Dockerfile, built by buildah on a root of Debian, and a case in it.

There is no Docker engine and no registry where this was written. buildah builds the same file,
with mmdebstrap's root in place of the base image, and bubblewrap runs what was built: as the
image's user, with a read-only root and without a network. Minutes, as root: ``make image``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.synthesis.slides import SyntheticCase

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / "build" / "wheels"
TOOLS = ("buildah", "mmdebstrap", "bwrap", "setpriv")
BASE, IMAGE = "localhost/tandem-base", "localhost/tandem"
USER = 10001
LIMIT_S = 1800
RIGHTS = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""Capabilities by which setpriv becomes the user of the image; it gives them up."""
SETTINGS = """state_dir = "/var/lib/tandem"
[watch]
folder = "/scans"
rescan_seconds = 2
stable_seconds = 1
"""


@dataclass(frozen=True, slots=True)
class Built:
    """Root of the built image, and what its configuration says."""

    root: Path
    config: dict[str, Any]

    def command(self, words: Sequence[str], state: Path, scans: Path) -> list[str]:
        """Return a command line that runs words in the image, as a container engine would.

        `state` and `scans` are folders for ``/var/lib/tandem`` and ``/scans``; the settings lie in
        `state`.
        """
        environment = dict(each.split("=", 1) for each in self.config["Env"])
        assert self.config["User"] == f"{USER}:{USER}"
        volumes = ["--bind", str(state), "/var/lib/tandem", "--ro-bind", str(scans), "/scans"]
        return [
            *("bwrap", "--ro-bind", str(self.root), "/", *volumes),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108  the image's own
            *("--unshare-net", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--clearenv"),
            *(word for pair in environment.items() for word in ("--setenv", *pair)),
            *(word for each in RIGHTS for word in ("--cap-add", each)),
            *("--chdir", self.config["WorkingDir"]),
            *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
            *("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", *words),
        ]


def run(*words: object, env: dict[str, str] | None = None) -> str:
    """Run a command; return what it printed."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False, cwd=ROOT, env=env
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    if "TANDEM_IMAGE" not in os.environ:
        pytest.skip("make image")
    missing = [each for each in TOOLS if shutil.which(each) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"only root builds it, with buildah, mmdebstrap, bubblewrap; missing {missing}")
    assert list(WHEELS.glob("tandem_her2-*.whl")), "make wheels first"
    folder = tmp_path_factory.mktemp("image")
    debian = folder / "debian.tar"
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=python3,python3-venv"),
        *("bookworm", debian),
    )
    env = dict(os.environ) | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    store = ["--root", str(folder / "store"), "--runroot", str(folder / "run")]
    buildah = ["buildah", *store]
    scratch = run(*buildah, "from", "scratch", env=env)
    run(*buildah, "add", scratch, debian, "/", env=env)
    run(*buildah, "commit", "--rm", scratch, BASE, env=env)
    debian.unlink()
    run(
        *(*buildah, "bud", "--pull-never", "--build-arg", f"BASE={BASE}", "--target", "cpu"),
        *("--build-context", f"wheels={WHEELS}", "--format", "docker", "-t", IMAGE, "."),
        env=env,
    )
    container = run(*buildah, "from", "--pull-never", IMAGE, env=env)
    told = json.loads(run(*buildah, "inspect", "--type", "image", IMAGE, env=env))
    root = run(*buildah, "mount", container, env=env)
    (Path(root) / "scans").mkdir()  # the place of a volume: an engine makes it
    yield Built(Path(root), told["Docker"]["config"])
    run(*buildah, "umount", container, env=env)
    shutil.rmtree(folder, ignore_errors=True)


def test_what_the_image_says_of_itself(built: Built) -> None:
    assert built.config["Entrypoint"] == ["tandem"] and built.config["Cmd"] == ["run"]
    assert built.config["Healthcheck"]["Test"] == ["CMD", "tandem", "status", "--alive"]
    for folder in ("usr/bin", "usr/local/bin", "opt/tandem/bin"):
        for name in ("pip", "pip3", "gcc", "cc", "make"):
            assert not (built.root / folder / name).exists()
    (user,) = re.findall(r"^tandem:.*$", (built.root / "etc/passwd").read_text(), re.M)
    assert user.split(":")[2] == str(USER) and user.endswith("/usr/sbin/nologin")


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_case_goes_all_the_way_in_the_image(
    built: Built, small_case: SyntheticCase, tmp_path: Path
) -> None:
    state, scans = tmp_path / "state", tmp_path / "scans"
    state.mkdir(mode=0o700)
    scans.mkdir()
    (state / "tandem.toml").write_text(SETTINGS)
    for folder in (state, state / "tandem.toml"):
        os.chown(folder, USER, USER)
    settings = "/var/lib/tandem/tandem.toml"

    def tandem(*words: str) -> subprocess.CompletedProcess[str]:
        command = built.command(["tandem", *words, "--config", settings], state, scans)
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    for refused in ("/opt/tandem/new", "/scans/new", "/etc/new"):
        command = built.command(["touch", refused], state, scans)
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    with (tmp_path / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            built.command(["tandem", "run", "--config", settings], state, scans),
            stdout=log,
            stderr=log,
        )
    try:
        for slide in (small_case.he_path, small_case.ihc_path):
            shutil.copy(slide, scans)
            (scans / slide.name).chmod(0o644)

        def asked() -> dict[str, Any]:
            if not (state / "ledger.sqlite").exists():
                return {"cases": []}
            done = tandem("status", "--json")
            return dict(json.loads(done.stdout)) if done.returncode == 0 else {"cases": []}

        until(
            lambda: [each["state"] for each in asked()["cases"]] == ["delivered"],
            daemon,
            tmp_path / "daemon.log",
        )
        (case,) = asked()["cases"]
        assert (case["accession"], case["score"]) == (small_case.accession, small_case.score)
        assert tandem("status", "--alive").returncode == 0  # HEALTHCHECK's command
    finally:
        os.kill(inside(daemon.pid), signal.SIGTERM)
        assert daemon.wait(300) == 0
    objects = list((state / "archive").rglob("*.dcm"))
    assert objects and {path.stat().st_uid for path in objects} == {USER}


def inside(pid: int) -> int:
    """Return the process that bubblewrap runs: it passes no signal on."""
    while Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap":
        pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
    return pid


def until(holds: Callable[[], bool], daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert daemon.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(1)
