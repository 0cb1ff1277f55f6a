"""Commands of a cluster: ``tandem worker`` and ``tandem scheduler``."""

from __future__ import annotations

import os
import socket
from typing import Annotated

import typer

from appliance.cli.options import ConfigOption, settings_with_logging

Slots = Annotated[int | None, typer.Option(min=0, help=r"Default: the setting in \[lanes].")]


def worker(
    intake: Slots = None,
    cpu: Slots = None,
    gpu: Slots = None,
    device: Annotated[
        str, typer.Option(help="GPU that this worker uses (CUDA_VISIBLE_DEVICES). Default: all.")
    ] = "",
    name: Annotated[str, typer.Option(help="Default: the machine's name and process.")] = "",
    host: Annotated[str, typer.Option(help="Own address, as the scheduler reaches it.")] = "",
    port: Annotated[int, typer.Option(help="Own TCP port. Default: any that is free.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Run steps for a daemon on another machine, until stopped (SIGTERM or Ctrl-C)."""
    from appliance.line.executors import require_dask

    settings = settings_with_logging(config)
    require_dask()
    from appliance.line.cluster.serve import WorkerOptions, run_worker

    lanes = settings.lanes
    run_worker(
        settings,
        WorkerOptions(
            slots={
                "intake": lanes.intake if intake is None else intake,
                "cpu": lanes.cpu if cpu is None else cpu,
                "gpu": lanes.gpu if gpu is None else gpu,
            },
            name=name or f"{socket.gethostname()}-{os.getpid()}",
            host=host,
            port=port,
            gpu=device,
        ),
    )


def scheduler(
    host: Annotated[str, typer.Option(help="Address to listen on. Default: all.")] = "",
    config: ConfigOption = None,
) -> None:
    """Run the scheduler that joins a daemon and its workers, at the port of cluster.scheduler."""
    from appliance.line.executors import require_dask

    settings = settings_with_logging(config)
    require_dask()
    from appliance.line.cluster.serve import run_scheduler

    run_scheduler(settings, host)
