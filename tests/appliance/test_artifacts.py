"""Artifacts: complete or absent."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fixtures.damage import flip

from appliance.artifacts import (
    SUMS_NAME,
    ArtifactKey,
    ArtifactStore,
    adopt,
    file_is_as_written,
    is_as_written,
    is_unchecked,
    require_usable,
    write_whole,
)
from appliance.errors import ArtifactDamagedError, StateFolderError


def test_an_interrupted_writer_leaves_no_artifact(tmp_path: Path) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")

    def interrupted() -> None:
        with store.writing(key) as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not store.has(key)
    with store.writing(key) as folder:
        (folder / "whole").write_text("x")
    assert store.has(key)
    assert sorted(p.name for p in store.path(key).iterdir()) == ["SHA256SUMS", "whole"]


def test_the_first_of_two_writers_stays(tmp_path: Path) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")
    with store.writing(key) as late:
        (late / "file").write_text("late")
        with store.writing(key) as early:
            (early / "file").write_text("early")
    assert (store.path(key) / "file").read_text() == "early"
    assert store.sweep() == 0


def test_sweep_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    (tmp_path / "step" / ".abc.123").mkdir(parents=True)
    assert store.sweep() == 1
    assert list((tmp_path / "step").iterdir()) == []


def test_sweep_leaves_what_another_process_writes(tmp_path: Path) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("pictures", case="a")
    with store.writing(key) as folder:
        (folder / "file").write_text("x")
        code = "import sys; from pathlib import Path; from appliance.artifacts import ArtifactStore"
        command = [sys.executable, "-c", f"{code}; print(ArtifactStore(Path(sys.argv[1])).sweep())"]
        swept = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=True)
        assert swept.stdout == "0\n"
    assert store.has(key)


def test_keys_depend_on_everything_named() -> None:
    one = ArtifactKey.of("step", slide="a", weights="w")
    assert one == ArtifactKey.of("step", weights="w", slide="a")
    assert one != ArtifactKey.of("step", slide="a", weights="v")
    assert ArtifactKey.parse(str(one)) == one


def test_write_whole_replaces_at_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def written(store: ArtifactStore, key: ArtifactKey) -> Path:
    """Write an artifact of two files, and return its folder."""
    with store.writing(key) as folder:
        (folder / "a.bin").write_bytes(bytes(1000))
        (folder / "below").mkdir()
        (folder / "below" / "b.txt").write_text("b")
    return store.path(key)


@pytest.mark.parametrize("name", ["a.bin", "below/b.txt", SUMS_NAME])
def test_flipped_bits_are_seen_and_the_result_is_made_again(tmp_path: Path, name: str) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")
    flip(written(store, key) / name)
    with pytest.raises(ArtifactDamagedError, match="made again"):
        store.has(key)
    assert not store.has(key)
    assert store.sweep() == 0
    written(store, key)
    assert store.has(key)


def test_a_lost_and_an_added_file_are_seen(tmp_path: Path) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")
    (written(store, key) / "a.bin").unlink()
    assert not file_is_as_written(store.path(key) / "a.bin")
    with pytest.raises(ArtifactDamagedError):
        store.has(key)
    (written(store, key) / "more").touch()
    with pytest.raises(ArtifactDamagedError):
        store.has(key)


def test_sha256sum_reads_the_checksums(tmp_path: Path) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")
    folder = written(store, key)
    command = ["sha256sum", "--check", "--strict", SUMS_NAME]
    assert subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode == 0


def test_an_artifact_without_checksums_is_made_again_or_adopted(tmp_path: Path) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")
    folder = written(store, key)
    (folder / SUMS_NAME).unlink()
    assert is_unchecked(folder) and not is_as_written(folder)
    adopt(folder)
    assert store.has(key)
    (folder / SUMS_NAME).unlink()
    with pytest.raises(ArtifactDamagedError):
        store.has(key)


def test_what_another_process_made_again_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")
    written(store, key)
    looks = iter([False, True, True])  # damaged when it was read, sound when it was moved away
    with monkeypatch.context() as patched:
        patched.setattr("appliance.artifacts.is_as_written", lambda _folder: next(looks))
        with pytest.raises(ArtifactDamagedError):
            store.has(key)
        assert store.has(key)
    assert is_as_written(store.path(key))


@pytest.mark.parametrize("text", ["../../x", "step/../x", "step", "/etc/passwd", "step/a/b", ""])
def test_no_path_is_built_from_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="not the key"):
        ArtifactKey.parse(text)


@pytest.mark.parametrize(
    ("name", "owner", "holds", "usable"),
    [
        ("lost+found", 0, "", True),
        ("@eaDir", 0, "", True),
        ("snapshots", 1, "daily", True),
        ("wsm", 0, "", False),
        ("wsm", 1, "0" * 32, False),  # a command of an administrator made it
    ],
)
def test_folders_of_others_among_the_results_do_not_say_that_none_can_be_stored(
    name: str, owner: int, holds: str, usable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    if holds:
        (tmp_path / name / holds).mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / name).stat().st_uid + owner)
    made = tempfile.TemporaryFile

    def refused(dir: Path) -> Any:
        """No rights keep root from a folder."""
        if dir.name == name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return made(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with nullcontext() if usable else pytest.raises(StateFolderError, match="rights"):
        require_usable(tmp_path)
