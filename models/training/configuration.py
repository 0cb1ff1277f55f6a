"""Named training configurations in TOML, torch-free: architecture and hyperparameters."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import DataSetError
from models.spec import CLASSES, TILE_PX, ModelSpec, Task

CONFIGS = Path(__file__).parent / "configs"


class TrainingConfig(BaseModel):
    """Content of a TOML file in `CONFIGS`; unknown keys are refused.

    What a file does not name is not done: no schedule, no augmentation, no smoothing, no clipping.
    arXiv 2512.22335 names none of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the resulting weights."""
    architecture: Literal["vit", "segformer", "maskformer"]
    input_px: int
    """Edge of the network's input in px."""
    pixels: Literal["optical-density", "rgb"] = "optical-density"
    mean: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Mean of the network's input: mean optical density of tissue."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    tiles: Annotated[int, Field(ge=1)]
    """Generated tiles for training, unless the caller asks for another number."""
    validation_tiles: Annotated[int, Field(ge=1)] = 400
    """Generated tiles that choose the epoch and fit the temperature; they train nothing."""
    test_tiles: Annotated[int, Field(ge=1)] = 400
    """Generated tiles of the final figures; they train and choose nothing."""
    all_tiles: bool = False
    """Whether L and M use every generated tile; otherwise those with tumor, and in training some
    without."""
    stained_stroma_tiles: Annotated[int, Field(ge=0)] = 0
    """Additional generated tiles of tumor of 0 or 1+ in DAB-stained stroma."""
    rough_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the generated tiles that are drawn with irregular outlines and uneven stain."""
    crop_px: Annotated[int, Field(ge=64, le=TILE_PX, multiple_of=32)] = TILE_PX
    """Edge in px of the crops that train M; the default is the whole tile."""
    loss: Literal["pixel", "mask"] = "pixel"
    """``pixel``: cross-entropy per px or tile. ``mask``: the Hungarian loss of MaskFormer."""
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["none", "cosine"] = "none"
    """Course of the learning rate after the warm-up: constant, or half a cosine down to 0.1 %."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps over which the learning rate rises."""
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    """Greatest norm of the gradient of a step."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the loss ``pixel``."""
    augmentation: Literal["none", "stain-and-camera"] = "none"
    """``stain-and-camera``: `models.training.augmentation`, and crops of varying size."""
    config: dict[str, Any] = {}
    """Parameters of the architecture."""

    @model_validator(mode="after")
    def _loss_fits(self) -> TrainingConfig:
        if self.loss == "mask" and self.architecture != "maskformer":
            raise ValueError(f"loss 'mask' is that of a maskformer, not of a {self.architecture}")
        return self

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


def configuration_names() -> list[str]:
    """Names that `load_configuration` knows."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def load_configuration(name: str, task: Task) -> TrainingConfig:
    """Load a named configuration or a file. ``reference`` and ``paper`` depend on the task.

    Raises
    ------
    DataSetError
        If it does not exist, or has unknown or missing keys.
    """
    named = f"{name}-{task}" if name in ("reference", "paper") else name
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{named}.toml"
    if not path.is_file():
        known = ", ".join(configuration_names())
        raise DataSetError(f"no configuration {name!r}. There are: {known}; or name a .toml file.")
    try:
        return TrainingConfig.model_validate(tomllib.loads(path.read_text()))
    except (ValidationError, tomllib.TOMLDecodeError) as err:
        raise DataSetError(f"{path}: {err}") from err
