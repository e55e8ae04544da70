"""Studies that evaluate on a sample of the users, and are not mixed up with other samples."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mtsearch import api
from mtsearch.data import make_split
from mtsearch.errors import StudyMismatch
from mtsearch.evaluation import evaluate_baselines
from mtsearch.models.trainer import EpochMetrics, TrialResult
from mtsearch.search.results import StudyResults
from mtsearch.study_file.config import TrialConfig
from tests.helpers.trainers import FormulaTrainer
from tests.search.test_run import define, go, trials_of

ERRORS = {"rmse": 0.02, "top_100": 0.01, "mae": 0.015}


class Uncertain(FormulaTrainer):
    """A trainer that gives standard errors, which grow with the seed."""

    def train(self, config: TrialConfig, on_epoch: Callable[[EpochMetrics], bool]) -> TrialResult:
        errors = {key: error * config.seed for key, error in ERRORS.items()}
        return replace(super().train(config, on_epoch), errors=errors)


def run(data: str, path: Path, users: int | None = 10, name: str = "s", repeats: int = 1) -> StudyResults:
    split = {} if users is None else {"validation_users": users}
    study = {"name": name, "seed": 3, "repeats": repeats}
    return go(define(data, study=study, split=split), path, 2, Uncertain() if users else FormulaTrainer())


def test_errors_are_stored_and_are_the_spread_where_nothing_is_repeated(data: str, tmp_path: Path) -> None:
    results = run(data, tmp_path / "a.db")
    expected = {key: 3 * error for key, error in ERRORS.items()}
    assert [trial.user_attrs["mtsearch:standard_errors"] for trial in trials_of(tmp_path / "a.db")] == [expected] * 2
    assert results.standard_errors == {0: expected, 1: expected}
    assert results.spread(0) == (expected["rmse"], expected["top_100"])
    assert results.spread(2) is None
    assert results.spread_of == "standard error, 10 of 33 users evaluated"  # seven have no validation row


def test_of_repeats_the_spread_is_that_of_the_seeds(data: str, tmp_path: Path) -> None:
    results = run(data, tmp_path / "a.db", repeats=3)
    # Seeds 3, 4 and 5, evaluated on the same users: the mean of their errors, not less.
    assert results.standard_errors[0] == pytest.approx({key: 4 * error for key, error in ERRORS.items()})
    assert results.spread(0) == pytest.approx((1e-3, 0.0))
    assert results.spread_of == "standard deviation over 3 seeds"


def test_all_users_have_no_errors(data: str, tmp_path: Path) -> None:
    results = run(data, tmp_path / "a.db", users=None)
    assert results.standard_errors == {}
    assert (results.spread(0), results.spread_of) == (None, "")
    assert "validation_users" not in results.provenance["split"]


def test_baselines_are_evaluated_on_the_same_users(data: str, tmp_path: Path) -> None:
    results = run(data, tmp_path / "a.db")
    definition = define(data, split={"validation_users": 10})
    _, split = api.prepare(definition)
    assert results.baselines == evaluate_baselines(split, split.validation)
    assert results.provenance["split"]["validation"] == len(split.validation)
    assert results.baselines != run(data, tmp_path / "b.db", users=None).baselines


@pytest.mark.slow
def test_studies_of_other_samples_are_not_compared(data: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for name, users in {"ten": 10, "ten again": 10, "eleven": 11, "all": None, "too many": 4_000}.items():
        run(data, path, users, name)
    compared = api.compare(["ten", "ten again"], str(path))
    assert (compared.same_data, compared.warning) == (True, "")
    for other in ("eleven", "all"):
        compared = api.compare(["ten", other], str(path))
        assert not compared.same_data and compared.warning.startswith(f"{other}: other data or another split than ten")
        assert compared.dominated(0, 1) is None
        assert any(line.startswith("split.validation_users: 10 -> ") for line in
                   compared.studies[1].differences["definition"])  # fmt: skip
    assert api.compare(["all", "too many"], str(path)).same_data


def test_a_study_goes_on_with_the_same_users_only(data: str, tmp_path: Path) -> None:
    run(data, tmp_path / "a.db")
    assert run(data, tmp_path / "a.db").counting == 4
    for users, said in ((11, "10 -> 11"), (None, "10 -> nothing")):
        with pytest.raises(StudyMismatch, match=rf"split\.validation_users: {said}"):
            run(data, tmp_path / "a.db", users)


def test_a_report_evaluates_the_test_rows_of_all_users(data: str, tmp_path: Path) -> None:
    run(data, tmp_path / "a.db")
    stored = api.export("s", str(tmp_path / "a.db"))
    assert stored.split.validation_users == 10
    from mtsearch.retraining.retrain import load_export_data

    interactions, split = load_export_data(stored)
    whole = make_split(interactions, stored.split.model_copy(update={"validation_users": None}))
    assert split.final().fingerprint == whole.final().fingerprint
