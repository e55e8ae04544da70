"""Tests of interruptions: after Ctrl-C at any moment, the same command ends with the uninterrupted study."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from mtsearch import api
from mtsearch.search.attributes import RETRY_OF, retry_history
from mtsearch.search.results import StudyResults
from tests.cli.conftest import Command
from tests.helpers.fixtures import small_data
from tests.helpers.results import realistic
from tests.search.test_run import trials_in

TRIALS = 40
DEFINITION = """
[study]
name = "s"
[data]
source = "{source}"
[space]
rating_weight = {{ low = 0.01, high = 1.0, log = true }}
retrieval_weight = {{ low = 0.001, high = 0.5, log = true }}
learning_rate = {{ low = 0.01, high = 0.95, log = true }}
[[trials]]
learning_rate = 0.3
[[trials]]
learning_rate = 0.4
"""


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(DEFINITION.format(source=small_data(tmp_path)))
    return path


def command(definition: Path, database: Path, *more: str) -> list[str]:
    run = [sys.executable, "-m", "tests.helpers.formula", "run", str(definition), "--storage", str(database)]
    return [*run, "--until", str(TRIALS), *more]


def finish(args: Sequence[str]) -> None:
    done = subprocess.run(args, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def interrupt(args: Sequence[str], seconds: float, number: signal.Signals) -> tuple[int, str]:
    """Run a command, and signal it and all its processes, as a terminal does, some time after its first line."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(args, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(seconds)
        os.killpg(process.pid, number)
        _, rest = process.communicate(timeout=60)
        return process.returncode, rest


def params_by_slot(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Return the parameters of the trials without retries, each taken from its last attempt."""
    places = [trial.number for trial in trials if RETRY_OF not in trial.user_attrs]
    last = {[trial, *retry_history(trials, trial)][-1].number: trial.params for trial in trials}
    return [last[number] for number in places]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "times"), [("1", 10), ("2", 5)])
def test_interruptions_at_random_moments(definition: Path, tmp_path: Path, workers: str, times: int) -> None:
    moments = random.Random(20)
    whole, parts = tmp_path / "whole.db", tmp_path / "parts.db"
    ended = []
    for _ in range(times):
        number = moments.choice([signal.SIGINT, signal.SIGTERM])
        args = command(definition, parts, "--workers", workers)
        status, said = interrupt(args, moments.uniform(0, 1.0 if workers == "1" else 3.0), number)
        # While Python shuts down, all done and said, a signal has its default effect.
        assert status in (130, 0) or (status == -number and "the front" in said), said
        # Python itself prints what was raised where nothing can be raised, as in a callback of the garbage collector.
        assert "Traceback" not in said or "Exception ignored in" in said
        assert "was not finished: KeyboardInterrupt" not in said and "its worker died" not in said
        ended.append(status)
        # The first interruptions may come before there is a study.
        assert TrialState.RUNNING not in {trial.state for trial in trials_in(str(parts))}
    assert 130 in ended
    finish(command(definition, parts, "--workers", workers))
    done = trials_in(str(parts))
    assert {trial.state for trial in done} <= {TrialState.COMPLETE, TrialState.FAIL}
    reasons = [trial.user_attrs["mtsearch:reason"]["kind"] for trial in done if trial.state == TrialState.FAIL]
    assert len(done) - len([kind for kind in reasons if kind != "model"]) == TRIALS
    assert set(reasons) <= {"model", "interrupted"}
    if workers == "1":
        finish(command(definition, whole))
        assert params_by_slot(done) == params_by_slot(trials_in(str(whole)))


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_closed_terminal_interrupts(definition: Path, tmp_path: Path, workers: str) -> None:
    """Treat a closed terminal as an interruption and not as a worker's death, of which three fail a trial."""
    for _ in range(3):
        args = command(definition, tmp_path / "a.db", "--workers", workers)
        moment = 0.5 if workers == "1" else 2.0
        status, said = interrupt(["env", "--default-signal=HUP", *args], moment, signal.SIGHUP)
        assert status in (130, 0) or (status == -signal.SIGHUP and "the front" in said), said  # as above
    finish(command(definition, tmp_path / "a.db"))
    done = trials_in(str(tmp_path / "a.db"))
    kinds = {trial.user_attrs["mtsearch:reason"]["kind"] for trial in done if trial.state == TrialState.FAIL}
    assert kinds <= {"model", "interrupted"}
    assert not [trial for trial in done if "died" in str(trial.user_attrs.get("mtsearch:reason"))]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stderr_that_nobody_reads_does_not_end_the_run(definition: Path, tmp_path: Path, workers: str) -> None:
    with Path("/dev/full").open("w") as full:
        args = command(definition, tmp_path / "a.db", "--workers", workers)
        done = subprocess.run(args, cwd=Path(__file__).parents[2], stderr=full, check=False)
    assert done.returncode == 0
    assert api.load_study("s", str(tmp_path / "a.db")).counting == TRIALS


def test_an_interrupt_inside_an_exec_exits_with_130_too(tmp_path: Path) -> None:
    lines = ["from mtsearch import cli", "def interrupted(**_): exec('raise KeyboardInterrupt')"]
    (tmp_path / "interrupted.py").write_text("\n".join([*lines, "cli.cli.main = interrupted", "cli.main()"]))
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 130


def test_an_interrupt_inside_a_class_statement_exits_with_130_too(tmp_path: Path) -> None:
    """Exit with 130, although the interrupt becomes a RuntimeError before Python 3.12."""
    lines = [
        "from mtsearch import cli",
        "class Name:",
        "    def __set_name__(self, owner, name): raise KeyboardInterrupt",
        "def interrupted(**_): type('Owner', (), {'name': Name()})",
    ]
    (tmp_path / "interrupted.py").write_text("\n".join([*lines, "cli.cli.main = interrupted", "cli.main()"]))
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "interrupted; what was finished is kept\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_python_ends_is_no_traceback(tmp_path: Path, number: signal.Signals) -> None:
    """All is done and said by then."""
    lines = [
        "import atexit, os",
        "from mtsearch import cli",
        f"atexit.register(lambda: os.kill(os.getpid(), {int(number)}))",
        "cli.cli.main = lambda **_: None",
        "cli.main()",
    ]
    (tmp_path / "ended.py").write_text("\n".join(lines))
    done = subprocess.run([sys.executable, "-m", "ended"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-number, "")


@pytest.mark.parametrize(("left", "advice"), [(3, "; to go on: mtsearch run --study ml-100k --until 54"), (0, "")])
def test_how_to_go_on_is_said_where_something_is_left(
    mtsearch: Command, monkeypatch: pytest.MonkeyPatch, left: int, advice: str
) -> None:
    study = replace(realistic(), interrupted=True)

    def run(*_: object, begun: Callable[[int, int], None], **__: object) -> StudyResults:
        begun(0, study.counting + left)
        return study

    monkeypatch.setattr(api, "run", run)
    result = mtsearch("run")
    assert result.status == 130
    assert result.err.splitlines()[-1] == f"interrupted; what was finished is kept{advice}"
