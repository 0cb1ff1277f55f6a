"""Artifacts: complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.artifacts import ArtifactKey, ArtifactStore, write_whole


def test_an_interrupted_writer_leaves_no_artifact(tmp_path: Path) -> None:
    store, key = ArtifactStore(tmp_path), ArtifactKey.of("step", slide="a")

    def interrupted() -> None:
        with store.writing(key) as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not store.exists(key)
    with store.writing(key) as folder:
        (folder / "whole").write_text("x")
    assert [p.name for p in store.path(key).iterdir()] == ["whole"]


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
