"""What every test shares: which tests run, and a header that says on what."""

import logging
import os
import platform
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.fixtures import browser, data, new_postgres, postgres_server, together, url  # noqa: F401 # for all tests

TEST_ALL = bool(os.environ.get("MTSEARCH_TEST_ALL"))

# No test is about time. Every run explores a little; the gate looks further, and says the same of the same tree.
settings.register_profile("mtsearch", deadline=None, derandomize=TEST_ALL, max_examples=100 if TEST_ALL else 30)
settings.load_profile("mtsearch")


def pytest_report_header() -> list[str]:
    names = ("tensorflow", "tf-keras", "tensorflow-recommenders", "optuna", "sqlalchemy", "plotly", "numpy")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return [
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores; {packages}",
        "everything runs, nothing may be skipped" if TEST_ALL else "slow tests: MTSEARCH_TEST_ALL=1 runs them too",
    ]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Under `-m quick` import no module without a quick test: TensorFlow alone takes 6 s."""
    if config.option.markexpr != "quick":
        return None
    modules = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any("pytest.mark.quick" in path.read_text(encoding="utf-8") for path in modules) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if TEST_ALL:
        # The files with the largest share of slow tests first, so that none of them keeps one core busy at the end.
        slow: dict[Path, list[bool]] = {}
        for item in items:
            slow.setdefault(item.path, []).append(item.get_closest_marker("slow") is not None)
        items.sort(key=lambda item: -sum(slow[item.path]) / len(slow[item.path]))
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow; MTSEARCH_TEST_ALL=1 runs it"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Where everything must run, a skip is a failure."""
    report = yield
    if TEST_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _log_handlers_restored() -> Iterator[None]:
    """A command that runs in this process sets a handler and a level that would speak in the tests after it."""
    logger = logging.getLogger("mtsearch")
    before = list(logger.handlers), logger.level, logger.propagate
    yield
    logger.handlers, _, logger.propagate = before
    logger.setLevel(before[1])
