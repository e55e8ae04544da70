"""The fixture of the device on which tests train."""

import pytest

from mtsearch.models import Device
from tests.helpers.model_cases import THREADS


@pytest.fixture(scope="session")
def device() -> Device:
    return Device.default(THREADS)


@pytest.fixture(autouse=True)
def device_first(device: Device) -> None:
    """Set the number of threads before any test runs an operation."""
