"""What the product promises of its main job, on real data at full length."""

from pathlib import Path

import numpy as np
import pytest

from mtsearch import StudyDefinition, TrialConfig, api, run
from mtsearch.trainers import joint_trainer


@pytest.mark.slow
def test_one_model_of_the_quick_front_beats_all_three_of_the_tutorial(tmp_path: Path) -> None:
    """Retrained on train and validation, judged on test, mean of three seeds, both objectives at once.

    The one is picked by validation before the test set is looked at: the member of the front with the best top-100
    accuracy among those with an RMSE below 1.08.
    """
    definition = StudyDefinition.load("ml-100k-quick")
    record = run(definition, 50, storage=str(tmp_path / "a.db"))
    assert record.counting == 50
    assert record.states["complete"] >= 48
    accurate = [row for row in record.front if row.metrics["rmse"] < 1.08]
    picked = max(accurate, key=lambda row: row.metrics["top_100"])
    _, split = api.prepare(definition)
    trainer, _ = joint_trainer(split.final(), None)

    def on_test(config: TrialConfig) -> tuple[float, float]:
        seeded = [config.model_copy(update={"seed": seed}) for seed in (1, 2, 3)]
        results = [trainer.train(each, lambda _: True).metrics for each in seeded]
        return float(np.mean([m["rmse"] for m in results])), float(np.mean([m["top_100"] for m in results]))

    weights = StudyDefinition.load("tutorial").trials
    tutorial = [on_test(TrialConfig(**trial)) for trial in weights]  # type: ignore[arg-type] # floats
    rmse, top = on_test(TrialConfig(**record.configs[picked.trial]))
    print(tutorial, picked.metrics, (rmse, top))
    assert rmse < min(rmse for rmse, _ in tutorial)
    assert top > max(top for _, top in tutorial)


@pytest.mark.slow
def test_tutorial_reproduces_the_published_table(tmp_path: Path) -> None:
    """Median of three seeds within 0.06 of the RMSE (3.77: 0.25) and 0.01 of the top-100 accuracy."""
    definition = StudyDefinition.load("tutorial")
    record = run(definition, storage=str(tmp_path / "a.db"))
    assert record.name == "tutorial"
    for number, published in enumerate(definition.published):
        seeds = record.repeats[number]
        assert len(seeds) == 3
        rmse, top = (float(np.median([seed[key] for seed in seeds])) for key in ("rmse", "top_100"))
        assert rmse == pytest.approx(published["rmse"], abs=0.25 if number == 1 else 0.06)
        assert top == pytest.approx(published["top_100"], abs=0.01)


@pytest.mark.slow
def test_same_seed_two_databases(tmp_path: Path) -> None:
    definition = StudyDefinition.load("ml-100k-quick")
    records = [run(definition, 12, storage=str(tmp_path / name)) for name in ("a.db", "b.db")]
    assert records[0].rows == records[1].rows
