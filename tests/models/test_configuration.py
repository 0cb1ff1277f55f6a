"""Files of configurations: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.tiny import VIT

from models.errors import DataSetError
from models.spec import Task
from models.training.card import OTHER_SEED
from models.training.configuration import as_toml, configuration_names, load_configuration


def loaded(tmp_path: Path, line: str) -> object:
    path = tmp_path / "site.toml"
    key = line.partition(" =")[0]
    kept = [one for one in VIT.format(epochs=1).splitlines() if not one.startswith(f"{key} =")]
    path.write_text("\n".join([line, *kept]))
    return getattr(load_configuration(str(path), Task.TUMOR), key)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("learning_rate = 0.0", "learning_rate 0.0: not above 0"),
        ("learning_rate = 'fast'", "learning_rate 'fast': not a number"),
        ("learning_rate = nan", "learning_rate nan: not a number"),
        ("batch_size = 2.5", "batch_size 2.5: not a whole number"),
        ("epochs = true", "epochs True: not a whole number"),
        ("tiles = 0", "tiles 0: not from 1"),
        ("warmup = 1.0", "warmup 1.0: not from 0 to below 1"),
        ("rough_share = 1.5", "rough_share 1.5: not from 0 to 1"),
        ("crop_px = 100", "crop_px 100: not a multiple of 32"),
        ("crop_px = 544", "crop_px 544: not from 64 to 512"),
        ("optimizer = 'sgd'", "optimizer 'sgd': not one of adam, adamw"),
        ("mean = [0.5, 0.5]", r"mean \(0.5, 0.5\): not three numbers"),
        ("all_tiles = 1", "all_tiles 1: not true or false"),
        ("gradient_clip = 0", "gradient_clip 0: not above 0"),
        ("kittens = 3", "unknown keys: kittens"),
    ],
)
def test_a_value_that_is_none_is_refused_with_its_name(
    line: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(DataSetError, match=rf"site\.toml: {says}"):
        loaded(tmp_path, line)


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('name = "site"\narchitecture = "vit"\ninput_px = 32\nepochs = 1\n')
    with pytest.raises(DataSetError, match="missing keys: batch_size, learning_rate, tiles"):
        load_configuration(str(path), Task.TUMOR)


def test_the_ends_of_the_ranges_are_taken(tmp_path: Path) -> None:
    assert loaded(tmp_path, "rough_share = 1") == 1
    assert loaded(tmp_path, "warmup = 0") == 0
    assert loaded(tmp_path, "gradient_clip = 0.5") == 0.5
    assert loaded(tmp_path, "mean = [0.5, 0.25, 1]") == (0.5, 0.25, 1)


@pytest.mark.parametrize("name", configuration_names())
def test_a_written_configuration_is_read_as_the_same(name: str, tmp_path: Path) -> None:
    config = load_configuration(name, Task.SEGMENTATION)
    (tmp_path / "again.toml").write_text(as_toml(config))
    assert load_configuration(str(tmp_path / "again.toml"), Task.SEGMENTATION) == config


@pytest.mark.parametrize("name", configuration_names())
def test_the_cards_command_judges_other_tiles_than_the_cards_figures(name: str) -> None:
    """Figures are on the first `test_tiles` held-out seeds; the command begins at `OTHER_SEED`."""
    task = Task.SEGMENTATION
    assert load_configuration(name, task).test_tiles <= OTHER_SEED
