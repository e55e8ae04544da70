"""Tests of a whole training against the tutorial's model, from the same weights and in the same batches."""

import numpy as np
import pytest

from mtsearch.data import load, make_split
from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from mtsearch.study_file.config import TrialConfig
from mtsearch.study_file.sections import DataSection, SplitSection
from tests.helpers.model_cases import go_on
from tests.helpers.stock import StockTraining

WEIGHTS = [(1.0, 0.0), (0.0, 1.0), (1.0, 1e-3)]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("embedding_size", [pytest.param(16, marks=pytest.mark.slow), 32])
def test_every_epoch_equals_stock(
    split: Split, trainer: JointTrainer, weights: tuple[float, float], embedding_size: int
) -> None:
    config = TrialConfig(
        rating_weight=weights[0],
        retrieval_weight=weights[1],
        embedding_size=embedding_size,
        batch_size=250,
        epochs=4,
        seed=3,
    )
    assert split.known_users.all()
    assert split.known_items.all()
    result, stock = trainer.train(config, go_on), StockTraining(split, config)
    for epoch in result.curve:
        assert epoch.losses == pytest.approx(stock.epoch_losses(epoch.epoch), rel=1e-4)
    assert result.metrics["rmse"] == pytest.approx(stock.rmse(), abs=2e-3)
    assert result.parameters == sum(np.prod(v.shape) for v in stock.model.trainable_variables) - 2 * embedding_size


def test_it_learns(split: Split, trainer: JointTrainer) -> None:
    """Two models that never change would be equal too: the losses fall."""
    result = trainer.train(TrialConfig(batch_size=250, epochs=20, retrieval_weight=1e-3), go_on)
    first, last = result.curve[0].losses, result.curve[-1].losses
    assert last["rating"] < 0.5 * first["rating"]
    assert last["retrieval"] < first["retrieval"]
    assert result.metrics["rmse"] < np.std(split.validation.ratings)


@pytest.mark.slow
def test_an_epoch_of_movielens(device: Device, movielens: Split) -> None:
    # The stock task makes several matrices of batch x batch: with 8192 rows most time went into paging them in.
    config = TrialConfig(rating_weight=1.0, retrieval_weight=1.0, epochs=1, batch_size=2048)
    result = JointTrainer(movielens, device).train(config, go_on)
    assert result.curve[0].losses == pytest.approx(StockTraining(movielens, config).epoch_losses(1), rel=1e-4)


@pytest.fixture(scope="module")
def movielens(tmp_path_factory: pytest.TempPathFactory) -> Split:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return make_split(load(DataSection()), SplitSection(validation="test"))
