"""Training: deterministic, and resumed from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.weights import TINY_VIT

from models.spec import WEIGHTS_NAME, ModelSpec, Task
from models.training.train import train

TINY = TINY_VIT.model_copy(update={"epochs": 3})


class PowerCutError(Exception):
    """Stands for a kill in the middle of an epoch."""


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
