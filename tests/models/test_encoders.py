"""Encoder folders: what is read, and what is refused in one clear line."""

from __future__ import annotations

import errno
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTForImageClassification

from models.encoders.describe import main as describe
from models.encoders.load import Encoder, load_encoder
from models.encoders.spec import EncoderSpec, read_encoder, reference_encoder, verify_encoder
from models.errors import ManifestError
from models.spec import MANIFEST_NAME, WEIGHTS_NAME, check_weights, file_sha256


def tiles(count: int, px: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (count, px, px, 3), dtype=np.uint8)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Return a copy of the folder that ships."""
    return Path(shutil.copytree(reference_encoder(), tmp_path / "encoder"))


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a tiny vision transformer with a head, exported by transformers."""
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        image_size=32, patch_size=8, num_labels=3,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def test_the_encoder_that_ships_gives_what_its_manifest_states() -> None:
    encoder = load_encoder(reference_encoder())
    given = tiles(3, encoder.spec.tile_px)
    found = encoder.encode(given)
    assert found.shape == (3, encoder.spec.dimension)
    assert found.dtype == np.float32
    assert np.array_equal(found, encoder.encode(given))
    assert not np.allclose(found[0], found[1])
    # A vector does not depend on the other tiles of its batch.
    np.testing.assert_allclose(found[1], encoder.encode(given[1:2])[0], atol=1e-4)


def test_an_exported_transformer_gives_its_class_token(theirs: Path) -> None:
    arguments = ["--name", "tiny", "--mpp", "0.5", "--tile-px", "32", "--license", "ours"]
    assert describe([str(theirs), *arguments]) == 0
    encoder = load_encoder(theirs)
    assert encoder.spec.dimension == 24
    given = tiles(2, 32)
    mean, std = torch.tensor(encoder.spec.mean), torch.tensor(encoder.spec.std)
    pixels = ((torch.from_numpy(given) / 255 - mean) / std).permute(0, 3, 1, 2).float()
    judge = ViTForImageClassification.from_pretrained(theirs).eval()
    with torch.inference_mode():
        expected = judge.vit(pixels).last_hidden_state[:, 0]
    np.testing.assert_allclose(encoder.encode(given), expected.numpy(), atol=1e-5)


def test_an_exported_dinov2_is_read_without_its_mask_token(tmp_path: Path) -> None:
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path)
    assert describe([str(tmp_path), "--name", "d", "--mpp", "0.5", "--tile-px", "28"]) == 0
    assert load_encoder(tmp_path).encode(tiles(1, 28)).shape == (1, 16)


def test_an_encoder_that_takes_no_such_tiles_is_refused_where_it_is_described(
    theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert describe([str(theirs), "--name", "x", "--mpp", "0.5", "--tile-px", "40"]) == 1
    said = capsys.readouterr().err
    assert "40" in said and said.count("\n") == 1
    assert not (theirs / MANIFEST_NAME).exists()
    # Tiles in which no slide is read, though the network takes them.
    assert describe([str(theirs), "--name", "x", "--mpp", "8", "--tile-px", "32"]) == 1
    assert "256 µm are larger" in capsys.readouterr().err
    assert not (theirs / MANIFEST_NAME).exists()
    # Weights in several files, as large exports have them.
    (theirs / WEIGHTS_NAME).rename(theirs / "model-00001-of-00001.safetensors")
    assert describe([str(theirs), "--name", "x", "--mpp", "0.5", "--tile-px", "32"]) == 1
    assert "max_shard_size" in capsys.readouterr().err


def test_numbers_that_no_bag_can_hold_are_refused(
    theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(theirs / WEIGHTS_NAME)
    tensors["vit.layernorm.bias"].fill_(70_000)
    save_file(tensors, theirs / WEIGHTS_NAME, metadata={"format": "pt"})
    assert describe([str(theirs), "--name", "x", "--mpp", "0.5", "--tile-px", "32"]) == 1
    said = capsys.readouterr().err
    assert f"{theirs}: " in said and "float16" in said


def test_weights_that_cannot_be_read_are_refused(ours: Path) -> None:
    (ours / WEIGHTS_NAME).unlink()
    (ours / WEIGHTS_NAME).symlink_to("/proc/self/mem")  # EIO at its first byte
    assert "cannot be read: Input/output error" in refusal(ours)


@contextmanager
def without_open_files() -> Iterator[None]:
    """Leave this process no file that it could open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("call", [verify_encoder, load_encoder])
def test_an_encoder_is_not_to_blame_where_too_many_files_are_open(
    call: Callable[[Path], object], ours: Path
) -> None:
    call(ours)
    with without_open_files(), pytest.raises(OSError) as caught:
        call(ours)
    assert caught.value.errno == errno.EMFILE


def test_weights_are_not_to_blame_where_too_many_files_are_open(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = read_encoder(ours)
    with without_open_files(), pytest.raises(OSError) as caught:
        check_weights(ours, spec.sha256)
    assert caught.value.errno == errno.EMFILE
    # There may be one less when they are loaded than when they were verified.
    monkeypatch.setattr("models.encoders.load.verify_encoder", lambda _: spec)
    with without_open_files(), pytest.raises(OSError) as caught:
        load_encoder(ours)
    assert caught.value.errno == errno.EMFILE


def test_an_encoder_is_not_to_blame_where_memory_lacks(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is that of torch's allocator, and not the encoder's."""
    # More than a process can address: less is given where the kernel promises any memory.
    monkeypatch.setattr(Encoder, "encode", lambda *_: torch.empty(2**48, dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_encoder(ours)


def refusal(folder: Path) -> str:
    """Return the message with which a folder is refused: one line."""
    with pytest.raises(ManifestError) as caught:
        load_encoder(folder)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_changed_weights_are_refused(ours: Path) -> None:
    weights = ours / WEIGHTS_NAME
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert "checksum" in refusal(ours)


def test_weights_that_are_no_numbers_are_refused(ours: Path) -> None:
    tensors = load_file(ours / WEIGHTS_NAME)
    for tensor in tensors.values():
        tensor.fill_(torch.nan)
    save_file(tensors, ours / WEIGHTS_NAME)
    spec = replace(read_encoder(ours), sha256=file_sha256(ours / WEIGHTS_NAME))
    (ours / MANIFEST_NAME).write_text(spec.to_json())
    assert "no finite number" in refusal(ours)


def test_another_dimension_is_refused(ours: Path) -> None:
    spec = read_encoder(ours)
    (ours / MANIFEST_NAME).write_text(replace(spec, dimension=1024).to_json())
    said = refusal(ours)
    assert "1024" in said and str(spec.dimension) in said


def test_pickled_weights_are_refused_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04never read")
    said = refusal(tmp_path)
    assert "pickled" in said and "pytorch_model.bin" in said
    assert describe([str(tmp_path), "--name", "x", "--mpp", "0.5"]) == 1


def test_a_pickle_under_the_name_of_safetensors_is_refused(ours: Path) -> None:
    (ours / WEIGHTS_NAME).write_bytes(b"\x80\x04}q\x00.")
    spec = read_encoder(ours)
    sha256 = file_sha256(ours / WEIGHTS_NAME)
    (ours / MANIFEST_NAME).write_text(replace(spec, sha256=sha256).to_json())
    assert "do not fit" in refusal(ours)


def test_an_unknown_architecture_is_refused(
    ours: Path, theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = json.loads((ours / MANIFEST_NAME).read_text())
    (ours / MANIFEST_NAME).write_text(json.dumps(raw | {"architecture": "resnet-9000"}))
    assert "resnet-9000" in refusal(ours)
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    assert describe([str(theirs), "--name", "x", "--mpp", "0.5", "--tile-px", "32"]) == 1
    assert "bert" in capsys.readouterr().err


def test_a_configuration_that_changed_since_it_was_described_is_refused(theirs: Path) -> None:
    assert describe([str(theirs), "--name", "x", "--mpp", "0.5", "--tile-px", "32"]) == 0
    path = theirs / "config.json"
    path.write_text(path.read_text() + " ")
    assert "config.json" in refusal(theirs)


def test_missing_tensors_are_refused(
    ours: Path, theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(theirs / WEIGHTS_NAME)
    name = next(name for name in tensors if name.endswith("layernorm.weight"))
    tensors.pop(name)
    save_file(tensors, theirs / WEIGHTS_NAME, metadata={"format": "pt"})
    assert describe([str(theirs), "--name", "x", "--mpp", "0.5", "--tile-px", "32"]) == 1
    assert "1 tensors are missing, such as layernorm.weight" in capsys.readouterr().err

    tensors = load_file(ours / WEIGHTS_NAME)
    tensors.pop("stem.bias")
    save_file(tensors, ours / WEIGHTS_NAME)
    spec = replace(read_encoder(ours), sha256=file_sha256(ours / WEIGHTS_NAME))
    (ours / MANIFEST_NAME).write_text(spec.to_json())
    assert "stem.bias" in refusal(ours)


def test_the_fingerprint_follows_what_a_vector_depends_on() -> None:
    spec: EncoderSpec = verify_encoder(reference_encoder())
    assert replace(spec, license="other", figures={}).fingerprint == spec.fingerprint
    for changed in (
        replace(spec, mpp=0.5),
        replace(spec, sha256="0"),
        replace(spec, mean=(0, 0, 0)),
    ):
        assert changed.fingerprint != spec.fingerprint
