"""What every test shares: which tests run, and a header that says on what."""

import os
import platform
import sqlite3
from importlib.metadata import version

import pytest

TEST_ALL = bool(os.environ.get("MTSEARCH_TEST_ALL"))


def pytest_report_header() -> list[str]:
    names = ("tensorflow", "tf-keras", "tensorflow-recommenders", "optuna", "sqlalchemy", "plotly", "numpy")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return [
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores; {packages}",
        "everything runs, nothing may be skipped" if TEST_ALL else "slow tests: MTSEARCH_TEST_ALL=1 runs them too",
    ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if TEST_ALL:
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
