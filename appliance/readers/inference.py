"""Inference with torch; no other file of the appliance imports torch.

Tiles are uint8 arrays, answers are numpy arrays. Device, precision, batch memory and weights are
decided here.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from appliance.errors import WeightsError
from appliance.readers.device import DeviceSign
from appliance.slides.stream import DECODE_THREADS, usable_cores
from models.attention import attend
from models.checkpoint import load_network
from models.encoders.load import Encoder, load_encoder
from models.site_calibration import SiteCalibration
from models.spec import ModelSpec, Task
from models.torchscript import save_torchscript
from models.vit import VitClassifier

log = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]
Runtime = Literal["auto", "torch", "openvino"]

MOST_TILES = {"cpu": {Task.SEGMENTATION: 4}, "cuda": {}}
MOST_TILES_OF_OTHERS = {"cpu": 8, "cuda": 256}
"""Most tiles of a forward pass, by device. Larger batches are no faster; on a CPU they are slower,
because they exceed its caches."""
COMPILED_FROM = {Task.SEGMENTATION: 200}
COMPILED_FROM_OF_OTHERS = 2000
"""Tiles of a pass from which compiling for this CPU costs less time than it saves
(docs/performance.md)."""
ATTENTION_TILES = 8
"""Tiles of a pass that records attention: that of ViT-B takes 90 MB, and its gradient as much."""
MOST_LANES = 4
"""Most concurrent forward passes on a CPU; each has its share of the cores."""
DEVICE_LANES = 2
"""Concurrent batches on a GPU: one is computed while the answers of the other are processed."""
_NO_MEMORY = ("can't allocate memory", "bad_alloc")
"""Words of torch's CPU allocator, and of OpenVINO's."""
_OF_DEVICE = ("CUDA", "cuDNN", "CUBLAS", *_NO_MEMORY)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""


def pick_device(wanted: Device) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` is the GPU where there is one."""
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "cpu"


def open_encoder(folder: Path, device: Device) -> Encoder:
    """Return the encoder of a folder, on the device of the settings.

    Raises
    ------
    models.errors.ManifestError
        If it cannot be used.
    """
    return load_encoder(folder, pick_device(device))


class Network:
    """Network with its weights on a device, ready for inference.

    Raises
    ------
    models.errors.ManifestError
        If the weights are missing or differ from their manifest.
    models.errors.CalibrationError
        If the site's calibration belongs to other weights.
    """

    def __init__(
        self,
        folder: Path,
        device: Device = "auto",
        runtime: Runtime = "auto",
        site: SiteCalibration | None = None,
    ) -> None:
        """Load the weights in `folder`; `site` is the calibration of the site that they run at.

        `runtime` is the library that runs the layers on a CPU; on a GPU it is always torch.
        ``auto`` is OpenVINO for passes of many tiles (`prepare`), torch for others.
        """
        self.device = pick_device(device)
        spec, module = load_network(folder, self.device)
        self.spec: ModelSpec = replace(spec, site=site)
        self._offsets: torch.Tensor | None = None
        if site is not None:
            self._offsets = torch.tensor(site.offsets, dtype=torch.float32, device=self.device)
        self._module = module
        # bfloat16 only with hardware support: emulation is slower than float32.
        self._half = self.device == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        self._most: int | None = None
        self.lanes = DEVICE_LANES
        """Number of threads that should request inference concurrently. Cores that share one pass
        wait for each other after every layer, longest while one of them decodes."""
        self.decoders = DECODE_THREADS
        """Number of threads that decode tiles for the network."""
        if self.device == "cpu":
            cores = usable_cores()
            self.lanes = min(cores, MOST_LANES)
            # Decoding threads compete with the network for cores, and inference takes longer.
            self.decoders = max(1, DECODE_THREADS // 2)
            torch.set_num_threads(cores // self.lanes)
            _keep_freed_memory()
        self._answering: Any = module
        self._compiled: Any = None
        self._runtime = runtime
        if runtime == "openvino":
            self._compile()

    def device_sign(self) -> DeviceSign:
        """Return what torch says of the device now; memory is that of all processes on it."""
        name, memory, used = "CPU", 0, 0
        if self.device == "cuda":
            free, memory = torch.cuda.mem_get_info()
            name, used = torch.cuda.get_device_name(), memory - free
        runtime = f"torch {torch.__version__}"
        return DeviceSign(name=name, runtime=runtime, memory=memory, used=used, at=time.time())

    def prepare(self, tiles: int) -> None:
        """Choose the runtime for a pass of so many tiles; call it before the pass begins.

        A pass has the same answers whatever the process read before it.
        """
        if self._runtime != "auto":
            return
        self._answering = self._module
        if tiles < COMPILED_FROM.get(self.spec.task, COMPILED_FROM_OF_OTHERS):
            return
        try:
            self._compile()
        except (ImportError, RuntimeError) as err:  # torch reads every slide, only slower
            log.warning("OpenVINO cannot run %s: %s. torch reads on.", self.spec.name, err)
            self._runtime = "torch"

    def _compile(self) -> None:
        if self.device != "cpu":
            return
        if self._compiled is None:
            from models.compiled import CompiledNetwork

            self._compiled = CompiledNetwork(
                self.spec, self._module, lanes=self.lanes, half=self._half
            )
        self._answering = self._compiled

    def fitting_batch(self) -> int:
        """Largest batch (a power of two) with which all lanes fit into half of the free memory."""
        px = self.spec.tile_px
        per_tile = self._memory_of(np.zeros((1, px, px, 3), dtype=np.uint8))
        size = MOST_TILES[self.device].get(self.spec.task, MOST_TILES_OF_OTHERS[self.device])
        while size > 1 and size * per_tile * self.lanes > _free_bytes(self.device) / 2:
            size //= 2
        return size

    def batch_memory(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Allocate uint8 memory for tiles; pinned for a GPU, which reads that fastest."""
        pinned: NDArray[np.uint8] = torch.empty(
            shape, dtype=torch.uint8, pin_memory=self.device == "cuda"
        ).numpy()
        return pinned

    @property
    def precision(self) -> str:
        """Precision of inference: ``bfloat16`` or ``float32``."""
        return "bfloat16" if self._half else "float32"

    def save_torchscript(self, path: Path, *, half: bool) -> None:
        """Write a classifier as TorchScript for other tools (`models.torchscript`)."""
        save_torchscript(path, self.spec, self._module, self.device, half=half)

    def _memory_of(self, tile: NDArray[np.uint8]) -> int:
        """Peak activation bytes per tile; on a CPU the sum over all layers, an upper bound."""
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self._logits(tile)
            return int(torch.cuda.max_memory_allocated() - before)
        layers = [layer for layer in self._module.modules() if not list(layer.children())]
        total = 0

        def add(_layer: nn.Module, _given: object, answer: object) -> None:
            nonlocal total
            total += answer.nbytes if isinstance(answer, torch.Tensor) else 0

        hooks = [layer.register_forward_hook(add) for layer in layers]
        # Compiled layers call no hooks; theirs are of the same size.
        answering, self._answering = self._answering, self._module
        try:
            self._logits(tile)
        finally:
            self._answering = answering
            for hook in hooks:
                hook.remove()
        return total

    def _in_parts(
        self, tiles: NDArray[np.uint8], finish: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Apply `finish` to the logits of all tiles; halve the batch where memory runs out.

        Raises
        ------
        WeightsError
            If a logit is no finite number: as a class it would be 0, and as tumor none.
        """
        parts: list[torch.Tensor] = []
        done = 0
        while done < len(tiles):
            size = min(len(tiles) - done, self._most or len(tiles))
            try:
                logits = self._logits(tiles[done : done + size])
                is_finite = bool(logits.isfinite().all())
                parts.append(finish(logits).cpu())
            except (RuntimeError, MemoryError) as err:
                if size == 1 or not _is_out_of_memory(err):
                    raise
                self._most = size // 2
                log.warning("out of memory with %d tiles: %d from now on", size, self._most)
                if self.device == "cuda":
                    torch.cuda.empty_cache()
                continue
            if not is_finite:
                raise WeightsError(
                    f"{self.spec.name} answers with values that are no numbers. Run tandem weights "
                    "verify, and look at the device."
                )
            done += size
        return torch.cat(parts)

    def _logits(self, tiles: NDArray[np.uint8]) -> torch.Tensor:
        pixels = torch.from_numpy(tiles).to(self.device, non_blocking=True)
        pixels = pixels.permute(0, 3, 1, 2)  # (N, 3, T, T)
        with (
            torch.inference_mode(),
            torch.autocast(self.device, dtype=torch.bfloat16, enabled=self._half),
        ):
            logits: torch.Tensor = self._answering(pixels).logits
        logits = logits.float() / self.spec.temperature
        site = self.spec.site
        if site is None or self._offsets is None:
            return logits
        # One offset per class, the same for every px of M.
        return site.scale * logits + self._offsets.view(-1, *[1] * (logits.ndim - 2))

    def logits(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Calibrated logits, float32 (N, classes) or (N, classes, h, w), of tiles as below."""
        answers: NDArray[np.float32] = self._in_parts(tiles, lambda logits: logits).numpy()
        return answers

    def classify(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class probabilities, float32 (N, classes), of tiles uint8 (N, T, T, 3), glass at 255."""
        answers = self._in_parts(tiles, lambda logits: logits.softmax(dim=1))
        probabilities: NDArray[np.float32] = answers.numpy()
        return probabilities

    def segment(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Label maps, uint8 (N, h, w), values 0..classes-1; each covers its whole tile."""
        answers = self._in_parts(tiles, lambda logits: logits.argmax(dim=1).to(torch.uint8))
        labels: NDArray[np.uint8] = answers.numpy()
        return labels

    def attention(self, tiles: NDArray[np.uint8], classes: Sequence[int]) -> NDArray[np.float32]:
        """Relevance of each patch for a class of each tile: float32 (N, rows, columns), >= 0.

        `tiles` as above, `classes` one per tile. Only torch keeps the attention of the layers, in
        float32, whatever runtime reads slides. Values of different tiles have no common scale.

        Raises
        ------
        WeightsError
            If the network is no vision transformer.
        """
        if not isinstance(self._module, VitClassifier):
            raise WeightsError(f"{self.spec.name} is no vision transformer: it has no attention.")
        parts = []
        for first in range(0, len(tiles), ATTENTION_TILES):
            some = torch.from_numpy(tiles[first : first + ATTENTION_TILES]).to(self.device)
            wanted = torch.tensor(classes[first : first + ATTENTION_TILES], device=self.device)
            parts.append(attend(self._module, some.permute(0, 3, 1, 2), wanted).cpu())
        attended: NDArray[np.float32] = torch.cat(parts).numpy()
        return attended


def is_of_device(error: Exception) -> bool:
    """Return whether an error is the device's, or its memory's, and no input's.

    A kernel's assertion is none: it fails where the input is odd.
    """
    text = str(error)
    if "device-side assert" in text:
        return False
    if isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError)):
        return True
    return isinstance(error, RuntimeError) and any(words in text for words in _OF_DEVICE)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _NO_MEMORY)


def _free_bytes(device: str) -> int:
    if device == "cuda":
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0] + kept)
    with suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found is not None:
            return int(found.group(1)) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _keep_freed_memory() -> None:
    """Tell glibc to keep the large blocks that are freed after each layer.

    By default glibc returns them to the system, which zeroes them page by page for the next layer.
    For network M that costs almost as much as its arithmetic.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
