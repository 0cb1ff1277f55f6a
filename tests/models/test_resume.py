"""Resume: a killed training run goes on and ends with the bytes of an uninterrupted run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.daemon import tandem, tandem_here
from fixtures.tiles import made
from fixtures.tiny import SEGFORMER, VIT, write_config

from models.datasets.store import read_data_set_manifest
from models.spec import MANIFEST_NAME, WEIGHTS_NAME, Task, file_sha256, read_manifest

EPOCHS = 6
KILLED = """
import os, signal, sys
from models.training.run import Run
kept = Run._checkpoint
def killed(run, epoch):
    kept(run, epoch)
    os.kill(os.getpid(), signal.SIGKILL)
Run._checkpoint = killed
"""
"""Begin of a program that is killed once its first checkpoint is there."""
COMMAND = "from appliance.cli.main import main\nmain()"
GENERATED = """
import sys
from pathlib import Path
from models.spec import Task
from models.training.configuration import load_configuration
from models.training.train import train
config, out, cache = sys.argv[1:]
train(Task.SEGMENTATION, load_configuration(config, Task.SEGMENTATION), Path(out), seed=2, tiles=8,
      device="cpu", progress=lambda *_: None, cache=Path(cache), held_out=4)
"""
"""`tandem train` without --data, but for the 400 held-out tiles that it would generate."""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread: several may add in another order, and the last bits differ."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def kill_after_an_epoch(program: str, arguments: list[str], out: Path) -> None:
    command = [sys.executable, "-c", KILLED + program, *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (out / "checkpoint.safetensors").exists()
    assert not (out / WEIGHTS_NAME).exists()


def epochs_of(out: Path) -> list[str]:
    lines = (out / "training.csv").read_text().splitlines()
    return [line.split(",")[0] for line in lines]


def same_weights(whole: Path, killed: Path) -> None:
    assert (whole / WEIGHTS_NAME).read_bytes() == (killed / WEIGHTS_NAME).read_bytes()
    assert epochs_of(whole) == epochs_of(killed) == ["epoch", *(str(k) for k in range(EPOCHS))]
    # The manifest counts the time before the kill too.
    lines = (killed / "training.csv").read_text().splitlines()[1:]
    total = sum(float(line.rsplit(",", 1)[1]) for line in lines)
    assert read_manifest(killed).trained["seconds"] == round(total)


def test_killed_while_learning_from_a_data_set(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made(data, Task.INTENSITY)
    config = write_config(tmp_path / "tiny.toml", VIT, EPOCHS)
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def arguments(out: Path) -> list[str]:
        given = ("train", "intensity", "--data", data, "--config", config, "--device", "cpu")
        return [*(str(a) for a in given), "--seed", "5", "--out", str(out)]

    kill_after_an_epoch(COMMAND, arguments(killed), killed)
    tandem(*arguments(whole))
    tandem(*arguments(killed))
    same_weights(whole, killed)
    manifest = json.loads((killed / MANIFEST_NAME).read_text())
    told = manifest["trained"]["data_set"]
    assert told["sha256"] == file_sha256(data / MANIFEST_NAME)
    counts = read_data_set_manifest(data).counts
    assert told["counts"]["train"]["tiles"] == counts["train"].tiles == manifest["trained"]["tiles"]
    assert manifest["figures"]["n"] == counts["test"].tiles
    assert told["sha256"][:12] in (killed / "MODEL_CARD.md").read_text()


def test_killed_while_learning_from_generated_tiles(tmp_path: Path) -> None:
    """SegFormer: its dropout draws random numbers that a resume must draw again."""
    config = write_config(tmp_path / "tiny.toml", SEGFORMER, EPOCHS)
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def command(out: Path) -> list[str]:
        return [sys.executable, "-c", GENERATED, str(config), str(out), str(tmp_path / "cache")]

    kill_after_an_epoch(GENERATED, command(killed)[3:], killed)
    for out in (whole, killed):
        subprocess.run(command(out), check=True, capture_output=True)
    same_weights(whole, killed)


def test_a_checkpoint_of_other_data_is_not_taken_up(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.toml", VIT, 2)
    for patients in (6, 7):
        made(tmp_path / str(patients), Task.TUMOR, patients=patients)

    def run(patients: int, out: str) -> bytes:
        folder = tmp_path / out
        tandem_here(
            "train",
            "tumor",
            "--data",
            tmp_path / str(patients),
            "--config",
            config,
            "--out",
            folder,
        )
        return (folder / WEIGHTS_NAME).read_bytes()

    run(6, "both")
    assert run(7, "both") == run(7, "alone")


def test_a_damaged_checkpoint_is_told_and_begun_anew(tmp_path: Path) -> None:
    """A power cut can leave an empty file, or one that is cut off."""
    made(tmp_path / "data", Task.TUMOR)
    config = write_config(tmp_path / "tiny.toml", VIT, 1)
    command = ("train", "tumor", "--data", tmp_path / "data", "--config", config, "--out")
    tandem_here(*command, tmp_path / "whole")
    kept = tmp_path / "cut" / "checkpoint.safetensors"
    for length in (0, 1000):
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes((tmp_path / "whole" / kept.name).read_bytes()[:length])
        said = tandem_here(*command, kept.parent).stderr
        assert "checkpoint.safetensors is damaged" in said and "begins anew" in said
        weights = (tmp_path / folder / WEIGHTS_NAME for folder in ("whole", "cut"))
        assert len({path.read_bytes() for path in weights}) == 1
    images = next((kept.parent / "tiles").glob("*-train/images.npy"))
    images.write_bytes(images.read_bytes()[:1000])
    failed = tandem_here(*command, kept.parent, check=False)
    assert failed.returncode == 1 and "images.npy: damaged" in failed.stderr


def test_a_training_that_diverges_writes_no_weights(tmp_path: Path) -> None:
    made(tmp_path / "data", Task.TUMOR)
    config = write_config(tmp_path / "tiny.toml", VIT, 4)
    lines = [line for line in config.read_text().splitlines() if "gradient_clip" not in line]
    fast = ["learning_rate = 1e30" if "learning_rate" in line else line for line in lines]
    config.write_text("\n".join(fast))
    command = ("train", "tumor", "--data", tmp_path / "data", "--config", config, "--out")
    failed = tandem_here(*command, tmp_path / "out", check=False)
    assert failed.returncode == 1 and "Lower learning_rate" in failed.stderr
    assert not (tmp_path / "out" / WEIGHTS_NAME).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("segmentation", "--data", "DATA"), "a data set for tumor, not for segmentation"),
        (("tumor", "--data", "DATA/tiles"), "manifest.json: No such file"),
        (("tumor", "--data", "DATA", "--tiles", "8"), "--tiles counts generated tiles"),
        (("tumor", "--data", "DATA", "--held-out", "8"), "--held-out counts generated tiles"),
        (("tumor", "--data", "DATA", "--config", "nothing"), "no configuration 'nothing'"),
        (("tumor", "--data", "DATA", "--config", "DATA/none.toml"), "no configuration"),
        (("segmentation", "--config", "CONFIG"), "tiny: a vit cannot do segmentation"),
        (("tumor", "--seed", "890"), "Take a seed below 890"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    made(tmp_path / "data", Task.TUMOR)
    config = write_config(tmp_path / "tiny.toml", VIT, 1)
    data = str(tmp_path / "data")
    given = [a.replace("DATA", data).replace("CONFIG", str(config)) for a in arguments]
    done = tandem_here("train", *given, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_keys_of_a_file_are_named(tmp_path: Path) -> None:
    config = write_config(tmp_path / "tiny.toml", VIT.replace("tiles = 8", "tils = 8"), 1)
    done = tandem_here("train", "tumor", "--config", config, "--out", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert "tiny.toml" in done.stderr
    assert "tils" in done.stderr
    assert "Traceback" not in done.stderr
