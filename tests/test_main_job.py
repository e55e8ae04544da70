"""The main promises of mtsearch, tested with real data and full trainings."""

from pathlib import Path

import numpy as np
import pytest

from mtsearch import StudyDefinition, TrialConfig, api, run
from mtsearch.models.trainer import make_joint_trainer
from mtsearch.report import Study


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the tutorial's three configurations, trained by three seeds on what others search on and test with."""
    return run(StudyDefinition.load("tutorial"), storage=tmp_path_factory.mktemp("tutorial") / "a.db")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Return the 50 trials that README promises something of."""
    return run(StudyDefinition.load("ml-100k-quick"), 50, storage=tmp_path_factory.mktemp("quick") / "a.db")


@pytest.mark.slow
def test_one_model_of_the_quick_front_beats_all_three_of_the_tutorial(quick: Study, tutorial: Study) -> None:
    """A model trained on train and validation rows is better in both objectives on test, mean of three seeds.

    The one is picked by validation before the test set is looked at: the member of the front with the best top-100
    accuracy among those with an RMSE below 1.08.
    """
    assert quick.counting == 50
    assert quick.states["complete"] >= 48
    accurate = [row for row in quick.front if row.metrics["rmse"] < 1.08]
    picked = max(accurate, key=lambda row: row.metrics["top_100"])
    _, split = api.prepare(StudyDefinition.load("ml-100k-quick"))
    trainer, _ = make_joint_trainer(split.final(), None)
    config = TrialConfig(**quick.configs[picked.trial])
    seeds = [trainer.train(config.model_copy(update={"seed": seed}), lambda _: True).metrics for seed in (42, 43, 44)]
    # The tutorial's study trains on the same rows and is evaluated on the same test rows.
    _, published = api.prepare(StudyDefinition.load("tutorial"))
    assert published.fingerprint == split.final().fingerprint
    means = [
        [np.mean([seed[key] for seed in each]) for key in ("rmse", "top_100")] for each in tutorial.repeats.values()
    ]
    rmse, top = (np.mean([seed[key] for seed in seeds]) for key in ("rmse", "top_100"))
    print(means, picked.metrics, (rmse, top))
    assert rmse < min(rmse for rmse, _ in means)
    assert top > max(top for _, top in means)


@pytest.mark.slow
def test_tutorial_reproduces_the_published_table(tutorial: Study) -> None:
    """Median of three seeds within 0.06 of the RMSE (3.77: 0.25) and 0.01 of the top-100 accuracy."""
    assert tutorial.name == "tutorial"
    for number, published in enumerate(StudyDefinition.load("tutorial").published):
        seeds = tutorial.repeats[number]
        assert len(seeds) == 3
        rmse, top = (float(np.median([seed[key] for seed in seeds])) for key in ("rmse", "top_100"))
        assert rmse == pytest.approx(published["rmse"], abs=0.25 if number == 1 else 0.06)
        assert top == pytest.approx(published["top_100"], abs=0.01)


@pytest.mark.slow
def test_same_seed_two_databases(quick: Study, tmp_path: Path) -> None:
    again = run(StudyDefinition.load("ml-100k-quick"), 12, storage=tmp_path / "b.db")
    assert again.rows == quick.rows[: len(again.rows)]
    assert len(again.rows) >= 11
