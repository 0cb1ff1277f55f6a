"""Settings of the lanes: how many steps run at a time, and how long one may take."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from appliance.settings.section import Section

MOST_CPU = 4


def _cpu_processes() -> int:
    cores = os.cpu_count() or 1
    return max(min(2, cores), min(MOST_CPU, cores // 4))


class Lanes(Section):
    """Number of steps that run at a time in each lane, and how long one may take."""

    intake: Annotated[int, Field(ge=1, le=16)] = 2
    """Processes that identify slides."""
    cpu: Annotated[int, Field(ge=1, le=64)] = Field(default_factory=_cpu_processes)
    """Processes that inspect and align slides and write objects. Default: one per four cores, at
    least 2 (of one core 1) and 4 at most."""
    gpu: Annotated[int, Field(ge=1, le=16)] = 1
    """Processes that run networks: one per GPU, of those that ``CUDA_VISIBLE_DEVICES`` lists where
    it is set; without a GPU one, which uses all cores."""
    deadline_factor: Annotated[float, Field(gt=0)] = 1.0
    """Factor of all deadlines. A slow machine, or large networks, may need more."""
    silent_seconds: Annotated[float, Field(ge=1)] = 120.0
    """Time after which a worker process that gives no sign of life is ended."""
    attempts: Annotated[int, Field(ge=1)] = 2
    """Attempts of a step that exceed its deadline, after which the slide or case is set aside."""
    oldest_every: Annotated[int, Field(ge=2)] = 4
    """Every how many steps a lane takes the oldest slide or case, whatever else is urgent."""
