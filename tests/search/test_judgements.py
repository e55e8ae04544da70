"""The front judged on test: what is trained, on which rows, what is kept, and how an interrupted report goes on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from mtsearch import api
from mtsearch.config import TrialConfig
from mtsearch.data import Rows, Split, make_split
from mtsearch.errors import DefinitionError, ExportError, NonFiniteLoss, PickError
from mtsearch.evaluation import baselines
from mtsearch.report.on_test import FrontOnTest, on_test_json
from mtsearch.search.judgements import Judged
from mtsearch.search.storage import resolve_url, writing
from mtsearch.trial import EpochMetrics, TrialResult

from .test_run import define, go
from .trainers import FormulaTrainer, metrics_of

EPOCHS = 4


class FormulaJudge(FormulaTrainer):
    """On test RMSE is worse by 0.01 and top-100 by 0.02 than the formula says, unless `spoil` says otherwise."""

    def __init__(
        self,
        hook: Callable[[TrialConfig, int], None] = lambda _config, _epoch: None,
        spoil: Callable[[TrialConfig], float] = lambda _config: 0.01,
    ) -> None:
        super().__init__(hook)
        self.spoil = spoil
        self.splits: list[Split] = []
        self.judged_on: list[Rows] = []

    def evaluate(self, rows: Rows) -> Mapping[str, float]:
        self.judged_on.append(rows)
        config = self.trained[-1]
        values = metrics_of(config, EPOCHS)
        return {**values, "rmse": values["rmse"] + self.spoil(config), "top_100": values["top_100"] - 0.02}

    def made(self, split: Split, _threads: int | None) -> "FormulaJudge":
        self.splits.append(split)
        return self


def report(path: Path | str, judge: FormulaJudge, seeds: int = 2, **told: Any) -> FrontOnTest:
    return api.report_on("s", str(path), seeds=seeds, make_trainer=judge.made, **told)


def never(_split: Split, _threads: int | None) -> FormulaJudge:
    raise AssertionError("nothing was left to train")


@pytest.fixture
def path(data: str, tmp_path: Path) -> Path:
    """A study of 12 trials."""
    database = tmp_path / "a.db"
    go(define(data, fixed={"epochs": EPOCHS}), database, 12)
    return database


def test_each_member_with_each_seed_on_train_and_validation(data: str, path: Path) -> None:
    judge, study = FormulaJudge(), api.front("s", str(path))
    report(path, judge)
    configs = [TrialConfig(**study.configs[row.trial]) for row in study.front]
    assert len(configs) > 2
    assert judge.trained == [config.model_copy(update={"seed": seed}) for seed in (3, 4) for config in configs]
    definition = define(data)
    interactions, split = api.prepare(definition)
    assert split.fingerprint == make_split(interactions, definition.split).fingerprint
    (trained_on,) = judge.splits
    assert len(trained_on.train) == len(split.train) + len(split.validation)
    for rows in judge.judged_on:
        np.testing.assert_array_equal(rows.users, split.test.users)
        np.testing.assert_array_equal(rows.ratings, split.test.ratings)


def test_what_is_said_is_what_the_formula_says(path: Path) -> None:
    study, found = api.front("s", str(path)), report(path, FormulaJudge(), seeds=3)
    assert [member.row for member in found.members] == study.front
    assert found.unjudged == ()
    for member in found.members:
        config = TrialConfig(**study.configs[member.row.trial])
        values = tuple(
            metrics_of(config.model_copy(update={"seed": seed}), EPOCHS)["rmse"] + 0.01 for seed in (3, 4, 5)
        )
        assert member.test["rmse"].values == values
        assert member.test["rmse"].mean == pytest.approx(sum(values) / 3)
        assert member.optimism == pytest.approx({"rmse": 0.011, "top_100": 0.02})  # the seeds lie 0.001 apart
    split = api.prepare(define(str(path.parent / "data")))[1].final()
    assert found.baselines == baselines(split, split.test)


def test_who_falls_off(path: Path) -> None:
    """One member's RMSE is far worse on test than its neighbour's, which is better in the other objective too."""
    study = api.front("s", str(path))
    unlucky, better = study.front[0], study.front[1]
    learning_rate = study.configs[unlucky.trial]["learning_rate"]
    found = report(path, FormulaJudge(spoil=lambda config: 0.5 * (config.learning_rate == learning_rate)))
    fallen = [member for member in found.members if not member.on_front]
    assert [member.row.trial for member in fallen] == [unlucky.trial]
    assert better.trial in fallen[0].dominated_by
    assert fallen[0].optimism["rmse"] > 0.4


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_an_interrupted_report_goes_on(kind: str, data: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("new_postgres")() if kind == "postgresql" else str(tmp_path / "a.db")
    whole = str(tmp_path / "whole.db")
    for place in (url, whole):
        go(define(data, fixed={"epochs": EPOCHS}), place, 12)
    epochs: list[int] = []

    def interrupt(_config: TrialConfig, epoch: int) -> None:
        epochs.append(epoch)
        if len(epochs) == 5 * EPOCHS - 1:  # within the fifth training
            raise KeyboardInterrupt

    first, second = FormulaJudge(interrupt), FormulaJudge()
    told: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        report(url, first)
    size = len(api.front("s", url).front)
    found = report(url, second, begun=lambda done, of: told.append((done, of)))
    assert told == [(4, 2 * size)]
    assert len(second.trained) == 2 * size - 4
    expected = report(whole, uninterrupted := FormulaJudge())
    assert first.trained[:4] + second.trained == uninterrupted.trained
    assert on_test_json(found) == on_test_json(expected)


def test_what_is_there_is_not_trained_again(path: Path) -> None:
    report(path, FormulaJudge(), seeds=2)
    more, size = FormulaJudge(), len(api.front("s", str(path)).front)
    three = report(path, more, seeds=3)
    assert [config.seed for config in more.trained] == [5] * size
    assert api.report_on("s", str(path), seeds=3, make_trainer=never) == three
    one = api.report_on("s", str(path), seeds=1, make_trainer=never)
    assert [member.test["rmse"].values for member in one.members] == [
        member.test["rmse"].values[:1] for member in three.members
    ]


def test_new_members_are_judged_when_the_study_has_gone_on(data: str, path: Path) -> None:
    report(path, FormulaJudge())
    go(define(data, fixed={"epochs": EPOCHS}), path, 30)
    before = api.front("s", str(path))
    missing = {row.trial for row in before.front} - set(before.judged)
    assert missing
    judge = FormulaJudge()
    report(path, judge)
    assert len(judge.trained) == 2 * len(missing)


def test_a_training_that_fails_spoils_its_member_alone_and_is_tried_again(path: Path) -> None:
    study = api.front("s", str(path))
    rate = study.configs[study.front[1].trial]["learning_rate"]

    def diverge(config: TrialConfig, epoch: int) -> None:
        if config.learning_rate == rate and config.seed == 4 and epoch == 2:
            raise NonFiniteLoss(2, 7)

    told: list[tuple[int, int, Judged]] = []
    found = report(path, FormulaJudge(diverge), on_judged=lambda *what: told.append(what))
    member = found.members[1]
    assert (dict(member.test), member.on_front, list(member.failures)) == ({}, False, [4])
    assert "epoch 2, step 7" in member.failures[4]
    assert all(other.test for other in found.members if other is not member)
    assert sum(bool(judged.failure) for _, _, judged in told) == 1
    again = FormulaJudge()
    assert report(path, again).members[1].test
    assert [config.seed for config in again.trained] == [4]


def test_patience_trains_up_to_the_best_epoch_and_is_off(data: str, tmp_path: Path) -> None:
    class Early(FormulaTrainer):
        def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
            return replace(super().train(config, on_epoch), best_epoch=2 + round(10 * config.learning_rate) % 3)

    path = tmp_path / "a.db"
    go(define(data, fixed={"epochs": 6, "patience": 2}), path, 6, Early())
    epochs: list[tuple[int, int]] = []
    judge = FormulaJudge(lambda config, epoch: epochs.append((config.patience, epoch)))
    shares: list[float] = []
    report(path, judge, seeds=1, on_epoch=lambda _trial, _seed, share: shares.append(share))
    assert {patience for patience, _ in epochs} == {0}
    best = [api.front("s", str(path)).best_epochs[row.trial] for row in api.front("s", str(path)).front]
    assert 2 <= max(best) <= 4
    assert [epoch for _, epoch in epochs] == [epoch for last in best for epoch in range(1, last + 1)]
    assert shares == [epoch / last for last in best for epoch in range(1, last + 1)]


def test_other_data_are_refused_and_nothing_is_kept(path: Path) -> None:
    ratings = path.parent / "data" / "u.data"
    ratings.write_text(ratings.read_text().replace("1\t1\t2\t", "1\t1\t3\t", 1))
    with pytest.raises(ExportError, match="are not those of study s"):
        api.report_on("s", str(path), make_trainer=never)
    assert not api.front("s", str(path)).judged
    assert not api.front("s", str(path)).test_baselines


@pytest.mark.parametrize("part", ["data", "split"])
def test_what_was_judged_on_other_rows_is_left_out(path: Path, part: str) -> None:
    report(path, FormulaJudge(), seeds=1)
    trial = api.front("s", str(path)).front[0].trial
    with writing(resolve_url(str(path))) as writer:
        study = optuna.load_study(study_name="s", storage=writer)
        for key in (f"mtsearch:report:{trial}:3", "mtsearch:report:baselines"):
            study.set_user_attr(key, {**study.user_attrs[key], part: "another"})
    study_now = api.front("s", str(path))
    assert trial not in study_now.judged
    assert len(study_now.judged) == len(study_now.front) - 1
    assert study_now.test_baselines == {}


def test_a_renamed_study_keeps_its_report(path: Path) -> None:
    before = report(path, FormulaJudge())
    api.rename("s", "t", str(path))
    after = api.report_on("t", str(path), seeds=2, make_trainer=never)
    assert on_test_json(after) == {**on_test_json(before), "study": "t"}


def test_nothing_to_judge(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    go(define(data, space={"learning_rate": {"low": 0.95, "high": 1.0}}), path, 1)
    with pytest.raises(PickError, match=r"study s has no front \(trials: "):
        api.report_on("s", str(path), make_trainer=never)
    with pytest.raises(DefinitionError, match="seeds = 0; one or more"):
        api.report_on("s", str(path), seeds=0, make_trainer=never)
