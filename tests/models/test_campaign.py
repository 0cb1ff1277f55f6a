"""A campaign: all three networks within a time, after a kill too, with few packages."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.tiles import tile
from fixtures.tiny import SEGFORMER, VIT, write_config

from models.checkpoint import load_network
from models.datasets import generated_tiles
from models.datasets.generated_tiles import GeneratedTile
from models.spec import CARD_NAME, Task
from models.training.campaign import main
from models.training.configuration import load_configuration
from models.training.record import Record

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("numpy", "opencv-python-headless", "torch", "transformers", "safetensors")
BARE = """
import sys
from models.datasets import generated_tiles
from models.training.campaign import main
drawn = generated_tiles.generated_tile(3, rough_share=1.0)
generated_tiles.generated_tile = lambda *_: drawn
status = main(sys.argv[1:])
others = {"appliance", "pydantic", "scipy", "sklearn", "PIL", "imagecodecs"} & set(sys.modules)
sys.exit(status or (f"imported: {others}" if others else 0))
"""
"""A campaign that draws one tile again and again, to be quick."""


class PowerCutError(Exception):
    """Stands for a kill."""


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    held_out = "tiles = 8\nvalidation_tiles = 8\ntest_tiles = 8"
    for task in Task:
        network = SEGFORMER if task is Task.SEGMENTATION else VIT
        write_config(tmp_path / f"{task}.toml", network.replace("tiles = 8", held_out), 2)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles of one color instead of drawn ones, and one thread."""

    def drawn(seed: int, *_: object) -> GeneratedTile:
        label = seed % 5
        pixels = tile(label, seed)
        return GeneratedTile(
            he=pixels,
            ihc=pixels,
            classes=np.full((128, 128), label, dtype=np.uint8),
            tumor=int(label > 0),
            intensity=max(0, label - 1),
        )

    monkeypatch.setattr(generated_tiles, "generated_tile", drawn)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def arguments(configs: Path, out: Path, **changed: str) -> list[str]:
    given = {"budget": "1h", "tiles": "8", "seed": "2", "device": "cpu", "rough-share": "0.25"}
    given |= {"configs": str(configs), "out": str(out)} | changed
    return [word for key, value in given.items() for word in (f"--{key}", value)]


@pytest.mark.usefixtures("quick")
def test_three_networks_their_cards_and_the_rates_also_over_a_kill(
    configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"

    def cut(record: Record, what: str, done: int, _total: int) -> None:
        record.save()
        if what == "training intensity" and done == 3:  # in the second of two epochs
            raise PowerCutError

    with monkeypatch.context() as during:
        during.setattr(Record, "progress", cut)
        with pytest.raises(PowerCutError):
            main(arguments(configs, out))
    before = json.loads((out / "campaign.json").read_text())
    assert list(before["networks"]) == ["tumor"]
    weights = out / "tumor" / "model.safetensors"
    made_at = weights.stat().st_mtime_ns
    told = capsys.readouterr().err
    assert re.search(r"draw: about \d+ s, [\d.]+ tiles/s", told)
    for task in Task:
        assert re.search(rf"{task}: about \d+ s, 2 epochs, 8 tiles drawn, ", told)

    assert main(arguments(configs, out)) == 0
    record = json.loads((out / "campaign.json").read_text())
    assert weights.stat().st_mtime_ns == made_at
    assert record["trial"] == before["trial"] and record["plan"].keys() == set(Task)
    assert record["drawing"]["tiles"] == 24  # for all three together
    assert before["used_s"] < record["used_s"] < 3600
    for task in Task:
        made = record["networks"][task]
        assert made["epochs"] == 2 and made["ended_early"] is None
        assert made["trained_per_s"] > 0 and made["whole_epoch_s"] is not None
        spec, _ = load_network(out / task)
        assert spec.name == "campaign-tiny" and spec.trained["rough_share"] == 0.25
        assert made["value"] == spec.figures[made["figure"]]
        # The file that the card's command names makes the same configuration.
        again = load_configuration(str(out / task / "campaign-tiny.toml"), task)
        assert json.loads(json.dumps(spec.trained["configuration"])) == record["plan"][task]
        assert again.tiles == 8 and again.config == record["plan"][task]["config"]
        assert "--config campaign-tiny.toml" in (out / task / CARD_NAME).read_text()
    log = (out / "intensity" / "training.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1"]
    table = (out / "campaign.md").read_text()
    assert "CPU" in table and "synthetic, 8 held-out tiles" in table
    for part in ("trial", "drawing", *Task):
        assert f"\n| {part} | " in table

    assert main(arguments(configs, out)) == 0  # finished: nothing is done again
    assert json.loads((out / "campaign.json").read_text()) == record
    assert main(arguments(configs, out, seed="4")) == 1
    assert "of other arguments" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"budget": "1s", "tiles": "8"}, "give a larger --budget"),
        ({"init": "shipped"}, "both must have the same configuration"),
        ({"init": "nowhere"}, "neither weights of Tandem"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    changed: dict[str, str], says: str, configs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*arguments(configs, tmp_path / "out", **changed), "--tasks", "tumor"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (tmp_path / "out" / "campaign.json").exists()  # another try may change arguments


def bare_packages(folder: Path) -> None:
    """Link in `folder` what `PACKAGES` and those that they need installed, and nothing else."""
    # Commands of transformers are made with typer, which needs pydantic in some of its versions.
    wanted, seen = list(PACKAGES), {"typer"}
    while wanted:
        name = re.split(r"[^\w.-]", wanted.pop())[0]
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system
        wanted += [need for need in package.requires or () if "extra ==" not in need]
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))


def test_it_runs_with_five_packages_and_models_alone(configs: Path, tmp_path: Path) -> None:
    """Without site-packages: numpy, OpenCV, torch, transformers, safetensors, and their needs."""
    bare = tmp_path / "bare"
    bare.mkdir()
    bare_packages(bare)
    assert not {"pydantic", "scipy", "sklearn", "PIL"} & {path.name for path in bare.iterdir()}
    (bare / "models").symlink_to(ROOT / "models")
    given = arguments(configs, tmp_path / "out", budget="1h")
    done = subprocess.run(
        [sys.executable, "-S", "-c", BARE, *given, "--tasks", "tumor"],
        env={**os.environ, "PYTHONPATH": str(bare), "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert load_network(tmp_path / "out" / "tumor")[0].task is Task.TUMOR
