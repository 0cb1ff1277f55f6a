"""Sets of weights: listed, verified, installed complete or not at all, selected permanently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.weights import tiny_weights
from typer.testing import CliRunner

import appliance.operations.install_weights as install_module
from appliance.cli.main import app
from appliance.errors import WeightsError
from appliance.operations.install_weights import install_weights, select_weights
from appliance.readers.chosen_weights import chosen_weights
from appliance.settings.settings import Settings
from models.errors import ManifestError
from models.spec import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME, Task, reference_folder


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


def visible(settings: Settings) -> list[str]:
    """Return names of the installed tumor weights, hidden ones included."""
    folder = settings.weights_dir / "tumor"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def flip_last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def command(settings: Settings, *arguments: object) -> tuple[int, str]:
    """Return exit status and output of ``tandem weights …``."""
    config = settings.state_dir.parent / "tandem.toml"
    config.write_text(f"state_dir = {json.dumps(str(settings.state_dir))}\n")
    done = CliRunner().invoke(
        app, ["weights", *(str(a) for a in arguments), "--config", str(config)]
    )
    message = "" if done.exception is None else str(done.exception)
    return done.exit_code, done.output + message


def test_a_lab_replaces_weights_and_goes_back(settings: Settings, tmp_path: Path) -> None:
    own = tiny_weights(tmp_path / "own")
    code, text = command(settings, "use", tmp_path / "own", "--name", "ours")
    assert (code, "tumor: ours" in text) == (0, True)
    folder, spec = chosen_weights(Task.TUMOR, settings)
    assert (folder, spec) == (settings.weights_dir / "tumor" / "ours", own)
    assert chosen_weights(Task.INTENSITY, settings)[0] == reference_folder(Task.INTENSITY)
    listed = json.loads(command(settings, "list", "--json")[1])
    assert [(e["task"], e["name"]) for e in listed if e["in_use"]] == [
        ("tumor", "ours"),
        ("intensity", "reference"),
        ("segmentation", "reference"),
    ]
    assert own.sha256[:12] in command(settings, "list")[1]
    code, _ = command(settings, "use", "tumor", "reference")
    assert code == 0
    assert chosen_weights(Task.TUMOR, settings)[0] == reference_folder(Task.TUMOR)


def test_a_changed_byte_is_refused_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    tiny_weights(tmp_path / "own")
    flip_last_byte(tmp_path / "own" / WEIGHTS_NAME)
    with pytest.raises(ManifestError, match=f"{tmp_path / 'own'}.*checksum"):
        install_weights(tmp_path / "own", settings)
    assert visible(settings) == []


@pytest.mark.parametrize("missing", [MANIFEST_NAME, WEIGHTS_NAME, CARD_NAME])
def test_a_folder_that_lacks_a_file_is_refused(
    settings: Settings, tmp_path: Path, missing: str
) -> None:
    tiny_weights(tmp_path / "own")
    (tmp_path / "own" / missing).unlink()
    code, text = command(settings, "install", tmp_path / "own")
    assert (code, missing in text) == (1, True)
    assert visible(settings) == []


def test_an_interrupted_install_leaves_nothing_visible(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupt by an exception (the block unwinds) and by a kill (a hidden folder is left)."""
    tiny_weights(tmp_path / "own")

    def cut(_source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(install_module.shutil, "copyfile", cut)
        with pytest.raises(KeyboardInterrupt):
            install_weights(tmp_path / "own", settings)
    assert visible(settings) == []
    killed = settings.weights_dir / "tumor" / ".tiny-1.0.123"
    killed.mkdir()
    assert "tiny" not in command(settings, "list")[1]
    install_weights(tmp_path / "own", settings)
    assert visible(settings) == ["tiny-1.0"]


def test_the_same_name_twice_must_be_the_same_weights(settings: Settings, tmp_path: Path) -> None:
    first = tiny_weights(tmp_path / "own")
    tiny_weights(tmp_path / "other", seed=1)
    install_weights(tmp_path / "own", settings, "ours")
    assert install_weights(tmp_path / "own", settings, "ours").spec == first
    with pytest.raises(WeightsError, match="'ours' already"):
        install_weights(tmp_path / "other", settings, "ours")
    select_weights(Task.TUMOR, "ours", settings)
    assert chosen_weights(Task.TUMOR, settings)[1] == first
    for name in ("reference", "../ours", ".ours"):
        with pytest.raises(WeightsError, match="cannot be a name"):
            install_weights(tmp_path / "own", settings, name)


def test_damage_is_found_and_mended_by_installing_again(settings: Settings, tmp_path: Path) -> None:
    tiny_weights(tmp_path / "own")
    command(settings, "use", tmp_path / "own")
    assert command(settings, "verify")[0] == 0
    flip_last_byte(settings.weights_dir / "tumor" / "tiny-1.0" / WEIGHTS_NAME)
    code, text = command(settings, "verify")
    lines = [line for line in text.splitlines() if line.startswith("TROUBLE")]
    assert (code, len(lines)) == (1, 1)
    assert "tumor tiny-1.0" in lines[0]
    assert "checksum" in lines[0]
    install_weights(tmp_path / "own", settings)
    assert command(settings, "verify")[0] == 0


def test_verify_finds_a_manifest_that_was_changed(settings: Settings, tmp_path: Path) -> None:
    tiny_weights(tmp_path / "own")
    command(settings, "use", tmp_path / "own")
    manifest = settings.weights_dir / "tumor" / "tiny-1.0" / MANIFEST_NAME
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"temperature": 0.1}))
    assert command(settings, "verify")[0] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("tumor", "other")}, "in this order"),
        ({"mpp": 0.5}, "Train for those"),
        ({"tile_px": 256}, "Train for those"),
    ],
)
def test_weights_that_cannot_serve_are_refused(
    settings: Settings, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    tiny_weights(tmp_path / "own", **change)
    with pytest.raises(WeightsError, match=message):
        install_weights(tmp_path / "own", settings)


def test_selecting_what_is_not_there_names_what_is(settings: Settings) -> None:
    code, text = command(settings, "use", "tumor", "ours")
    assert (code, "There are: reference" in text) == (1, True)
