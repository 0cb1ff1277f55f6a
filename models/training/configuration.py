"""Named training configurations in TOML, torch-free: architecture and hyperparameters."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import DataSetError
from models.spec import CLASSES, TILE_PX, ModelSpec, Task

CONFIGS = Path(__file__).parent / "configs"


class TrainingConfig(BaseModel):
    """Content of a TOML file in `CONFIGS`; unknown keys are refused."""

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
    stained_stroma_tiles: Annotated[int, Field(ge=0)] = 0
    """Additional generated tiles of tumor of 0 or 1+ in DAB-stained stroma."""
    rough_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the generated tiles that are drawn with irregular outlines and uneven stain."""
    weight_decay: float = 0.05
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises."""
    config: dict[str, Any] = {}
    """Parameters of the architecture."""

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
            # Training uses crops at a tile's resolution; answers are for whole tiles.
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
