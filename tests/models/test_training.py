"""Training: deterministic, and resumed from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fixtures.weights import TINY_VIT
from safetensors.torch import load_file
from typer.testing import CliRunner

from appliance.cli.main import app
from models.errors import DataSetError
from models.spec import WEIGHTS_NAME, ModelSpec, Task, reference_folder
from models.training.train import train

TINY = TINY_VIT.model_copy(update={"epochs": 3})


class PowerCutError(Exception):
    """Stands for a kill in the middle of an epoch."""


def quiet(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def run(out: Path, cache: Path, stop_at: int | None = None) -> ModelSpec:
    def progress(what: str, done: int, _total: int) -> None:
        if stop_at is not None and what.startswith("training") and done == stop_at:
            raise PowerCutError

    return train(
        Task.TUMOR,
        TINY,
        out,
        seed=3,
        tiles=8,
        device="cpu",
        progress=progress,
        cache=cache,
        held_out=8,
    )


def test_equal_seeds_make_equal_weights_also_over_a_kill(tmp_path: Path) -> None:
    cache = tmp_path / "tiles"
    whole, again, killed = (tmp_path / name for name in ("whole", "again", "killed"))
    spec = run(whole, cache)
    assert spec == spec.__class__(**{n: getattr(spec, n) for n in spec.__slots__})
    run(again, cache)
    with pytest.raises(PowerCutError):
        run(killed, cache, stop_at=5)  # in the third of three epochs of two steps
    assert not (killed / WEIGHTS_NAME).exists()
    run(killed, cache)
    weights = [(folder / WEIGHTS_NAME).read_bytes() for folder in (whole, again, killed)]
    assert weights[0] == weights[1] == weights[2]
    log = (killed / "training.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1", "2"]


def test_training_begins_with_given_weights_and_says_so(tmp_path: Path) -> None:
    cache, first, second = (tmp_path / name for name in ("tiles", "first", "second"))
    given = run(first, cache)
    still = TINY.model_copy(update={"epochs": 1, "learning_rate": 1e-12})
    numbers = {"seed": 4, "tiles": 8, "held_out": 8}
    spec = train(
        Task.TUMOR, still, second, device="cpu", progress=quiet, cache=cache, init=first, **numbers
    )
    assert spec.trained["init"]["sha256"] == given.sha256
    assert spec.trained["init"]["trained"]["seed"] == 3
    before, after = (load_file(folder / WEIGHTS_NAME) for folder in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-3) for name in before)


def test_weights_of_another_network_are_no_beginning(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"segformer for segmentation cannot begin a vit"):
        train(
            Task.TUMOR,
            TINY,
            tmp_path / "out",
            seed=3,
            tiles=8,
            device="cpu",
            progress=quiet,
            cache=tmp_path / "tiles",
            held_out=8,
            init=reference_folder(Task.SEGMENTATION),
        )


def test_weights_are_not_overwritten_by_what_begins_with_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["train", "tumor", "--init", str(tmp_path), "--out", str(tmp_path)]
    )
    assert isinstance(done.exception, DataSetError) and "another --out" in str(done.exception)
    assert not list(tmp_path.iterdir())
