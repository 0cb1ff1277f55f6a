"""Judges that are missing: CI fails, at once and by their names; elsewhere their tests skip."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fixtures.judges import require_judge

SCRIPT = Path(__file__).with_name("install-judges.sh")


@pytest.mark.parametrize("ci", ["true", ""])
def test_a_machine_without_judges_and_apt_says_what_is_missing(tmp_path: Path, ci: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "ls", "grep", "id", "dirname"):
        (programs / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer" / "install.sh").write_text("exit 1\n")
    done = subprocess.run(
        ["sh", str(shutil.copy(SCRIPT, tmp_path))],
        env={"PATH": str(programs), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (1 if ci else 0)
    for name in ("orthanc", "dicom3tools", "prometheus", "systemd", "dicom-microscopy-viewer"):
        assert f"judge missing: {name}\n" in done.stdout


@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_a_test_without_its_judge_fails_where_ci_runs_it(
    ci: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(os.environ, "CI", ci)
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    either = (pytest.fail.Exception, pytest.skip.Exception)  # one that skips would skip this test
    with pytest.raises(either, match="judge missing: promtool") as found:
        require_judge("promtool")
    assert found.type is outcome
