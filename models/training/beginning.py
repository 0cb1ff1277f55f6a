"""Weights that a training begins with: a weights folder, or a checkpoint of transformers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MaskFormerForInstanceSegmentation,
    PreTrainedConfig,
    PreTrainedModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.utils import logging

from models.checkpoint import load_network
from models.errors import DataSetError
from models.spec import MANIFEST_NAME, WEIGHTS_NAME, ModelSpec, file_sha256

Tell = Callable[[str], None]
CONFIG_NAME = "config.json"
PREPROCESSOR_NAME = "preprocessor_config.json"
_SAME = ("task", "architecture", "config", "input_px", "mean", "std", "pixels")
"""Facts of weights that must be those of the network that they begin."""
_NAMED = 6
"""Most names of tensors in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Checkpoints of one architecture.

    `config` states a network of ours as transformers does.
    `renamed`: beginning of a tensor's name there and here. `heads`: beginnings of the names that
    may be missing or of another size; they are begun anew. `rebuilt`: buffers that the
    configuration determines. `shape`: values of config.json that must agree although the sizes of
    the tensors do not show all of them.
    """

    model: type[PreTrainedModel]
    config: Callable[[ModelSpec, Any], PreTrainedConfig]
    renamed: tuple[tuple[str, str], ...]
    heads: tuple[str, ...]
    rebuilt: tuple[str, ...] = ()
    shape: tuple[str, ...]


_SWIN = (
    "patch_size embed_dim depths num_heads window_size mlp_ratio qkv_bias hidden_act "
    "use_absolute_embeddings layer_norm_eps"
)
_DETR = (
    "num_queries decoder_layers decoder_attention_heads decoder_ffn_dim d_model activation_function"
)
_FORMS = {
    "vit": _Form(
        model=ViTForImageClassification,
        config=lambda spec, _: ViTConfig(image_size=spec.input_px, **spec.config),
        renamed=(("vit.", "body."), ("classifier.", "head.")),
        heads=("classifier.",),
        shape=tuple(
            [
                "image_size",
                "patch_size",
                "num_channels",
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "hidden_act",
                "layer_norm_eps",
                "qkv_bias",
            ]
        ),
    ),
    "segformer": _Form(
        model=SegformerForSemanticSegmentation,
        config=lambda spec, _: SegformerConfig(**spec.config),
        renamed=(("", "body."),),
        heads=("decode_head.",),
        shape=tuple(
            [
                "num_channels",
                "num_encoder_blocks",
                "depths",
                "hidden_sizes",
                "sr_ratios",
                "patch_sizes",
                "strides",
                "num_attention_heads",
                "mlp_ratios",
                "hidden_act",
                "layer_norm_eps",
            ]
        ),
    ),
    "maskformer": _Form(
        model=MaskFormerForInstanceSegmentation,
        config=lambda _, network: copy.deepcopy(network.body.config),
        renamed=(("", "body."),),
        heads=("class_predictor.",),
        rebuilt=("criterion.",),
        shape=(
            *("fpn_feature_size", "mask_feature_size"),
            *(f"backbone_config.{name}" for name in _SWIN.split()),
            *(f"decoder_config.{name}" for name in _DETR.split()),
        ),
    ),
}


def begin_with(
    network: nn.Module, spec: ModelSpec, folder: Path | None, tell: Tell
) -> dict[str, Any]:
    """Load weights to start from, if any; return where they come from, for the manifest.

    `folder` is a weights folder of the same configuration, or a checkpoint of the same architecture
    in transformers' format (``save_pretrained``: config.json, model.safetensors). Heads of other
    sizes are begun anew; `tell` gets one sentence about each kind of tensor that was not taken.

    Raises
    ------
    ManifestError
        If a weights folder is damaged.
    DataSetError
        If the folder is neither, or holds another network.
    """
    if folder is None:
        return {}
    if (folder / MANIFEST_NAME).is_file():
        return {"init": _with_weights(network, spec, folder)}
    if (folder / CONFIG_NAME).is_file():
        return {"init": _with_checkpoint(network, spec, folder, tell)}
    raise DataSetError(
        f"{folder}: neither weights of Tandem ({MANIFEST_NAME}) nor a checkpoint in transformers' "
        f"format ({CONFIG_NAME}, {WEIGHTS_NAME}). Name the folder that holds these files."
    )


def _with_weights(network: nn.Module, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    given, trained = load_network(folder)
    if any(getattr(given, name) != getattr(spec, name) for name in _SAME):
        raise DataSetError(
            f"{folder}: weights of a {given.architecture} for {given.task} cannot begin a "
            f"{spec.architecture} for {spec.task}: both must have the same configuration."
        )
    network.load_state_dict(trained.state_dict())
    return {"sha256": given.sha256, "trained": given.trained}


def _with_checkpoint(
    network: nn.Module, spec: ModelSpec, folder: Path, tell: Tell
) -> dict[str, Any]:
    raw = _read_json(folder / CONFIG_NAME)
    if raw.get("model_type") != spec.architecture:
        raise DataSetError(
            f"{folder / CONFIG_NAME}: a checkpoint of {raw.get('model_type')!r} cannot begin a "
            f"{spec.architecture}. Choose a --config of that architecture."
        )
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        found = f"{pickled[0]} is a pickle, which can run code when it is read. " * bool(pickled)
        raise DataSetError(
            f"{weights} is missing. {found}Load the checkpoint with transformers where you trust "
            "its source, and save it with save_pretrained(FOLDER, safe_serialization=True)."
        )
    form = _FORMS[spec.architecture]
    config = form.config(spec, network)
    config.update({"num_labels": len(spec.classes)})
    _check_shape(form, config, raw, folder)
    theirs, missing, unexpected = _loaded(form, config, folder)
    anew = sorted(name for name in missing if not name.startswith(form.rebuilt))
    lacking = [name for name in anew if not name.startswith(form.heads)]
    if lacking:
        raise DataSetError(
            f"{weights}: {_some(lacking)} are missing or have another size than in {spec.name}."
        )
    own = network.state_dict()
    for name, tensor in theirs.items():
        if name not in missing and not name.startswith(form.rebuilt):
            own[_renamed(form, name)] = tensor
    network.load_state_dict(own)
    _tell_all(tell, spec, folder, anew, unexpected)
    return {
        "sha256": file_sha256(weights),
        "format": "transformers",
        "architecture": (raw.get("architectures") or [spec.architecture])[0],
        "begun_anew": anew,
        "unused": unexpected,
    }


def _check_shape(form: _Form, ours: PreTrainedConfig, raw: dict[str, Any], folder: Path) -> None:
    """Compare the values of config.json that make the network.

    Raises
    ------
    DataSetError
        If one differs, or the file is unusable.
    """
    try:
        theirs = type(ours).from_dict(dict(raw))
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as err:
        raise DataSetError(f"{folder / CONFIG_NAME}: not a usable configuration: {err}") from err
    different = [
        f"{name} is {_value(theirs, name)} there and {_value(ours, name)} here"
        for name in form.shape
        if _value(theirs, name) != _value(ours, name)
    ]
    if different:
        raise DataSetError(
            f"{folder / CONFIG_NAME}: another network: {'; '.join(different[:_NAMED])}. Write its "
            "numbers under [config] of a TOML file, with its input_px, and give that as --config."
        )


def _value(config: Any, dotted: str) -> Any:
    for name in dotted.split("."):
        config = getattr(config, name, None)
    return list(config) if isinstance(config, tuple) else config


def _loaded(
    form: _Form, config: PreTrainedConfig, folder: Path
) -> tuple[dict[str, torch.Tensor], set[str], list[str]]:
    """Return the checkpoint's tensors, the names without a usable one, and those unknown here.

    Published files have the names of earlier versions of transformers, which it translates.
    """
    try:
        with _quiet():
            model, info = form.model.from_pretrained(
                str(folder),
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, ValueError, SafetensorError) as err:
        raise DataSetError(
            f"{folder / WEIGHTS_NAME}: not a usable checkpoint: {err}. Copy it again."
        ) from err
    missing = set(info["missing_keys"]) | {name for name, *_ in info["mismatched_keys"]}
    return model.state_dict(), missing, sorted(info["unexpected_keys"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' report and progress bar; ours names the same tensors."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _renamed(form: _Form, name: str) -> str:
    there, here = next(pair for pair in form.renamed if name.startswith(pair[0]))
    return here + name.removeprefix(there)


def _tell_all(
    tell: Tell, spec: ModelSpec, folder: Path, anew: list[str], unused: list[str]
) -> None:
    tell(f"Training begins with the checkpoint {folder}.")
    if anew:
        tell(f"Missing there or of another size, begun anew: {_some(anew)}.")
    if unused:
        tell(f"Not part of this network, not used: {_some(unused)}.")
    if not (folder / PREPROCESSOR_NAME).is_file():
        return
    given = _read_json(folder / PREPROCESSOR_NAME)
    stated = [given.get("image_mean"), given.get("image_std")]
    if spec.pixels != "rgb" or stated != [list(spec.mean), list(spec.std)]:
        tell(
            f"The checkpoint was trained on RGB of mean and deviation {stated}; {spec.name} gives "
            f"it {spec.pixels} of {[list(spec.mean), list(spec.std)]}."
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise DataSetError(f"{path}: not readable as JSON: {err}. Copy the file again.") from err
    if not isinstance(found, dict):
        raise DataSetError(f"{path}: not a JSON object. Copy the file again.")
    return found


def _some(names: list[str]) -> str:
    """Names in a sentence, the first few in full."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
