"""Tests that a saved model answers in plain TensorFlow as the trained model would."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from mtsearch import StudyDefinition, prepare
from mtsearch.data.interactions import Codes, Rows
from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from mtsearch.models.compiled_model import CompiledModel
from mtsearch.models.members import Member
from mtsearch.models.saved_model import DEFAULT_K, save_joint
from mtsearch.study_file.config import TrialConfig
from tests.helpers.clean_process import CLEAN, Ask
from tests.helpers.environments import make_environment
from tests.helpers.model_cases import TutorialScorer, go_on, make_split

UNKNOWN = 3  # users and items without training rows

CONFIGS = {
    "tutorial": TrialConfig(epochs=2, batch_size=256),
    "everything": TrialConfig(
        epochs=2, batch_size=256, retrieval_loss="full", normalize=True, item_bias=True, rating_biases=True,
        dot_product=True, embedding_dropout=0.1, hidden_dropout=0.1, l2=1e-4, balance="uncertainty",
    ),
    "squared": TrialConfig(
        epochs=2, batch_size=256, retrieval_loss="squared", item_bias=True, optimizer="adam", learning_rate=0.01,
        elementwise_product=True,
    ),
    "linear": TrialConfig(epochs=2, batch_size=256, retrieval_loss="corrected", hidden_layers="", rating_biases=True),
}  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """A trained model in this process, and the saved model loaded from its folder."""

    split: Split
    scorer: TutorialScorer
    folder: Path
    signatures: Mapping[str, Any]

    def ask(self, name: str, **inputs: Any) -> dict[str, NDArray[Any]]:
        outputs = self.signatures[name](**{key: _tensor(value) for key, value in inputs.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    def recommend(self, users: list[str], k: int, exclude_seen: bool) -> dict[str, NDArray[Any]]:
        return self.ask("recommend", user_id=users, k=k, exclude_seen=exclude_seen)

    def ranking(self, users: Codes, exclude_seen: bool) -> list[list[str]]:
        """Return the items left for each user, best first, ties in catalogue order, with plain NumPy and sets."""
        lists = []
        for user, scores in zip(users, self.scorer.scores(users), strict=True):
            seen = set(self.split.train.items[self.split.train.users == user]) if exclude_seen else set()
            best = [self.split.catalogue[column] for column in np.argsort(-scores, kind="stable")]
            lists.append([self.split.item_ids[item] for item in best if item not in seen])
        return lists


def _tensor(value: Any) -> tf.Tensor:
    return tf.constant(value, tf.string) if isinstance(value, list) else tf.constant(value)


def trained(split: Split, device: Device, config: TrialConfig, folder: Path) -> Saved:
    trainer = JointTrainer(split, device)
    trainer.train(config, go_on)
    trainer.save(folder)
    scorer = TutorialScorer(trainer.last_model(), split.catalogue)
    return Saved(split, scorer, folder, tf.saved_model.load(str(folder)).signatures)


@pytest.fixture(
    scope="module",
    params=[name if name == "everything" else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS],
)
def saved(request: pytest.FixtureRequest, device: Device, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    split = make_split(unknown=UNKNOWN)
    return trained(split, device, CONFIGS[request.param], tmp_path_factory.mktemp("model") / "1")


@pytest.fixture(scope="module")
def simple(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    split = make_split(unknown=UNKNOWN)
    return trained(split, device, CONFIGS["tutorial"], tmp_path_factory.mktemp("simple") / "1")


def ids(rows: Rows, split: Split) -> tuple[list[str], list[str]]:
    return list(split.user_ids[rows.users]), list(split.item_ids[rows.items])


def texts(values: NDArray[np.object_]) -> list[list[str]]:
    return [[value.decode() for value in row] for row in values]


def served_ratings(scorer: TutorialScorer, split: Split, rows: Rows) -> NDArray[np.float32]:
    """Return the ratings of the model in this process, clipped as `rmse_clipped` clips."""
    return np.clip(scorer.ratings(rows.users, rows.items), split.train.ratings.min(), split.train.ratings.max())


def test_predicts_as_the_model_does(saved: Saved) -> None:
    split = saved.split
    users, items = ids(split.test, split)
    answer = saved.ask("predict", user_id=users, item_id=items)
    np.testing.assert_allclose(answer["ratings"], served_ratings(saved.scorer, split, split.test), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(answer["known_users"], split.known_users[split.test.users])
    np.testing.assert_array_equal(answer["known_items"], split.known_items[split.test.items])
    assert not answer["known_users"].all() and not answer["known_items"].all()


def test_a_pair_alone_is_rated_as_among_others(simple: Saved) -> None:
    users, items = ids(simple.split.test, simple.split)
    together = simple.ask("predict", user_id=users, item_id=items)["ratings"]
    alone = [simple.ask("predict", user_id=[u], item_id=[i])["ratings"][0] for u, i in zip(users, items, strict=True)]
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 7, 80])
def test_recommends_the_exact_ranking(saved: Saved, k: int, exclude_seen: bool) -> None:
    split = saved.split
    codes = np.arange(len(split.user_ids), dtype=np.int32)
    answer = saved.recommend(list(split.user_ids), k, exclude_seen)
    expected = saved.ranking(codes, exclude_seen)
    assert texts(answer["item_ids"]) == [(ranked + [""] * k)[:k] for ranked in expected]
    assert texts(answer["titles"]) == texts(answer["item_ids"])
    scores = np.sort(saved.scorer.scores(codes), axis=1)[:, ::-1]
    if exclude_seen:
        left = np.array([len(ranked) for ranked in expected])
        np.testing.assert_array_equal(np.isneginf(answer["scores"]), np.arange(k) >= left[:, None])
        assert (np.diff(np.nan_to_num(answer["scores"], neginf=-1e9), axis=1) <= 0).all()
    else:
        np.testing.assert_allclose(answer["scores"], scores[:, :k], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(answer["known"], split.known_users)


def test_unknown_users_get_the_mean_users_ranking(saved: Saved) -> None:
    """The last users of the split have no training rows, so the trained model gives them the mean too."""
    answer = saved.recommend(["nobody", "", saved.split.user_ids[-1]], 5, True)
    assert answer["known"].tolist() == [False] * 3
    first, second, untrained = texts(answer["item_ids"])
    (mean,) = saved.ranking(np.array([len(saved.split.user_ids) - 1], np.int32), exclude_seen=False)
    assert first == second == untrained == mean[:5]


def test_unknown_users_are_rated_as_the_mean_user(saved: Saved) -> None:
    items = np.arange(80, dtype=np.int32)
    every = Rows(
        np.full(80, len(saved.split.user_ids) - 1, np.int32), items, np.zeros(80, np.float32), np.zeros(80, int)
    )
    answer = saved.ask("predict", user_id=["nobody"] * 80, item_id=list(saved.split.item_ids))
    np.testing.assert_allclose(answer["ratings"], served_ratings(saved.scorer, saved.split, every), rtol=0, atol=1e-5)


def test_unknown_items_are_rated_as_the_mean_item(simple: Saved) -> None:
    users = np.arange(60, dtype=np.int32)
    every = Rows(
        users, np.full(60, len(simple.split.item_ids) - 1, np.int32), np.zeros(60, np.float32), np.zeros(60, int)
    )
    answer = simple.ask("predict", user_id=list(simple.split.user_ids), item_id=["nothing"] * 60)
    np.testing.assert_allclose(answer["ratings"], served_ratings(simple.scorer, simple.split, every), rtol=0, atol=1e-5)


def test_no_more_than_the_catalogue(simple: Saved) -> None:
    size = len(simple.split.catalogue)
    for k in (size + 1, 0, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"larger than the catalogue|less than 1"):
            simple.recommend([simple.split.user_ids[0]], k, True)


def test_an_empty_batch(simple: Saved) -> None:
    assert simple.recommend([], 4, True)["item_ids"].shape == (0, 4)
    assert simple.ask("serving_default", user_id=[])["scores"].shape == (0, DEFAULT_K)
    assert simple.ask("predict", user_id=[], item_id=[])["ratings"].shape == (0,)


def test_serving_default_is_ten_unseen(simple: Saved) -> None:
    users = list(simple.split.user_ids)
    default, asked = simple.ask("serving_default", user_id=users), simple.recommend(users, 10, True)
    assert texts(default["item_ids"]) == texts(asked["item_ids"])
    np.testing.assert_array_equal(default["scores"], asked["scores"])


def test_a_catalogue_of_less_than_ten(device: Device, tmp_path: Path) -> None:
    saved = trained(make_split(items=6, rows=300), device, CONFIGS["tutorial"], tmp_path / "1")
    assert saved.ask("serving_default", user_id=["user 0001"])["item_ids"].shape == (1, 6)


def test_a_catalogue_that_is_not_all_items(device: Device, tmp_path: Path) -> None:
    whole = make_split()
    part = Split(**{**whole.__dict__, "catalogue": np.arange(0, 80, 3, dtype=np.int32)})
    saved = trained(part, device, CONFIGS["tutorial"], tmp_path / "1")
    codes = np.arange(60, dtype=np.int32)
    for exclude_seen in (True, False):
        answer = texts(saved.recommend(list(part.user_ids), 27, exclude_seen)["item_ids"])
        assert answer == [(ranked + [""] * 27)[:27] for ranked in saved.ranking(codes, exclude_seen)]


def test_of_equal_scores_the_first_of_the_catalogue(device: Device, tmp_path: Path) -> None:
    split = make_split()
    trainer = JointTrainer(split, device)
    trainer.train(CONFIGS["tutorial"], go_on)
    compiled = trainer.last_model()
    assert isinstance(compiled, CompiledModel)
    compiled.model.item_table.assign(tf.zeros_like(compiled.model.item_table))
    save_joint([Member.kept(compiled)], split, tmp_path / "1")
    found = tf.saved_model.load(str(tmp_path / "1")).signatures["recommend"](
        user_id=tf.constant(["user 0001"]), k=tf.constant(80), exclude_seen=tf.constant(False)
    )
    assert texts(found["item_ids"].numpy())[0] == list(split.item_ids)


def test_ids_of_any_script(device: Device, tmp_path: Path) -> None:
    whole = make_split(users=4, items=12, rows=200)
    names = np.array(["Amélie", "千と千尋", "a\nb", "a|b", "", " x ", "😀", "Ё", "'\"", "\\", "%s", "nul\0nul"], object)
    saved = trained(Split(**{**whole.__dict__, "item_ids": names}), device, CONFIGS["tutorial"], tmp_path / "1")
    answer = saved.recommend(["user 0000"], 12, False)
    assert texts(answer["item_ids"]) == saved.ranking(np.array([0], np.int32), exclude_seen=False)
    rated = saved.ask("predict", user_id=["user 0000"] * 12, item_id=list(names))
    every = Rows(
        np.zeros(12, np.int32), np.arange(12, dtype=np.int32), np.zeros(12, np.float32), np.zeros(12, np.int64)
    )
    np.testing.assert_allclose(rated["ratings"], served_ratings(saved.scorer, saved.split, every), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_answers_in_plain_tensorflow(saved: Saved, ask_a_clean_process: Ask) -> None:
    users, items = ids(saved.split.test, saved.split)
    pairs = {"user_id": users, "item_id": items}
    asked = [*saved.split.user_ids, "nobody"]
    lists = {"user_id": asked, "k": 20, "exclude_seen": True}
    predicted, recommended = ask_a_clean_process(saved.folder, [("predict", pairs), ("recommend", lists)])
    here = saved.ask("predict", **pairs)["ratings"]
    np.testing.assert_allclose(predicted["ratings"], here, rtol=0, atol=1e-5)
    assert recommended["item_ids"] == texts(saved.recommend(asked, 20, True)["item_ids"])


@pytest.mark.slow
def test_answers_where_only_tensorflow_is_installed(simple: Saved, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "only", "tensorflow")
    users, items = ids(simple.split.test, simple.split)
    pairs = {"user_id": users, "item_id": items}
    question = json.dumps([str(simple.folder), [("predict", pairs)]])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "PYTHON"))}
    done = subprocess.run(
        [python, "-c", CLEAN], input=question, env=clean, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    np.testing.assert_allclose(answer["ratings"], simple.ask("predict", **pairs)["ratings"], rtol=0, atol=1e-5)


def test_has_no_keras_in_it(simple: Saved) -> None:
    names = {path.name for path in simple.folder.rglob("*")}
    assert "keras_metadata.pb" not in names
    assert b"tf_keras" not in (simple.folder / "saved_model.pb").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_test_row_of_movielens(device: Device, tmp_path: Path, ask_a_clean_process: Ask, precision: str) -> None:
    _, split = prepare(StudyDefinition.load("ml-100k-quick"))
    config = CONFIGS["everything"].model_copy(
        update={"batch_size": 8192, "hidden_layers": "64-32", "precision": precision}
    )
    saved = trained(split.final(), device, config, tmp_path / "1")
    users, items = ids(split.test, split)
    (answer,) = ask_a_clean_process(saved.folder, [("predict", {"user_id": users, "item_id": items})])
    expected = served_ratings(saved.scorer, saved.split, split.test)
    # NOTE: where float32 differs in its last bit, bfloat16 may round to the other side: 8 bits of mantissa.
    np.testing.assert_allclose(answer["ratings"], expected, rtol=0, atol=1e-5 if precision == "float32" else 0.02)
    codes = np.arange(len(split.user_ids), dtype=np.int32)
    for exclude_seen in (True, False):
        found = texts(saved.recommend(list(split.user_ids), 100, exclude_seen)["item_ids"])
        assert found == [ranked[:100] for ranked in saved.ranking(codes, exclude_seen)]
