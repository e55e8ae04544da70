"""Tests of `mtsearch retrain`: from a study on small data to a model folder, and what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from mtsearch import api
from mtsearch.metrics import metrics_of
from mtsearch.serving.model import read_info
from mtsearch.study_file.export import Export
from tests.cli.conftest import Command
from tests.cli.test_bad_input import one_line
from tests.helpers.fixtures import small_data
from tests.helpers.service import running

DEFINITION = """
[study]
name = "small"
repeats = {repeats}
[data]
source = "{source}"
[space]
learning_rate = {{ low = 0.05, high = 0.5, log = true }}
[fixed]
epochs = 4
batch_size = 64
embedding_size = 8
retrieval_loss = "full"
hidden_dropout = 0.1
patience = {patience}
"""
FILES = ["1", "curve.json", "export.toml", "metrics.json", "model.json", "model_card.md"]


def make_exported_study(folder: Path, *, patience: int = 0, repeats: int = 1) -> Path:
    """Make small data, a study of two trials on it, and an export of one trial."""
    definition = folder / "small.toml"
    definition.write_text(DEFINITION.format(source=small_data(folder), patience=patience, repeats=repeats))
    study = api.run(api.load_definition(str(definition)), 2, storage=folder / "small.db")
    api.export(study, pick="top_100").save(folder / "best.toml")
    return folder / "best.toml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `data` and `best.toml`, which tests only read."""
    folder = tmp_path_factory.mktemp("made")
    make_exported_study(folder)
    return folder


@pytest.fixture
def export(made: Path, tmp_path: Path) -> Path:
    """Copy the export to the test's folder; its data stay in place."""
    return Path(shutil.copy(made / "best.toml", tmp_path / "best.toml"))


def edited(export: Path, old: str, new: str) -> None:
    text = export.read_text(encoding="utf-8")
    assert old in text
    export.write_text(text.replace(old, new), encoding="utf-8")


def loaded(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_trains_evaluates_and_writes(mtsearch: Command, export: Path, tmp_path: Path) -> None:
    result = mtsearch("retrain", "best.toml", "-o", "models/best", "--seeds", "2")
    assert result.status == 0, result.err
    folder = tmp_path / "models" / "best"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["best"]
    assert result.err.splitlines()[-1] == f"model in {folder}"
    assert "RMSE (stars)" in result.out and "biases" in result.out and "±" in result.out
    metrics, was = loaded(folder / "metrics.json"), Export.load(export)
    assert (metrics["on"], metrics["seeds"], metrics["epochs"]) == ("train+validation", [42, 43], 4)
    assert list(metrics["test"]) == list(metrics_of())
    first, second = metrics["test"]["rmse"]["values"]
    assert first != second
    assert metrics["test"]["rmse"]["low"] < min(first, second) and metrics["test"]["rmse"]["high"] > max(first, second)
    assert metrics["validation"] == {}
    assert metrics["trial"] == was.provenance.metrics
    assert list(metrics["baselines"]) == ["chance", "popularity", "biases"]
    assert Export.load(folder / "export.toml") == was
    curve = loaded(folder / "curve.json")
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3, 4]
    assert all(set(epoch) == {"epoch", "losses", "seconds"} for epoch in curve)  # test rows are not looked at before
    facts = read_info(folder)
    assert (facts.users, facts.catalogue, facts.rating_range) == (40, 30, (1.0, 5.0))
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    for words in ("should not be used for", "biases", was.provenance.data_fingerprint, "Student's t", "`small`"):
        assert words in card
    again = mtsearch("retrain", "best.toml", "-o", "models/best")  # replaces it, and its one seed is the first
    assert again.status == 0, again.err
    assert loaded(folder / "metrics.json")["test"]["rmse"]["values"] == [first]
    answer = mtsearch("recommend", "models/best", "--user", "1", "-k", "3", "--format", "json")
    assert answer.status == 0, answer.err
    assert "Film" in answer.out


@pytest.mark.slow
def test_on_train_repeats_the_trial(shell: Command, export: Path, tmp_path: Path) -> None:
    result = shell("retrain", "best.toml", "--on", "train")
    assert result.status == 0, result.err
    metrics = loaded(tmp_path / "models" / "best" / "metrics.json")  # the default place
    validation = {key: interval["mean"] for key, interval in metrics["validation"].items()}
    assert validation == Export.load(export).provenance.metrics  # every bit
    assert "validation metrics: equal to those of the trial, to the last bit" in result.err
    assert metrics["test"]["rmse"]["mean"] != validation["rmse"]
    curve = loaded(tmp_path / "models" / "best" / "curve.json")
    assert curve[-1]["metrics"] == validation


@pytest.mark.slow
def test_on_all_has_no_metrics_of_its_own(mtsearch: Command, export: Path, tmp_path: Path) -> None:
    result = mtsearch("retrain", "best.toml", "-o", "m", "--on", "all")
    assert result.status == 0, result.err
    metrics = loaded(tmp_path / "m" / "metrics.json")
    assert metrics["test"] == metrics["validation"] == metrics["baselines"] == {}
    assert "trained on all rows" in metrics["note"]
    assert "No rows were left to evaluate the model on" in (tmp_path / "m" / "model_card.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_a_model_of_members_is_told_written_and_served(mtsearch: Command, export: Path, tmp_path: Path) -> None:
    result = mtsearch("retrain", "best.toml", "-o", "m", "--members", "3")
    assert result.status == 0, result.err
    for place, seed in enumerate((42, 43, 44), 1):
        assert f"seed {seed}, member {place} of 3  epoch 4/4" in result.err
    assert "1 model of 3 members" in result.out
    metrics = loaded(tmp_path / "m" / "metrics.json")
    assert (metrics["members"], metrics["seeds"]) == (3, [42, 43, 44]) and len(metrics["test"]["rmse"]["values"]) == 1
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == FILES
    best = json.loads(mtsearch("recommend", "m", "--user", "1", "-k", "3", "--format", "json").out)
    rated = mtsearch("predict", "m", "--user", "1", "--item", best[0]["item"])
    assert float(rated.out) == pytest.approx(best[0]["rating"], abs=1e-3)
    with running(tmp_path / "m") as service, httpx.Client(base_url=service.url, trust_env=False) as http:
        listed = http.get("/recommend", params={"user": "1", "k": 3}).json()["items"]
        assert [each["item"] for each in listed] == [each["item"] for each in best]
        assert "one model of 3 members" in http.get("/card").text


@pytest.mark.slow
def test_patience_trains_up_to_the_best_epoch(mtsearch: Command, tmp_path: Path) -> None:
    export = make_exported_study(tmp_path, patience=1)
    best = Export.load(export).provenance.best_epoch
    result = mtsearch("retrain", "best.toml", "-o", "m", "--on", "train")
    assert result.status == 0, result.err
    assert loaded(tmp_path / "m" / "metrics.json")["epochs"] == best
    assert len(loaded(tmp_path / "m" / "curve.json")) == best
    assert "to the last bit" in result.err


@pytest.mark.slow
def test_a_repeated_trial_is_repeated_by_as_many_seeds(mtsearch: Command, tmp_path: Path) -> None:
    make_exported_study(tmp_path, repeats=3)
    result = mtsearch("retrain", "best.toml", "-o", "m", "--on", "train", "--seeds", "3")
    assert result.status == 0, result.err
    assert "to the last bit" in result.err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[config]", "[config", "not TOML"),
        ("format = 1", "format = 2", "newer mtsearch"),
        ("seed = 42  # Seed of initial", "sede = 42  # Seed of initial", "did you mean 'seed'?"),
        ("test = 0.2", "test = 0.3", "[split] holds out other rows"),
        ("data_fingerprint = \"", "data_fingerprint = \"0", "are not those of study small"),
    ],
)  # fmt: skip
def test_damaged_exports(mtsearch: Command, export: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    edited(export, old, new)
    result = mtsearch("retrain", "best.toml", "-o", "m")
    assert result.status == 1
    assert said in one_line(result.err)
    assert [path.name for path in tmp_path.iterdir()] == ["best.toml"]


def test_other_data(mtsearch: Command, made: Path, export: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "data", tmp_path / "data")
    edited(export, str(made / "data"), str(tmp_path / "data"))
    ratings = tmp_path / "data" / "u.data"
    ratings.write_text(ratings.read_text().replace("1\t1\t2\t", "1\t1\t3\t", 1))
    assert ratings.read_text() != (made / "data" / "u.data").read_text()
    result = mtsearch("retrain", "best.toml", "-o", "m")
    assert result.status == 1
    assert "are not those of study small" in one_line(result.err)
    assert not (tmp_path / "m").exists()


def test_usage(mtsearch: Command, export: Path, tmp_path: Path) -> None:
    wrong = ["--seeds 0", "--on test", "--seeds 2 --on all", "--members 0", "--members 101"]
    for args in (each.split() for each in wrong):
        result = mtsearch("retrain", str(export), *args)
        assert result.status == 2
        assert "Error: " in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["best.toml"]
    assert "no such file" in one_line(mtsearch("retrain", "gone.toml").err)


def test_foreign_folders_are_refused(mtsearch: Command, export: Path, tmp_path: Path) -> None:
    thesis, mine, file = tmp_path / "thesis", tmp_path / "mine", tmp_path / "file"
    for folder, name in ((thesis, "chapter.tex"), (mine, "model.json"), (mine, "notes.txt")):
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("dear")
    file.write_text("dear")
    for place, said in (
        ("thesis", "is not a model folder"),
        ("mine", "'notes.txt' in it, which would be deleted"),
        ("file", "is a file"),
        ("file/m", "cannot write"),
    ):
        result = mtsearch("retrain", str(export), "-o", place)
        assert result.status == 1
        assert said in one_line(result.err)
    assert {path.read_text() for path in (thesis / "chapter.tex", mine / "notes.txt", file)} == {"dear"}
    assert {path.name for path in tmp_path.iterdir()} == {"best.toml", "thesis", "mine", "file"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupted_it_leaves_nothing(export: Path, tmp_path: Path, number: signal.Signals) -> None:
    edited(export, "epochs = 4", "epochs = 2000")  # the first line is that of a tenth of them
    command = [sys.executable, "-m", "mtsearch", "retrain", "best.toml", "-o", "models/m"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("seed 42"):
                break
        process.send_signal(number)
        _, rest = process.communicate(timeout=60)
    assert "Traceback" not in rest
    assert process.returncode == 130
    assert "interrupted; nothing was written" in rest
    assert [path.name for path in tmp_path.iterdir()] == ["best.toml"]


@pytest.mark.slow
def test_interrupted_while_it_writes_it_leaves_what_was_there(mtsearch: Command, export: Path, tmp_path: Path) -> None:
    """Leave the earlier model or the whole new one after a signal during writing."""
    assert mtsearch("retrain", "best.toml", "-o", "m").status == 0
    before = loaded(tmp_path / "m" / "model.json")
    command = [sys.executable, "-m", "mtsearch", "retrain", "best.toml", "-o", "m"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tmp_path.glob(".m.partial-*")):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        status = process.wait(timeout=60)
    assert status == 130
    assert {path.name for path in tmp_path.iterdir()} == {"best.toml", "m"}
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == FILES
    assert loaded(tmp_path / "m" / "model.json") == before


@pytest.mark.slow
def test_on_movielens_the_trial_is_repeated(mtsearch: Command, shell: Command, tmp_path: Path) -> None:
    assert mtsearch("run", "ml-100k-quick", "--trials", "2", "--set", "fixed.epochs=2").status == 0
    assert mtsearch("export", "-o", "best.toml").status == 0
    result = shell("retrain", "best.toml", "--on", "train", "--seeds", "1")
    assert result.status == 0, result.err
    assert "to the last bit" in result.err
    validation = loaded(tmp_path / "models" / "best" / "metrics.json")["validation"]
    expected = Export.load(tmp_path / "best.toml").provenance.metrics
    assert {key: interval["mean"] for key, interval in validation.items()} == expected
