"""Tests of `mtsearch report`: real trainings on small data, tested, stored, interrupted and shown."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mtsearch import api
from tests.cli.conftest import Command
from tests.cli.test_bad_input import one_line
from tests.cli.test_retrain import DEFINITION
from tests.helpers.fixtures import small_data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a study of four trials, which tests only read."""
    folder = tmp_path_factory.mktemp("made")
    definition = folder / "small.toml"
    definition.write_text(DEFINITION.format(source=small_data(folder), patience=0, repeats=1))
    api.run(api.load_definition(str(definition)), 4, storage=folder / "studies" / "mtsearch.db")
    return folder


@pytest.fixture
def studied(made: Path, tmp_path: Path) -> Path:
    """Copy the storage of that study to the test's folder."""
    shutil.copytree(made / "studies", tmp_path / "studies")
    return tmp_path


@pytest.mark.slow
def test_is_what_retrain_measures(mtsearch: Command, shell: Command, studied: Path) -> None:
    """Give every bit of the metrics of `retrain` in another process, also for a model that was trained after others."""
    result = mtsearch("report", "--seeds", "2", "--format", "json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    front = json.loads(mtsearch("front", "--format", "json").out)
    assert [member["trial"] for member in document["front"]] == [each["trial"] for each in front]
    assert [member["validation"] for member in document["front"]] == [each["metrics"] for each in front]
    last = document["front"][-1]
    assert mtsearch("export", "--pick", f"trial:{last['trial']}", "-o", "x.toml").status == 0
    done = shell("retrain", "x.toml", "-o", "m", "--seeds", "2")
    assert done.status == 0, done.err
    metrics = json.loads((studied / "m" / "metrics.json").read_text(encoding="utf-8"))
    assert last["test"] == metrics["test"]
    assert last["seeds"] == metrics["seeds"]
    assert document["baselines"] == metrics["baselines"]
    lines = [line for line in result.err.splitlines() if line.startswith("trial ")]
    assert len(lines) == 2 * len(front)
    assert lines[-1].endswith(f"[{2 * len(front)}/{2 * len(front)}]")
    shown = mtsearch("report", "--seeds", "2")
    assert "RMSE (stars)" in shown.out and "biases" in shown.out and "±" in shown.out
    assert "Optimism of RMSE" in shown.err
    assert f"{2 * len(front)} of {2 * len(front)} trainings done" in shown.err
    assert mtsearch("plot", "-o", "p.html").status == 0
    assert "The front on test" in (studied / "p.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_models_of_members_are_what_retrain_measures(mtsearch: Command, shell: Command, studied: Path) -> None:
    result = mtsearch("report", "--seeds", "1", "--members", "2", "--format", "json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    assert document["members"] == 2
    last, size = document["front"][-1], len(document["front"])
    assert mtsearch("export", "--pick", f"trial:{last['trial']}", "-o", "x.toml").status == 0
    done = shell("retrain", "x.toml", "-o", "m", "--members", "2")
    assert done.status == 0, done.err
    metrics = json.loads((studied / "m" / "metrics.json").read_text(encoding="utf-8"))
    assert last["test"] == metrics["test"]
    assert last["seeds"] == metrics["seeds"][:1]
    shown = mtsearch("report", "--seeds", "1", "--members", "2")
    assert f"{size} of {size} models of 2 members done" in shown.err
    assert "1 model of 2 members" in " ".join(shown.out.split())
    assert mtsearch("plot", "-o", "p.html").status == 0
    assert "1 model of 2 members" in (studied / "p.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_ctrl_c_keeps_the_tested_trainings(mtsearch: Command, studied: Path) -> None:
    command = [sys.executable, "-m", "mtsearch", "report", "--seeds", "300"]
    with subprocess.Popen(command, cwd=studied, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "[3/" in line:
                break
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in rest
    kept = int(rest.split("interrupted; ")[1].split(" of ")[0])
    assert kept >= 3
    size = len(json.loads(mtsearch("front", "--format", "json").out))
    again = mtsearch("report", "--seeds", str(-(-kept // size)))
    assert again.status == 0, again.err
    assert f"{kept} of {-(-kept // size) * size} trainings done" in again.err
    assert not list((studied / "studies").glob("*-wal"))


@pytest.mark.slow
def test_usage(mtsearch: Command, studied: Path) -> None:
    for args in (["--seeds", "0"], ["--members", "101"], ["--format", "csv"], ["small"]):
        assert mtsearch("report", *args).status == 2
    assert "no study 'gone'" in one_line(mtsearch("report", "--study", "gone").err)
    assert "no database at" in one_line(mtsearch("report", "--storage", "gone.db").err)
    assert {path.name for path in studied.iterdir()} == {"studies"}


@pytest.mark.slow
def test_data_that_are_gone(mtsearch: Command, made: Path, studied: Path) -> None:
    data = made / "data"
    data.rename(made / "elsewhere")
    try:
        result = mtsearch("report")
    finally:
        (made / "elsewhere").rename(data)
    assert result.status == 1
    assert str(data) in one_line(result.err)
