"""Tests that serving reads the models that training writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from mtsearch.models import Device, JointTrainer
from mtsearch.serving import ServedModel
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import THREADS, go_on, make_split


@pytest.mark.slow
@pytest.mark.parametrize("rating_biases", [False, True])
def test_a_trained_model_is_served(folder: Path, tmp_path: Path, rating_biases: bool) -> None:
    split = make_split(unknown=5)
    trainer = JointTrainer(split, Device.default(THREADS))
    trainer.train(TrialConfig(embedding_size=8, batch_size=500, epochs=2, rating_biases=rating_biases), go_on)
    trainer.save(tmp_path / "1")
    facts = json.loads((folder / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(facts | {"catalogue": len(split.catalogue)}))
    model = ServedModel.load(tmp_path)

    users = [*split.user_ids, "nobody"]
    trained = set(split.train.users.tolist())
    everything = model.recommend(users, len(split.catalogue), exclude_seen=False)
    assert everything.known.tolist() == [code in trained for code in range(len(users))]
    assert (np.sort(everything.items.astype(str), axis=1) == np.sort(split.item_ids.astype(str))).all()
    assert (np.diff(everything.scores, axis=1) <= 0).all()
    assert everything.ratings.min() >= 1 and everything.ratings.max() <= 5

    unseen = model.recommend(users, len(split.catalogue))
    for code in range(len(users)):
        seen = set(split.item_ids[split.train.items[split.train.users == code]])
        left = [item for item in everything.items[code] if item not in seen]
        assert [best.item for best in unseen.of(code)] == left
    first = everything.of(0)[0]
    assert model.predict([users[0]], [first.item]).ratings[0] == pytest.approx(first.rating, abs=1e-5)


@pytest.mark.slow
def test_the_double_has_the_signatures_of_a_trained_model(folder: Path, tmp_path: Path) -> None:
    """The other serving tests use a double: it has to be like a real model."""
    import tensorflow as tf

    trainer = JointTrainer(make_split(), Device.default(THREADS))
    trainer.train(TrialConfig(embedding_size=8, batch_size=500, epochs=1), go_on)
    trainer.save(tmp_path / "1")
    for name in ("recommend", "predict"):
        real, double = (tf.saved_model.load(str(place / "1")).signatures[name] for place in (tmp_path, folder))
        assert _types(real.structured_outputs) == _types(double.structured_outputs)
        assert _types(real.structured_input_signature[1]) == _types(double.structured_input_signature[1])


def _types(specs: dict[str, object]) -> dict[str, str]:
    return {name: spec.dtype.name for name, spec in specs.items()}  # type: ignore[attr-defined]
