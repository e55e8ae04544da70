"""Tests of `mtsearch export`: from a real study in SQLite to the file, and the messages."""

import sqlite3
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from mtsearch import Export, StudyDefinition, api, export
from mtsearch.cli.export import selection_lines
from mtsearch.errors import StorageError
from mtsearch.search.results import StudyResults
from mtsearch.search.selection import make_export, select
from mtsearch.study_file.config import TrialConfig
from tests.cli.conftest import Command
from tests.cli.test_bad_input import one_line
from tests.helpers.results import results, row
from tests.helpers.trainers import FormulaTrainer, make_factory

STORAGE = "a.db"


def ratings(folder: Path) -> str:
    """Write a small ml-100k folder with 40 users and 30 items, and return it."""
    rows = [f"{u}\t{i}\t{1 + (u * i) % 5}\t{880000000 + u}" for u in range(1, 41) for i in range(1, 31) if (u + i) % 3]
    (folder / "u.data").write_text("\n".join(rows) + "\n")
    items = [f"{i}|Film {i} (1990)|01-Jan-1990||http://x|" + "|".join("0" * 19) for i in range(1, 31)]
    (folder / "u.item").write_text("\n".join(items) + "\n", encoding="latin-1")
    return str(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResults]:
    """Return a storage with a study of 25 trials over the loss ratio, of which one diverges, and its results."""
    folder = tmp_path_factory.mktemp("study")
    definition = StudyDefinition.from_mapping(
        {
            "study": {"name": "mine", "seed": 3},
            "data": {"source": ratings(folder)},
            "split": {"seed": 7},
            "space": {
                "loss_ratio": {"low": -2.0, "high": 2.0},
                "learning_rate": {"low": 0.01, "high": 1.2, "log": True},
            },
            "fixed": {"batch_size": 64, "epochs": 4},
            "trials": [{"loss_ratio": 0.0, "learning_rate": 0.1}, {"loss_ratio": 0.0, "learning_rate": 1.1}],
        }
    )
    path = folder / STORAGE
    return path, api.run(definition, 25, storage=str(path), make_trainer=make_factory(FormulaTrainer()))


class FileTests:
    @pytest.mark.slow
    @pytest.mark.parametrize("pick", ["knee", "rmse", "top_100"])
    def test_is_the_trials_stored_configuration(
        self, mtsearch: Command, finished: tuple[Path, StudyResults], tmp_path: Path, pick: str
    ) -> None:
        storage, held = finished
        result = mtsearch("export", "--storage", str(storage), "--study", "mine", "--pick", pick, "-o", "best.toml")
        assert (result.status, result.out) == (0, "")
        assert result.err.splitlines()[-1] == f"written to {tmp_path / 'best.toml'}"
        loaded = Export.load(tmp_path / "best.toml")
        number = loaded.provenance.trial
        trial = optuna.load_study(study_name="mine", storage=f"sqlite:///{storage}").trials[number]
        assert loaded.config.model_dump() == trial.user_attrs["mtsearch:config"]
        assert loaded.provenance.metrics == trial.user_attrs["mtsearch:metrics"]
        assert loaded.provenance.params == trial.params
        expected = {"knee": held.knee, "rmse": held.front[0], "top_100": held.front[-1]}[pick]
        assert expected is not None and expected.trial == number

    def test_the_ratio_is_there_as_weights(self, finished: tuple[Path, StudyResults]) -> None:
        exported = export("mine", str(finished[0]))
        ratio, config = exported.provenance.params["loss_ratio"], exported.config
        assert isinstance(ratio, float)
        assert config.retrieval_weight * config.batch_size / config.rating_weight == pytest.approx(10**ratio)

    def test_says_where_it_comes_from(self, finished: tuple[Path, StudyResults]) -> None:
        storage, held = finished
        exported = export("mine", str(storage), "rmse<=1.2")
        provenance = exported.provenance
        assert (provenance.study, provenance.pick, provenance.study_seed) == ("mine", "rmse<=1.2", 3)
        assert provenance.objectives == ("rmse", "top_100")
        assert (provenance.best_epoch, provenance.repeats) == (4, 1)
        assert (provenance.device, provenance.threads) == ("formula", 1)
        assert provenance.data_fingerprint == held.provenance["data"]["fingerprint"]
        assert provenance.split_fingerprint == held.provenance["split"]["fingerprint"]
        assert provenance.packages == held.provenance["packages"]
        assert exported.data.source == str(storage.parent)
        assert exported.split.seed == 7

    def test_stdout_has_the_toml_alone(self, mtsearch: Command, finished: tuple[Path, StudyResults]) -> None:
        result = mtsearch("export", "--storage", str(finished[0]))
        assert Export.model_validate(tomllib.loads(result.out)).provenance.pick == "knee"
        assert result.err.startswith("study mine\n")

    def test_a_later_default_is_filled_in(self, finished: tuple[Path, StudyResults]) -> None:
        """Fill in fields that trials of an older mtsearch lack, and their best epoch."""
        held = finished[1]
        old = {
            name: value for name, value in held.configs[0].items() if name not in ("patience", "optimizer", "balance")
        }
        exported = make_export(replace(held, configs={0: old}, best_epochs={}), select(held, "trial:0"))
        assert exported.config == TrialConfig.model_validate(held.configs[0])
        assert exported.provenance.best_epoch == 4

    def test_of_a_newer_mtsearch(self, finished: tuple[Path, StudyResults]) -> None:
        held = finished[1]
        newer = {**held.configs[0], "attention_heads": 4}
        with pytest.raises(StorageError, match=r"configuration of trial 0: unknown key 'attention_heads'.*upgrade"):
            make_export(replace(held, configs={0: newer}), select(held, "trial:0"))

    def test_the_epoch_that_was_taken(self, finished: tuple[Path, StudyResults]) -> None:
        held = finished[1]
        assert make_export(replace(held, best_epochs={0: 2}), select(held, "trial:0")).provenance.best_epoch == 2

    def test_reading_changes_nothing(self, mtsearch: Command, finished: tuple[Path, StudyResults]) -> None:
        storage = finished[0]
        before = sorted(each.name for each in storage.parent.iterdir()), _dump(storage)
        assert mtsearch("export", "--storage", str(storage)).status == 0
        assert (sorted(each.name for each in storage.parent.iterdir()), _dump(storage)) == before


class RefusalsTests:
    def test_a_failed_trial(self, mtsearch: Command, finished: tuple[Path, StudyResults], tmp_path: Path) -> None:
        storage, held = finished
        failed = held.failures[0].trial
        result = mtsearch("export", "--storage", str(storage), "--pick", f"trial:{failed}", "-o", "best.toml")
        assert (result.status, result.out) == (1, "")
        assert f"trial {failed} failed (non-finite loss at epoch 1" in one_line(result.err)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("pick", ["rmse<=0.1", "rmse>=0.9", "nonsense", "trial:99"])
    def test_a_pick(self, mtsearch: Command, finished: tuple[Path, StudyResults], tmp_path: Path, pick: str) -> None:
        result = mtsearch("export", "--storage", str(finished[0]), "--pick", pick, "-o", "best.toml")
        assert (result.status, result.out) == (1, "")
        assert one_line(result.err)
        assert list(tmp_path.iterdir()) == []

    def test_a_file_of_the_users(self, mtsearch: Command, finished: tuple[Path, StudyResults], tmp_path: Path) -> None:
        (tmp_path / "best.toml").write_text("mine")
        result = mtsearch("export", "--storage", str(finished[0]), "-o", "best.toml")
        assert result.status == 1
        assert "best.toml already exists" in one_line(result.err)
        assert (tmp_path / "best.toml").read_text() == "mine"

    def test_no_study(self, mtsearch: Command) -> None:
        result = mtsearch("export", "--storage", "gone.db")
        assert result.status == 1
        assert "gone.db" in one_line(result.err)


class SelectionLinesTests:
    ROWS = (row(0, 0.90, 0.10), row(1, 0.93, 0.25), row(2, 1.0, 0.32), row(3, 0.95, 0.20), row(4, 0.93, 0.25))

    def said(self, pick: str, **changes: Any) -> list[str]:
        held = results(self.ROWS, **changes)
        return list(selection_lines(held, select(held, pick)))

    def test_of_the_knee(self) -> None:
        assert self.said("knee") == [
            "trial 1: RMSE 0.93 stars, top-100 accuracy 0.25",
            "the knee: of the 4 trials of the front the best compromise between both objectives",
            "to trial 0: RMSE 0.03 stars better, top-100 accuracy 0.15 worse",
            "to trial 2: top-100 accuracy 0.07 better, RMSE 0.07 stars worse",
            "the same values: trial 4",
            "beats chance in RMSE (1.129 stars) and top-100 accuracy (0.06)",
            "beats popularity in RMSE (1.129 stars), not in top-100 accuracy (0.295)",
            "beats biases in RMSE (0.942 stars) and top-100 accuracy (0.183)",
        ]

    def test_of_an_end(self) -> None:
        said = self.said("rmse")
        assert said[1] == "the best RMSE of the 4 trials of the front"
        assert said[2] == "no trial of the front is better in RMSE"
        assert said[3] == "to trial 1: top-100 accuracy 0.15 better, RMSE 0.03 stars worse"

    def test_of_a_rule(self) -> None:
        assert self.said("rmse<=0.94")[1] == "the best top-100 accuracy of the front's trials with rmse<=0.94"
        assert self.said("top_100>=0.2")[1] == "the best RMSE of the front's trials with top_100>=0.2"

    def test_of_a_dominated_trial(self) -> None:
        said = self.said("trial:3")
        assert said[1] == "as named; not among the 4 trials of the front"
        assert said[2] == "dominated by trial 1: RMSE 0.02 stars better, top-100 accuracy 0.05 better"
        assert said[3].startswith("dominated by trial 4: ")
        assert said[-1] == "beats biases in top-100 accuracy (0.183), not in RMSE (0.942 stars)"

    def test_of_one_that_many_dominate(self) -> None:
        rows = [row(0, 500.0, 0.01), *(row(number, 1 + number / 10, number / 10) for number in range(1, 7))]
        held = results(rows, baselines={})
        said = list(selection_lines(held, select(held, "trial:0")))
        assert [line.split(":")[0] for line in said[2:5]] == [f"dominated by trial {number}" for number in (1, 2, 3)]
        assert said[5:] == ["dominated by trial 4, trial 5 and trial 6 as well"]

    def test_of_one_objective(self) -> None:
        rows = [row(0, 0.93), row(1, 0.90), row(2, 0.90), row(3, 0.90)]
        held = results(rows, ("rmse",))

        def said(pick: str) -> list[str]:
            return list(selection_lines(held, select(held, pick)))

        beaten = [f"beats {name} in RMSE ({value} stars)" for name, value in
                  (("chance", 1.129), ("popularity", 1.129), ("biases", 0.942))]  # fmt: skip
        equals = "the same values: trial 2 and trial 3"
        assert said("knee") == said("rmse") == ["trial 1: RMSE 0.9 stars", "the best trial", equals, *beaten]
        assert said("rmse<=0.95")[1] == "the best trial, with rmse<=0.95"
        assert said("trial:1")[1] == "as named; the best trial"
        assert said("trial:0") == [
            "trial 0: RMSE 0.93 stars",
            "as named; not the best trial",
            *(f"to the best, trial {number}: RMSE 0.03 stars better" for number in (1, 2, 3)),
            *beaten,
        ]

    def test_of_three_objectives(self) -> None:
        """Trial 1 is the next better one in the first and in the third objective: it is said once."""
        rows = [row(0, 1.0, 0.3, 0.2), row(1, 0.9, 0.2, 0.3), row(2, 1.2, 0.35, 0.1), row(3, 1.3, 0.1, 0.1)]
        held = results(rows, ("rmse", "top_100", "coverage"))

        def said(pick: str) -> list[str]:
            return list(selection_lines(held, select(held, pick)))

        assert said("trial:0") == [
            "trial 0: RMSE 1 stars, top-100 accuracy 0.3, coverage@100 0.2",
            "as named; one of the 3 trials of the front",
            "to trial 1: RMSE 0.1 stars better, top-100 accuracy 0.1 worse, coverage@100 0.1 better",
            "to trial 2: top-100 accuracy 0.05 better, RMSE 0.2 stars worse, coverage@100 0.1 worse",
            "beats chance in RMSE (1.129 stars) and top-100 accuracy (0.06), not in coverage@100 (0.21)",
            "beats popularity in RMSE (1.129 stars), top-100 accuracy (0.295) and coverage@100 (0.09)",
            "beats biases in top-100 accuracy (0.183), not in RMSE (0.942 stars) or coverage@100 (0.33)",
        ]
        assert said("knee")[1] == "the knee: of the 3 trials of the front the best compromise between all objectives"
        assert said("coverage")[1] == "the best coverage@100 of the 3 trials of the front"
        assert said("rmse<=1.1")[1] == "the knee of the front's trials with rmse<=1.1"
        assert said("trial:3")[2] == (
            "dominated by trial 1: RMSE 0.4 stars better, top-100 accuracy 0.1 better, coverage@100 0.2 better"
        )

    def test_of_the_only_one(self) -> None:
        held = results([row(0, 1.2, 0.01)])
        assert list(selection_lines(held, select(held)))[1:] == [
            "the only trial of the front",
            "no trial of the front is better in RMSE",
            "no trial of the front is better in top-100 accuracy",
            "does not beat chance in RMSE (1.129 stars) or top-100 accuracy (0.06)",
            "does not beat popularity in RMSE (1.129 stars) or top-100 accuracy (0.295)",
            "does not beat biases in RMSE (0.942 stars) or top-100 accuracy (0.183)",
        ]

    def test_of_several_seeds(self) -> None:
        seeds = [{"rmse": 0.92, "top_100": 0.25}, {"rmse": 0.94, "top_100": 0.25}]
        assert self.said("knee", repeats={1: seeds})[0] == (
            "trial 1: RMSE 0.93 stars (± 0.01414 stars), top-100 accuracy 0.25 (± 0); "
            "± one standard deviation over 2 seeds"
        )

    def test_a_choice_on_test_rows_says_so(self) -> None:
        assert "test rows" in self.said("knee", definition={"split": {"validation": "test"}})[-1]
        assert "test rows" not in " ".join(self.said("knee"))


def _dump(path: Path) -> list[str]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        return list(connection.iterdump())
