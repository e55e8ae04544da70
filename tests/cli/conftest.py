"""Fixtures that run commands as a user would, in an empty folder of the test."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtsearch import api
from mtsearch.cli import main
from tests.helpers.trainers import quick_formula


@dataclass(frozen=True)
class Result:
    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def mtsearch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command in this process, such as `mtsearch("front", "--format", "json")`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MTSEARCH_STORAGE", raising=False)

    def invoke(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["mtsearch", *args])
        status: object = 0
        before = signal.getsignal(signal.SIGINT)
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        finally:
            signal.signal(signal.SIGINT, before)  # its end leaves it to the system, which would end the tests
        captured = capsys.readouterr()
        assert isinstance(status, int)
        return Result(status, captured.out, captured.err)

    return invoke


@pytest.fixture
def formula(mtsearch: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a function that runs a command in this process with a formula in place of the model."""
    assert api.run.__kwdefaults__ is not None
    monkeypatch.setitem(api.run.__kwdefaults__, "make_trainer", quick_formula)
    return mtsearch


@pytest.fixture
def shell(tmp_path: Path) -> Command:
    """Return a function that runs the installed command in a separate process."""

    def invoke(*args: str, cwd: Path = tmp_path) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "mtsearch", *args], cwd=cwd, capture_output=True, text=True, check=False
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return invoke
