"""Tests of `mtsearch check`, which describes a definition and runs no trial."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtsearch.models.cost import trial_seconds, trial_seconds_range
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.definition import StudyDefinition
from mtsearch.study_file.load import shipped
from tests.cli.conftest import Command
from tests.helpers.model_cases import make_split


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_definition(mtsearch: Command, tmp_path: Path, name: str) -> None:
    table, description = mtsearch("check", name), mtsearch("check", name, "--format", "json")
    assert (table.status, description.status) == (0, 0), table.err
    assert name in table.out and ("roughly" in table.out or "not known for a custom model" in table.out)
    assert json.loads(description.out)["study"] == name
    assert list(tmp_path.iterdir()) == []


def test_json_has_space_data_and_time(mtsearch: Command) -> None:
    result = mtsearch("check", "ml-100k-quick", "--set", "fixed.epochs=4", "--set", "space.learning_rate.high=0.5",
                      "--set", "constraints.max_seconds=9", "--format", "json")  # fmt: skip
    description = json.loads(result.out)
    assert description["fixed"] == {"epochs": 4}
    assert description["space"]["learning_rate"]["high"] == 0.5
    assert list(description["space"]) == ["rating_weight", "retrieval_weight", "embedding_size", "learning_rate"]
    assert description["starting_point"]["embedding_size"] == 32
    assert description["data"] == {
        "source": "movielens/100k", "rows": 100_000, "users": 943, "items": 1664, "catalogue": 1664,
    }  # fmt: skip
    assert description["split"] == {"train": 72_000, "validation": 8_000, "test": 20_000}
    assert description["constraints"] == {"max_seconds": 9.0}
    assert description["objectives"] == ["rmse", "top_100"]
    assert 0 < description["rough_seconds_of_a_trial"]["cheapest"] < description["rough_seconds_of_a_trial"]["dearest"]


def test_what_an_override_fixes_is_no_longer_searched(mtsearch: Command) -> None:
    description = json.loads(
        mtsearch("check", "ml-100k-quick", "--set", "fixed.learning_rate=0.2", "--format", "json").out
    )
    assert description["fixed"] == {"learning_rate": 0.2}
    assert "learning_rate" not in description["space"]


def test_weights_1_1_outside_the_space_are_named(mtsearch: Command) -> None:
    assert "weights 1/1" in mtsearch("check", "ml-100k-quick").out
    assert "weights 1/1" not in mtsearch("check", "ml-100k-quick", "--set", "space.retrieval_weight.high=1.0").out


def test_a_study_of_made_up_data(mtsearch: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[study]\nname = "s"\n[data]\nsource = "synthetic/100k"\n[[trials]]\n')
    checked, shown = mtsearch("check", str(path), "--format", "json"), mtsearch("data", str(path), "--format", "json")
    assert json.loads(checked.out)["data"] == {
        "source": "synthetic/100k", "rows": 100_000, "users": 943, "items": 1682, "catalogue": 1682,
    }  # fmt: skip
    assert json.loads(shown.out)["repeated_pairs"] == 0


def test_mistakes_come_one_a_line(mtsearch: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[study]\nname = "s"\nsede = 1\n[space]\nepochs = { low = 3, high = 1 }\n[fixed]\nl3 = 1\n')
    result = mtsearch("check", str(path))
    assert result.status == 1 and result.out == ""
    assert sorted(result.err.splitlines()) == [
        f"error: {path}: fixed.l3: unknown parameter (did you mean 'l2'?)",
        f"error: {path}: space.epochs: low = 3 is above high = 1",
        f"error: {path}: unknown key 'study.sede' (did you mean 'seed'?)",
    ]


def test_missing_data_are_an_error(mtsearch: Command) -> None:
    result = mtsearch("check", "--set", "data.source=gone.zip")
    assert result.status == 1 and "gone.zip" in result.err and result.out == ""


def test_check_needs_no_tensorflow() -> None:
    code = (
        "import sys; sys.argv = ['mtsearch', 'check']\n"
        "from mtsearch.cli import main\n"
        "main()\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_estimate_by_hand() -> None:
    """Check 2 epochs of R rows, 10 items of a batch, D = 3, layers 6-4-1: 30 + 24 + 4 weights, 6 operations each.

    Of two thirds of the rows without a rating there is nothing for the layers to do.
    """
    config, split = TrialConfig(embedding_size=3, hidden_layers="4", epochs=2, batch_size=10), make_split(rows=1200)
    rows, full = len(split.train), config.model_copy(update={"retrieval_loss": "full"})
    assert trial_seconds(config, split) == pytest.approx(0.2 + 2 * rows * 6 * 58 / 2.2e11)
    assert trial_seconds(full, split) == pytest.approx(0.2 + 2 * rows * 6 * (80 * 3 + 28) / 2.2e11)
    ratings = np.where(np.arange(rows) % 3 == 0, split.train.ratings, np.nan).astype(np.float32)
    sparse = replace(split, train=replace(split.train, ratings=ratings))
    rated = -(-rows // 3)
    assert trial_seconds(config, sparse) == pytest.approx(0.2 + 2 * 6 * (rows * 30 + rated * 28) / 2.2e11)


def test_the_estimate_spans_the_space() -> None:
    definition = StudyDefinition.load("ml-100k-quick", ["study.repeats=2"])
    split = make_split()
    cheapest, dearest = trial_seconds_range(definition, split)
    sizes = [TrialConfig(embedding_size=size) for size in (16, 128)]
    assert [cheapest, dearest] == [pytest.approx(2 * trial_seconds(config, split)) for config in sizes]
