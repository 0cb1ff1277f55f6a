"""Training: deterministic, and resumed from its checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.tiles import made
from fixtures.weights import TINY_VIT, vit_checkpoint
from numpy.typing import NDArray
from safetensors.torch import load_file
from typer.testing import CliRunner

from appliance.cli.main import app
from models.errors import DataSetError
from models.evaluation.confusion import classification_figures
from models.spec import CARD_NAME, WEIGHTS_NAME, ModelSpec, Task, file_sha256, reference_folder
from models.training.material import Examples
from models.training.train import init_may_have_seen_test, train

TINY = replace(TINY_VIT, epochs=3)


class PowerCutError(Exception):
    """Stands for a kill in the middle of an epoch."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiles that all runs of this process share."""
    return tmp_path_factory.getbasetemp() / "tiles"


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


def test_equal_seeds_make_equal_weights_also_over_a_kill(tmp_path: Path, cache: Path) -> None:
    whole, again, killed = (tmp_path / name for name in ("whole", "again", "killed"))
    spec = run(whole, cache)
    assert spec == spec.__class__(**{n: getattr(spec, n) for n in spec.__slots__})
    run(again, cache)
    with pytest.raises(PowerCutError):
        run(killed, cache, stop_at=5)  # in the third of three epochs of two steps
    assert not (killed / WEIGHTS_NAME).exists()
    (killed / "training.csv").unlink()  # the checkpoint holds its lines too
    run(killed, cache)
    weights = [(folder / WEIGHTS_NAME).read_bytes() for folder in (whole, again, killed)]
    assert weights[0] == weights[1] == weights[2]
    logs = [(folder / "training.csv").read_bytes() for folder in (whole, killed)]
    # All but the seconds; lines end alike, too.
    whole_log, killed_log = (
        [line.rpartition(b",")[0] for line in log.split(b"\n")] for log in logs
    )
    assert whole_log == killed_log
    assert [line.split(b",")[0] for line in killed_log] == [b"epoch", b"0", b"1", b"2", b""]
    assert b"\r" not in logs[0]


def test_a_run_that_is_stopped_leaves_what_it_has_learned_and_says_so(
    tmp_path: Path, cache: Path
) -> None:
    asked = iter((False, False, True))
    spec = train(
        Task.TUMOR,
        TINY,
        tmp_path,
        seed=3,
        tiles=8,
        device="cpu",
        progress=quiet,
        cache=cache,
        held_out=8,
        stop=lambda: next(asked),
    )
    assert spec.trained["ended_early"] == {"steps": 3, "of": 6}
    assert len((tmp_path / "training.csv").read_text().splitlines()) == 1 + 2
    assert "after 3 of 6 steps" in (tmp_path / CARD_NAME).read_text()
    assert (tmp_path / WEIGHTS_NAME).is_file()


def test_the_best_epoch_is_kept_also_over_a_kill(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen by the validation tiles; of equals the later. The figures are of other tiles."""
    out = tmp_path / "out"
    figures = iter((0.5, 0.75, 0.75, 0.25))  # of the three epochs; then the final one
    seen: list[dict[str, torch.Tensor]] = []
    judged: list[NDArray[np.uint8]] = []

    def scripted(_spec: ModelSpec, network: torch.nn.Module, examples: Examples, *_: object) -> Any:
        seen.append({name: t.clone() for name, t in network.state_dict().items()})
        judged.append(examples.images)
        return classification_figures(np.array([[1, 0], [0, 1]]), ("other", "tumor")) | {
            "accuracy": next(figures)
        }

    for module in ("run", "train"):
        monkeypatch.setattr(f"models.training.{module}.judge_examples", scripted)
    with pytest.raises(PowerCutError):
        run(out, cache, stop_at=5)
    spec = run(out, cache)
    assert spec.trained["kept"] == {"epoch": 2, "figure": "accuracy", "value": 0.75, "tiles": 8}
    assert spec.figures["accuracy"] == 0.25
    assert all(np.array_equal(judged[0], images) for images in judged[:3])
    assert not np.array_equal(judged[0], judged[3])
    assert all(torch.equal(seen[3][name], t) for name, t in seen[2].items())
    lines = (out / "training.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,learning_rate,validation_accuracy,seconds"
    assert [line.split(",")[3] for line in lines[1:]] == ["0.5", "0.75", "0.75"]
    figures, seen = iter((0.9, 0.5, 0.75, 0.25)), []
    with pytest.raises(PowerCutError):
        run(tmp_path / "first", cache, stop_at=5)
    assert run(tmp_path / "first", cache).trained["kept"]["epoch"] == 0
    saved = load_file(tmp_path / "first" / WEIGHTS_NAME)
    assert all(torch.equal(saved[name], t.half()) for name, t in seen[0].items())
    assert any(not torch.equal(saved[name], t.half()) for name, t in seen[2].items())
    assert "Epoch 0 (the first is 0) is kept" in (tmp_path / "first" / CARD_NAME).read_text()


def test_training_begins_with_given_weights_and_says_so(tmp_path: Path, cache: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    given = run(first, cache)
    still = replace(TINY, epochs=1, learning_rate=1e-12)
    numbers = {"seed": 3, "tiles": 8, "held_out": 8}
    spec = train(
        Task.TUMOR, still, second, device="cpu", progress=quiet, cache=cache, init=first, **numbers
    )
    assert spec.trained["init"]["sha256"] == given.sha256
    assert spec.trained["init"]["trained"]["seed"] == 3
    before, after = (load_file(folder / WEIGHTS_NAME) for folder in (first, second))
    assert all(torch.allclose(before[name], after[name], atol=1e-3) for name in before)


def test_a_training_begins_with_a_checkpoint_of_transformers(tmp_path: Path, cache: Path) -> None:
    """A head of three labels is begun anew; manifest and card name the checkpoint."""
    theirs = vit_checkpoint(tmp_path / "given", labels=3).state_dict()
    still = replace(TINY, epochs=1, learning_rate=1e-12)
    told: list[str] = []
    spec = train(
        Task.TUMOR,
        still,
        tmp_path / "out",
        seed=3,
        tiles=8,
        held_out=8,
        device="cpu",
        progress=quiet,
        tell=told.append,
        cache=cache,
        init=tmp_path / "given",
    )
    sha256 = file_sha256(tmp_path / "given" / WEIGHTS_NAME)
    init = spec.trained["init"]
    assert init["sha256"] == sha256
    assert init["architecture"] == "ViTForImageClassification"
    assert init["begun_anew"] == ["classifier.bias", "classifier.weight"]
    assert any("begun anew: classifier.bias, classifier.weight" in line for line in told)
    assert any("validation accuracy" in line for line in told)
    card = (tmp_path / "out" / CARD_NAME).read_text()
    assert sha256 in card
    assert "--config tiny.toml --tiles 8 --held-out 8 --init WEIGHTS --epochs 1 --seed 3" in card
    ours = load_file(tmp_path / "out" / WEIGHTS_NAME)
    body = {name: t for name, t in theirs.items() if name.startswith("vit.")}
    assert len(body) == len(ours) - 2
    for name, tensor in body.items():
        torch.testing.assert_close(ours[f"body.{name[4:]}"].float(), tensor, atol=1e-3, rtol=1e-3)


def test_weights_that_may_have_seen_the_test_patients_say_so(tmp_path: Path) -> None:
    """Card and manifest; weights of the same data set learned from its train split alone."""
    for patients in (6, 7):
        made(tmp_path / str(patients), Task.TUMOR, patients=patients, each=1)
    once = replace(TINY, epochs=1)

    def told(out: str, patients: int, init: str | None) -> bool:
        spec = train(
            Task.TUMOR,
            once,
            tmp_path / out,
            seed=3,
            tiles=None,
            device="cpu",
            progress=quiet,
            data_set=tmp_path / str(patients),
            init=tmp_path / init if init is not None else None,
        )
        said = "patients of the test split" in (tmp_path / out / CARD_NAME).read_text()
        assert said == spec.trained.get("init_may_have_seen_test", False)
        return said

    assert not told("first", 6, None)
    assert not told("again", 6, "first")
    assert told("other", 7, "again")
    assert told("later", 7, "other")  # by way of the weights before those that it began with


def test_a_beginning_of_unknown_or_equally_drawn_patients_may_have_seen_them() -> None:
    given = {"sha256": "aa", "source": {"kind": "folders"}}
    drawn = {"sha256": "aa", "source": {"kind": "generated", "seed": 4}}
    checkpoint = {"sha256": "bb", "format": "transformers"}
    assert init_may_have_seen_test({"data_set": given, "init": checkpoint})
    for seed, seen in ((4, True), (5, False)):
        weights = {"sha256": "bb", "trained": {"seed": seed}}
        assert init_may_have_seen_test({"data_set": drawn, "init": weights}) == seen
        assert not init_may_have_seen_test({"data_set": given, "init": weights})
    # Figures on generated tiles: no training draws their seeds.
    assert not init_may_have_seen_test({"init": {"trained": {"data_set": given, "seed": 4}}})


def test_weights_of_another_network_are_no_beginning(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataSetError, match=r"segformer for segmentation cannot begin a vit"):
        train(
            Task.TUMOR,
            TINY,
            tmp_path / "out",
            seed=3,
            tiles=8,
            device="cpu",
            progress=quiet,
            cache=cache,
            held_out=8,
            init=reference_folder(Task.SEGMENTATION),
        )


def test_weights_are_not_overwritten_by_what_begins_with_them(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["train", "tumor", "--init", str(tmp_path), "--out", str(tmp_path)]
    )
    assert isinstance(done.exception, DataSetError) and "another --out" in str(done.exception)
    assert not list(tmp_path.iterdir())
