"""One TensorFlow per process: one device, one number of threads."""

import pytest

from mtsearch.data.split import Split
from mtsearch.recsys import Device, JointTrainer

from .cases import THREADS, make_split


@pytest.fixture(scope="session")
def device() -> Device:
    return Device.default(THREADS)


@pytest.fixture(scope="session")
def split() -> Split:
    return make_split()


@pytest.fixture(scope="session")
def trainer(split: Split, device: Device) -> JointTrainer:
    """Used by many tests in whatever order: no trial may notice the others."""
    return JointTrainer(split, device)


@pytest.fixture(autouse=True)
def _device_first(device: Device) -> None:
    """The threads are set before any test runs an operation."""
