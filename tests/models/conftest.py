"""Fixtures of the model tests: one device with a fixed number of threads, one split, one trainer."""

from collections.abc import Iterator

import pytest

from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from tests.helpers.clean_process import Ask, clean_process
from tests.helpers.device import device, device_first  # noqa: F401 # fixtures of these tests
from tests.helpers.model_cases import make_split


@pytest.fixture(scope="session")
def split() -> Split:
    return make_split()


@pytest.fixture(scope="session")
def trainer(split: Split, device: Device) -> JointTrainer:  # noqa: F811
    """Return a trainer that many tests use in any order: no trial may affect the others."""
    return JointTrainer(split, device)


@pytest.fixture(scope="session")
def ask_a_clean_process() -> Iterator[Ask]:
    """Give a function that asks the model in a folder from a process that has TensorFlow alone."""
    with clean_process() as ask:
        yield ask
