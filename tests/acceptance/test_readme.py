"""README's commands for a server, replayed in a clean root; what cannot run here is named.

The root has this machine's ``/usr``, read-only, an ``/etc`` with two users, an empty home and no
virtual environment. The replay installs everything, so it takes minutes: ``make replay``. The other
tests here are quick: they notice a command of README that the replay does not know.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures.daemon import tandem_here

from appliance.operations.service_units import link_commands
from models.synthesis.slides import SyntheticCase

ROOT = Path(__file__).resolve().parents[2]
AT, SCANS, SETTINGS = "/opt/tandem", "/mnt/scanner", "/etc/tandem/tandem.toml"
REPLAYED = (
    "cd /opt/tandem && make install",
    ".venv/bin/tandem init --out /etc/tandem --scans /mnt/scanner --systemd",
    ".venv/bin/tandem init --out /etc/tandem --systemd",
    "sudo -u tandem .venv/bin/tandem doctor --config /etc/tandem/tandem.toml",
)
NOT_REPLAYED = {
    f"ln -sf {AT}/.venv/bin/tandem /usr/local/bin/tandem": "/usr is this machine's, read-only",
    "editor /etc/tandem/tandem.toml": "the settings stay as init wrote them",
    "systemctl daemon-reload": "systemd is not there: the replay runs ExecStart as the unit's user",
    "systemctl enable --now tandem tandem-dashboard": "as above",
}
"""Commands that are not run, and what is done instead. In place of sudo stands setpriv."""
ETC = "alternatives ca-certificates ld.so.cache ld.so.conf ld.so.conf.d login.defs nsswitch.conf"
NETWORK_ETC = "hosts pip.conf resolv.conf ssl xdg/pip"
LIMIT_S = 1500
ASKED = (
    f"while sleep 2; do {AT}/.venv/bin/tandem status --json --config {SETTINGS} "
    "> /tmp/status.new 2>/dev/null && mv /tmp/status.new /tmp/status; "
    f"{AT}/.venv/bin/python -c 'import urllib.request as r; "
    'print(r.urlopen("http://127.0.0.1:8501/readyz").read().decode())\' '
    "> /tmp/ready.new 2>/dev/null && mv /tmp/ready.new /tmp/ready; done"
)
"""Shell loop beside the services: writes what status and dashboard answer."""

pytestmark = [pytest.mark.slow]


def commands_of_readme() -> list[str]:
    """Return the commands of the block below *On a server*, without comments."""
    text = (ROOT / "README.md").read_text().partition("## On a server")[2]
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block is not None
    lines = [line.split("  #")[0].strip() for line in block[1].splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def printed_commands(said: str) -> list[str]:
    """Return the commands that ``tandem init --systemd`` prints for root."""
    return [line.strip() for line in said.splitlines() if line.startswith("  ") and line.strip()]


def test_the_replay_knows_each_command_of_readme() -> None:
    assert [each for each in commands_of_readme() if each not in NOT_REPLAYED] == list(REPLAYED)


def test_the_replay_knows_what_init_prints(tmp_path: Path) -> None:
    said = tandem_here("init", "--out", tmp_path, "--scans", SCANS, "--systemd").stdout
    words = {each.split()[0] for each in printed_commands(said)}
    assert words == {"ln", "id", "chown", "install", "cp", "systemctl"}
    assert link_commands(Path(AT) / ".venv/bin/tandem")[0] in NOT_REPLAYED
    assert {each for each in printed_commands(said) if each.startswith("systemctl")} == {
        each for each in NOT_REPLAYED if each.startswith("systemctl")
    }


class CleanRoot:
    """A root of its own in a folder; commands run in it as root, or as another user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for each in ("etc", "tmp", "root", "proc", "dev", "usr", "var/lib", "mnt/scanner", "run"):
            (folder / each).mkdir(parents=True)
        (folder / "tmp").chmod(0o1777)
        for each in ("bin", "sbin", "lib", "lib64"):
            (folder / each).symlink_to(f"usr/{each}")
        self._fill_etc()
        self.bound = ["/usr", "/dev", *self._indexes()]

    def _fill_etc(self) -> None:
        etc = self.folder / "etc"
        for name in (*ETC.split(), *NETWORK_ETC.split()):
            source, target = Path("/etc") / name, etc / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
            elif source.exists():
                shutil.copy2(source, target)
        (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        (etc / "group").write_text("root:x:0:\nnogroup:x:65534:\n")
        for name in ("shadow", "gshadow"):
            (etc / name).write_text("root:*::\n")
        (etc / "systemd" / "system").mkdir(parents=True)

    def _indexes(self) -> list[str]:
        """Return folders that pip's settings name, such as an index on this machine."""
        pip = [sys.executable, "-m", "pip", "config", "list"]
        told = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
        paths = [Path(each) for each in re.findall(r"(?:file://)?(/[\w./-]+)", told)]
        # The files of an index may lie beside its folder of names.
        paths = [path.parent if path.name == "simple" else path for path in paths]
        return sorted({str(path) for path in paths if path.is_dir() and path.parts[1] != "etc"})

    def command(self, command: str, *, user: str = "", network: bool = True) -> list[str]:
        """Return a command line that runs a shell command in the root."""
        binds = "".join(
            f"mkdir -p {self.folder}{each} && mount --rbind {each} {self.folder}{each}\n"
            for each in self.bound
        )
        inside = f"umask 022; cd {AT}; {command}"
        if user:
            rights = f"--reuid {user} --regid {user} --init-groups"
            inside = f"exec setpriv {rights} sh -c {shlex.quote(inside)}"
        kept = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("PIP_") or name.lower().endswith("_proxy")
        }
        kept |= {"HOME": "/root", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        words = [f"{name}={value}" for name, value in kept.items()]
        script = (
            f"set -e\nmount --make-rprivate /\n{binds}"
            f"mount -o remount,bind,ro {self.folder}/usr\n"
            f"mount -t proc proc {self.folder}/proc\n"
            + ("" if network else "ip link set lo up\n")
            + f"exec env -i {shlex.join(words)} chroot {self.folder} "
            f"sh -c {shlex.quote(inside)}\n"
        )
        spaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if network else ["--net"])]
        return ["unshare", *spaces, "sh", "-c", script]

    def run(self, command: str, *, user: str = "") -> str:
        """Run a shell command; return what it said."""
        done = subprocess.run(
            self.command(command, user=user),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def clean(tmp_path: Path) -> Iterator[CleanRoot]:
    if "TANDEM_REPLAY" not in os.environ:
        pytest.skip("make replay")
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root makes a root of its own")
    root = CleanRoot(tmp_path / "root")
    (root.folder / AT[1:]).mkdir(parents=True)
    pack = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", root.folder / AT[1:]], input=pack.stdout, check=True)
    yield root
    shutil.rmtree(root.folder, ignore_errors=True)


@pytest.mark.timeout(2400)
def test_readme_alone_leads_to_a_case_and_a_dashboard(
    clean: CleanRoot, small_case: SyntheticCase, tmp_path: Path
) -> None:
    began = time.monotonic()
    for command in REPLAYED[:-1]:
        said = clean.run(command)
    for command in printed_commands(said):
        if command not in NOT_REPLAYED:
            clean.run(command)
    installed_s = time.monotonic() - began
    assert (clean.folder / "etc/systemd/system/tandem.service").is_file()
    doctor = REPLAYED[-1].removeprefix("sudo -u tandem ")
    clean.run(f"{doctor} || true", user="tandem")
    # Both services in one network of their own, without any other machine, as the units run them.
    services = " & ".join(
        re.sub("^ExecStart=", "", line)
        for unit in ("tandem", "tandem-dashboard")
        for line in (ROOT / "systemd" / f"{unit}.service").read_text().splitlines()
        if line.startswith("ExecStart=")
    )
    command = clean.command(f"{services} & {ASKED}", user="tandem", network=False)
    with (tmp_path / "services.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for slide in (small_case.he_path, small_case.ihc_path):
            shutil.copy(slide, clean.folder / SCANS[1:])
        until(lambda: delivered(clean.folder / "tmp/status"), tmp_path / "services.log")
        until((clean.folder / "tmp/ready").is_file, tmp_path / "services.log")
    finally:
        process.kill()
        process.wait(60)
    whole_s = time.monotonic() - began
    print(f"installed in {installed_s:.0f} s, first case delivered after {whole_s:.0f} s")
    assert list((clean.folder / "var/lib/tandem/archive").rglob("*.dcm"))


def delivered(status: Path) -> bool:
    """Return whether the status that was written last has a delivered case."""
    if not status.is_file():
        return False
    cases = json.loads(status.read_text())["cases"]
    return any(case["state"] == "delivered" for case in cases)


def until(holds: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(2)
