"""The only door to torch: running out of memory costs time, not tiles, and changes no result."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from numpy.typing import NDArray

from appliance.errors import DeviceUnusableError, WeightsUnusableError
from appliance.line.readings import usable_weights
from appliance.readers import inference
from appliance.readers.inference import Network
from models.spec import Task, reference_folder


@pytest.fixture(scope="module")
def tiles() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 255, (11, 32, 32, 3)).astype(np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


@pytest.fixture
def network() -> Network:
    return Network(reference_folder(Task.TUMOR), "cpu")


@pytest.mark.parametrize(
    "error",
    [
        inference.torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_and_loses_no_tile(
    error: Exception,
    network: Network,
    tiles: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = network.classify(tiles)
    real, sizes = network._logits, []

    def small(given: NDArray[np.uint8]) -> object:
        sizes.append(len(given))
        if len(given) > 3:
            raise error
        return real(given)

    monkeypatch.setattr(network, "_logits", small)
    with caplog.at_level(logging.WARNING):
        found = network.classify(tiles)
    assert np.allclose(found, expected, atol=0.02)
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    assert "out of memory with 11 tiles: 5 from now on" in caplog.text
    sizes.clear()
    network.classify(tiles)
    assert max(sizes) == 2  # the size that fitted is kept


def test_one_tile_that_does_not_fit_and_other_errors_are_raised(
    network: Network, tiles: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_given: NDArray[np.uint8]) -> object:
        raise inference.torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(network, "_logits", never)
    with pytest.raises(inference.torch.OutOfMemoryError):
        network.classify(tiles)

    def broken(_given: NDArray[np.uint8]) -> object:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(network, "_logits", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        network.classify(tiles)


def test_batches_fit_into_free_memory(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_free_bytes", lambda _device: 10**12)
    assert network.fitting_batch() == 8
    per_tile = network._memory_of(np.zeros((1, 512, 512, 3), np.uint8))
    enough_for_three = int(2 * 3.5 * per_tile * network.lanes)
    monkeypatch.setattr(inference, "_free_bytes", lambda _device: enough_for_three)
    assert network.fitting_batch() == 2
    monkeypatch.setattr(inference, "_free_bytes", lambda _device: 1)
    assert network.fitting_batch() == 1


@pytest.mark.parametrize(
    ("error", "is_site"),
    [
        (inference.torch.OutOfMemoryError("CUDA out of memory"), True),
        (inference.torch.AcceleratorError("an illegal memory access was encountered"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_an_error_of_the_device_is_the_sites_and_any_other_its_own(
    network: Network,
    tiles: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError,
    is_site: bool,
) -> None:
    def fails(_given: object) -> object:
        raise error

    monkeypatch.setattr(network, "_answering", fails)
    with pytest.raises(DeviceUnusableError if is_site else RuntimeError), usable_weights():
        network.classify(tiles)


@pytest.mark.parametrize("task", [Task.TUMOR, Task.INTENSITY, Task.SEGMENTATION])
def test_answers_that_are_no_numbers_are_the_sites_trouble(
    task: Task, tiles: NDArray[np.uint8]
) -> None:
    """Such answers would be the first class: tumor tiles would be dropped in silence."""
    network = Network(reference_folder(task), "cpu")
    answer = network.segment if task is Task.SEGMENTATION else network.classify
    assert len(answer(tiles[:1])) == 1
    last = list(network._module.parameters())[-1]
    with inference.torch.no_grad():
        last.fill_(float("nan"))
    with pytest.raises(WeightsUnusableError, match=network.spec.name), usable_weights():
        answer(tiles[:1])
