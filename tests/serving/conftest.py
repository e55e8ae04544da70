"""A model folder for the whole run of the tests, the model in it, and a service of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtsearch.recsys import Device
from mtsearch.serving import ServedModel
from tests.recsys.cases import THREADS

from .double import write_model
from .service import Service, running


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    Device.default(THREADS)  # takes the threads before TensorFlow runs, for the tests that train
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(folder, tmp_path / "best"))


@pytest.fixture(scope="session")
def model(folder: Path) -> ServedModel:
    return ServedModel.load(folder)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    with running(folder) as running_service:
        yield running_service
        assert running_service.log == []
