"""Settings of the networks: weights, device and runtime."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.settings.section import Section, SomePath


class ModelSettings(Section):
    """Weights of each network, and the device that runs them."""

    tumor: SomePath | None = None
    """Folder of weights for C (manifest.json + model.safetensors). It takes precedence over
    ``tandem weights use``. None: the weights selected there, else the reference weights."""
    intensity: SomePath | None = None
    """Folder of weights for L, with the same rule."""
    segmentation: SomePath | None = None
    """Folder of weights for M, with the same rule."""
    low_resolution: SomePath | None = None
    """Folder of weights for the second reader that sees the whole HER2 slide (``tandem train
    reader``). None: the reference weights, where this distribution has some; else that reader says
    nothing."""
    mil: SomePath | None = None
    """Folder of weights for the second reader that weighs the tiles of the whole HER2 slide
    (``tandem train reader`` with a system of multiple instances, docs/mil.md). None: it is off."""
    mil_encoder: SomePath | None = None
    """Folder of the encoder whose bags trained these weights. None: the one that ships."""
    interim: SomePath | None = None
    """Folder of weights for the interim reader (``tandem train interim``): a hint on HER2 from the
    H&E slide alone, which is never a score (docs/interim.md). None: it is off."""
    interim_encoder: SomePath | None = None
    """Folder of the encoder whose bags trained these weights. None: the one that ships."""
    calibrations: SomePath | None = None
    """Folder of this site's calibrations (``tandem calibrate``), with a folder per task. None:
    beside the installed weights, in the state folder."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the networks. auto: the GPU if there is one."""
    runtime: Literal["auto", "torch", "openvino"] = "auto"
    """Runtime of the networks on a CPU. openvino is faster and gives the same class for nearly all
    tiles, but takes seconds to start (docs/performance.md). auto: openvino for slides with so many
    tiles that it is worth it, torch for others. A GPU always uses torch."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Tiles per forward pass. None: as many as fit into half of the free memory, at most 8 on a CPU
    (4 for M) and 256 on a GPU. The size is halved when memory runs out all the same."""
