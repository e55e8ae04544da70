"""The main promises of mtsearch, tested with real data and full trainings."""

from pathlib import Path

import numpy as np
import pytest

from mtsearch import StudyDefinition, TrialConfig, api, run
from mtsearch.models.trainer import make_joint_trainer


@pytest.mark.slow
def test_one_model_of_the_quick_front_beats_all_three_of_the_tutorial(tmp_path: Path) -> None:
    """A model trained on train and validation rows is better in both objectives on test, mean of three seeds.

    The one is picked by validation before the test set is looked at: the member of the front with the best top-100
    accuracy among those with an RMSE below 1.08.
    """
    definition = StudyDefinition.load("ml-100k-quick")
    results = run(definition, 50, storage=str(tmp_path / "a.db"))
    assert results.counting == 50
    assert results.states["complete"] >= 48
    accurate = [row for row in results.front if row.metrics["rmse"] < 1.08]
    picked = max(accurate, key=lambda row: row.metrics["top_100"])
    _, split = api.prepare(definition)
    trainer, _ = make_joint_trainer(split.final(), None)

    def on_test(config: TrialConfig) -> tuple[float, float]:
        seeded = [config.model_copy(update={"seed": seed}) for seed in (1, 2, 3)]
        metrics = [trainer.train(each, lambda _: True).metrics for each in seeded]
        return float(np.mean([m["rmse"] for m in metrics])), float(np.mean([m["top_100"] for m in metrics]))

    weights = StudyDefinition.load("tutorial").trials
    tutorial = [on_test(TrialConfig(**trial)) for trial in weights]  # type: ignore[arg-type] # floats
    rmse, top = on_test(TrialConfig(**results.configs[picked.trial]))
    print(tutorial, picked.metrics, (rmse, top))
    assert rmse < min(rmse for rmse, _ in tutorial)
    assert top > max(top for _, top in tutorial)


@pytest.mark.slow
def test_tutorial_reproduces_the_published_table(tmp_path: Path) -> None:
    """Median of three seeds within 0.06 of the RMSE (3.77: 0.25) and 0.01 of the top-100 accuracy."""
    definition = StudyDefinition.load("tutorial")
    results = run(definition, storage=str(tmp_path / "a.db"))
    assert results.name == "tutorial"
    for number, published in enumerate(definition.published):
        seeds = results.repeats[number]
        assert len(seeds) == 3
        rmse, top = (float(np.median([seed[key] for seed in seeds])) for key in ("rmse", "top_100"))
        assert rmse == pytest.approx(published["rmse"], abs=0.25 if number == 1 else 0.06)
        assert top == pytest.approx(published["top_100"], abs=0.01)


@pytest.mark.slow
def test_same_seed_two_databases(tmp_path: Path) -> None:
    definition = StudyDefinition.load("ml-100k-quick")
    both = [run(definition, 12, storage=str(tmp_path / name)) for name in ("a.db", "b.db")]
    assert both[0].rows == both[1].rows
