"""Tests of the whole path of a user on the real data, from the command to the files."""

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mtsearch.cli import COMMANDS
from tests.cli.conftest import Command


def test_run_front_plot_studies(mtsearch: Command, tmp_path: Path) -> None:
    ran = mtsearch("run", "ml-100k-quick", "--trials", "3", "--set", "fixed.epochs=1")
    database = tmp_path / "studies" / "mtsearch.db"
    assert ran.status == 0, ran.err
    assert ran.out == ""
    assert ran.err.count(str(database)) == 2  # at the start and at the end
    assert "[3/3]" in ran.err
    assert "biases" in ran.err
    assert ran.err.splitlines()[-1] == (
        "next: mtsearch front --study ml-100k-quick · mtsearch plot --study ml-100k-quick"
    )
    assert not list(database.parent.glob("*-wal"))

    front = json.loads(mtsearch("front", "--format", "json").out)
    with sqlite3.connect(database) as connection:
        view = connection.execute("select trial, objectives, params from pareto_front").fetchall()
        epochs = connection.execute("select count(*) from learning_curves").fetchone()
    assert epochs == (3,)
    assert {row["trial"]: (row["rmse"], row["top_100"], row["params"]) for row in front} == {
        trial: (*json.loads(objectives).values(), json.loads(params)) for trial, objectives, params in view
    }
    assert set(front[0]) == {"trial", "rmse", "top_100", "params", "metrics"}
    table = list(csv.DictReader(io.StringIO(mtsearch("front", "--format", "csv").out)))
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in front]

    (study,) = json.loads(mtsearch("studies", "--format", "json").out)
    assert study["trials"] == 3
    assert study["passport"]["data"]["rows"] == 100_000
    assert study["passport"]["split"]["catalogue"] == 1664

    plotted = mtsearch("plot")
    page = tmp_path / plotted.out.strip()
    assert page == tmp_path / "dashboards" / "ml-100k-quick" / "index.html"
    assert "ml-100k-quick" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_finished(mtsearch: Command, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mtsearch", "run", "ml-100k-quick", "--trials", "500"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("trial 1 "):
            break
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "; to go on: mtsearch run --study " in rest and " --until 500" in rest
    (study,) = json.loads(mtsearch("studies", "--format", "json").out)
    assert "running" not in study["states"]
    assert study["trials"] >= 2


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_is_there(mtsearch: Command, command: list[str]) -> None:
    result = mtsearch(*command, "--help")
    assert result.status == 0
    assert "Usage: " in result.out


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['mtsearch', '--help']\n"
        "from mtsearch.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'optuna', 'plotly', 'numpy', 'pydantic', 'sqlalchemy', 'rich'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_reader_never_waits_for_a_writer(mtsearch: Command, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.helpers.formula", "run", "ml-100k-quick", "--trials", "5000"]
    environment = {**os.environ, "MTSEARCH_STORAGE": str(tmp_path / "mine.db")}
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, env=environment)
    fronts, deadline = 0, time.monotonic() + 600
    try:
        while fronts < 3 and time.monotonic() < deadline:
            result = mtsearch("front", "--storage", "mine.db", "--format", "json")
            assert result.status == 0 or "no database" in result.err or "holds no stud" in result.err, result
            fronts += result.status == 0 and bool(json.loads(result.out))
            assert process.poll() is None, "the writer ended before it was read"
            time.sleep(0.1)
    finally:
        process.send_signal(signal.SIGINT)
        ended = process.wait(timeout=60)
    assert fronts == 3
    assert ended == 130
