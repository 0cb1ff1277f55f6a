"""Configurations of training: all hyper-parameters, in TOML files that ship with the package.

They are read without pydantic: training needs few packages, so that it runs where a GPU is.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from models.errors import DataSetError
from models.spec import CLASSES, TILE_PX, ModelSpec, Task

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, slots=True)
class _Range:
    """Range of a number: `low` to `high`, both included unless `above` or `below` says not."""

    low: float = 0
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'from'} {self.low:g}"
        if self.high == math.inf:
            return low
        return f"{low} {'to below' if self.below else 'to'} {self.high:g}"


_Count = Annotated[int, _Range(1)]
_Positive = Annotated[float, _Range(0, above=True)]
_Share = Annotated[float, _Range(0, 1)]
_PartialShare = Annotated[float, _Range(0, 1, below=True)]
_Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Content of a TOML file in `CONFIGS`.

    What a file does not name is not done: no schedule, no augmentation, no smoothing, no clipping.
    arXiv 2512.22335 names none of them.

    Raises
    ------
    ValueError
        If a value is of another type, out of its range, or does not fit the others.
    """

    name: str
    """Name of the resulting weights."""
    architecture: Literal["vit", "segformer", "maskformer"]
    input_px: _Count
    """Edge of the network's input in px."""
    pixels: Literal["optical-density", "rgb"] = "optical-density"
    mean: _Triple = (0.25, 0.25, 0.25)
    """Mean of the network's input: mean optical density of tissue."""
    std: _Triple = (0.25, 0.25, 0.25)
    learning_rate: _Positive
    batch_size: _Count
    epochs: _Count
    tiles: _Count
    """Generated tiles for training, unless the caller asks for another number."""
    validation_tiles: _Count = 400
    """Generated tiles that choose the epoch and fit the temperature; they train nothing."""
    test_tiles: _Count = 400
    """Generated tiles of the final figures; they train and choose nothing."""
    all_tiles: bool = False
    """Whether L and M use every generated tile; otherwise those with tumor, and in training some
    without."""
    stained_stroma_tiles: Annotated[int, _Range(0)] = 0
    """Additional generated tiles of tumor of 0 or 1+ in DAB-stained stroma."""
    rough_share: _Share = 0.0
    """Share of the generated tiles that are drawn with irregular outlines and uneven stain."""
    crop_px: Annotated[int, _Range(64, TILE_PX)] = TILE_PX
    """Edge in px of the crops that train M, a multiple of 32; the default is the whole tile."""
    loss: Literal["pixel", "mask"] = "pixel"
    """``pixel``: cross-entropy per px or tile. ``mask``: the Hungarian loss of MaskFormer."""
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: Annotated[float, _Range(0)] = 0.0
    schedule: Literal["none", "cosine"] = "none"
    """Course of the learning rate after the warm-up: constant, or half a cosine down to 0.1 %."""
    warmup: _PartialShare = 0.0
    """Share of the steps over which the learning rate rises."""
    gradient_clip: _Positive | None = None
    """Greatest norm of the gradient of a step."""
    label_smoothing: _PartialShare = 0.0
    """Of the loss ``pixel``."""
    augmentation: Literal["none", "stain-and-camera"] = "none"
    """``stain-and-camera``: `models.training.augmentation`, and crops of varying size."""
    config: dict[str, Any] = field(default_factory=dict)
    """Parameters of the architecture."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(TrainingConfig, include_extras=True).items():
            _check(name, getattr(self, name), kind)
        if self.crop_px % 32:
            raise ValueError(f"crop_px {self.crop_px}: not a multiple of 32")
        if self.loss == "mask" and self.architecture != "maskformer":
            raise ValueError(f"loss 'mask' is that of a maskformer, not of a {self.architecture}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """Return the configuration of a file's content.

        Raises
        ------
        ValueError
            If a key is unknown or missing, or a value is none.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        needed = {
            f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING
        }
        missing = sorted(needed - set(values))
        for names, said in ((unknown, "unknown keys"), (missing, "missing keys")):
            if names:
                raise ValueError(f"{said}: {', '.join(names)}")
        given: dict[str, Any] = dict(values)
        given |= {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
        return cls(**given)

    def spec(self, task: Task) -> ModelSpec:
        """Return the spec of an untrained network for `task`.

        Raises
        ------
        DataSetError
            If the architecture cannot do the task, or for segmentation with another `input_px`.
        """
        if (task is Task.SEGMENTATION) == (self.architecture == "vit"):
            raise DataSetError(f"{self.name}: a {self.architecture} cannot do {task}")
        if task is Task.SEGMENTATION and self.input_px != TILE_PX:
            # Training uses tiles, or crops of them, at full resolution; answers are for tiles.
            raise DataSetError(f"{self.name}: input_px is {TILE_PX} for {task}, nothing else")
        return ModelSpec(
            name=self.name,
            version="0",
            task=task,
            architecture=self.architecture,
            input_px=self.input_px,
            classes=CLASSES[task],
            mean=self.mean,
            std=self.std,
            pixels=self.pixels,
            config=self.config,
        )


def _check(name: str, value: object, kind: Any) -> None:
    """Raise ValueError if a value is not of an annotated type."""
    if type(None) in get_args(kind):
        if value is not None:
            _check(name, value, get_args(kind)[0])
        return
    span: _Range | None = None
    if get_origin(kind) is Annotated:
        kind, span = get_args(kind)
    if not _is_of(value, kind):
        raise ValueError(f"{name} {value!r}: not {_words(kind)}")
    if span is not None and isinstance(value, int | float) and value not in span:
        raise ValueError(f"{name} {value!r}: not {span}")


def _is_of(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        several = get_args(kind)
        return (
            isinstance(value, tuple)
            and len(value) == len(several)
            and all(_is_of(one, of) for one, of in zip(value, several, strict=True))
        )
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return math.isfinite(value)
    return type(value) is (get_origin(kind) or kind)


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return words.get(kind, "three numbers" if get_origin(kind) is tuple else "a table")


def as_toml(config: TrainingConfig) -> str:
    """Return the text of a file of which `load_configuration` makes the same configuration."""
    values = {key: value for key, value in asdict(config).items() if value is not None}
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)  # which is TOML for texts, numbers, truths and lists of them


def configuration_names() -> list[str]:
    """Names that `load_configuration` knows."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def load_configuration(name: str, task: Task) -> TrainingConfig:
    """Load a named configuration or a file. ``reference`` and ``paper`` depend on the task.

    Raises
    ------
    DataSetError
        If it does not exist, has unknown or missing keys, or a value that is none.
    """
    named = f"{name}-{task}" if name in ("reference", "paper") else name
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{named}.toml"
    if not path.is_file():
        known = ", ".join(configuration_names())
        raise DataSetError(f"no configuration {name!r}. There are: {known}; or name a .toml file.")
    try:
        return TrainingConfig.of(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except ValueError as err:
        raise DataSetError(f"{path}: {err}") from err
