"""Fixtures of the serving tests: one model folder, the model in it, and a service of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtsearch.models import Device
from mtsearch.serving import ServedModel
from tests.helpers.model_cases import THREADS
from tests.helpers.served_double import write_model
from tests.helpers.service import Service, running


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the shared model folder, which no test may change."""
    Device.default(THREADS)  # takes the threads before TensorFlow runs, for the tests that train
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the model folder, to damage."""
    return Path(shutil.copytree(folder, tmp_path / "best"))


@pytest.fixture(scope="session")
def model(folder: Path) -> ServedModel:
    return ServedModel.load(folder)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    with running(folder) as running_service:
        yield running_service
        assert running_service.log == []
