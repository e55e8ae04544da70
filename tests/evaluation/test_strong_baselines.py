"""Tests of the baselines that other packages train: implicit ALS and Bayesian factorization machines."""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mtsearch.data import load
from mtsearch.data import make_split as split_of_study
from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.errors import MachineError
from mtsearch.evaluation import Evaluator, evaluate_baselines
from mtsearch.evaluation import strong_baselines as strong_module
from mtsearch.evaluation.factors import Factors
from mtsearch.evaluation.strong_baselines import (
    bayesian_fm,
    evaluate_strong_baselines,
    fit_bayesian_fm,
    fit_ials,
    ials,
)
from mtsearch.study_file.definition import StudyDefinition
from tests.helpers.evaluation_cases import make_rows, make_split

Reals = NDArray[np.float64]


@pytest.fixture(scope="module")
def split() -> Split:
    """Give 80 users with tastes and 50 items with traits; user 79 and item 49 have no training row."""
    rng = np.random.default_rng(3)
    tastes, traits = rng.normal(size=(80, 2)), rng.normal(size=(50, 2))
    liking = tastes @ traits.T
    chance = 1 / (1 + np.exp(1 - 2 * liking))
    users, items = np.nonzero(rng.random((80, 50)) < chance)
    ratings = np.clip(3 + liking[users, items] + rng.normal(size=len(users)) / 4, 1, 5)
    rows = Rows(users.astype(np.int32), items.astype(np.int32), ratings.astype(np.float32), np.zeros_like(users))
    held_out = rng.random(len(users)) < 0.2
    train = rows.take(np.flatnonzero(~held_out & (users < 79) & (items < 49)))
    return make_split(80, 50, range(50), train, rows.take(np.flatnonzero(held_out)))


def everyone(split: Split) -> NDArray[np.int32]:
    return np.arange(len(split.user_ids), dtype=np.int32)


def plain_ials(pairs: Reals, size: int, regularization: float, alpha: float) -> Reals:
    """Return the scores of implicit ALS, each least-squares problem solved as the paper writes it, to convergence."""
    rng = np.random.default_rng(0)
    weights: Reals = 1 + (alpha - 1) * pairs
    users: Reals = rng.normal(size=(len(pairs), size)) / 10
    items: Reals = rng.normal(size=(pairs.shape[1], size)) / 10

    def solve(fixed: Reals, weight: Reals, wanted: Reals) -> Reals:
        gram = fixed.T @ (weight[:, None] * fixed) + regularization * np.identity(size)
        return np.linalg.solve(gram, fixed.T @ (weight * wanted)).astype(np.float64)

    for _ in range(100):
        for user in range(len(users)):
            users[user] = solve(items, weights[user], pairs[user])
        for item in range(len(items)):
            items[item] = solve(users, weights[:, item], pairs[:, item])
    scores: Reals = users @ items.T
    return scores


def test_ials_equals_a_plain_implementation() -> None:
    """With as many factors as items the optimum is unique, wherever the search begins."""
    rng = np.random.default_rng(1)
    taken = rng.random((9, 7)) < 0.4
    taken[:, 0] = taken[0] = True
    triples = [(user, item, 2.0) for user, item in np.argwhere(taken).tolist()]
    rows = make_rows([*triples, *triples[:5]])  # a pair counts once, however many rows it has
    split = make_split(9, 7, [1, 2, 3, 4, 6], rows, rows)
    trained = fit_ials(split, factors=7, regularization=1.5, alpha=4.0, iterations=100)
    wanted = plain_ials(taken.astype(float), 7, 1.5, 4.0)
    users = np.array([8, 0, 3], np.int32)
    np.testing.assert_allclose(trained.scores(users), wanted[users][:, split.catalogue], atol=1e-5)


class Recorded:
    """The last machine of myfm that was trained, with what it was trained on."""

    machine: Any = None


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Recorded]]:
    import myfm

    class Recording(myfm.MyFMRegressor):  # type: ignore[misc]
        def fit(self, *args: Any, **options: Any) -> None:
            Recorded.machine = self
            super().fit(*args, **options)

    monkeypatch.setattr(myfm, "MyFMRegressor", Recording)
    yield Recorded
    Recorded.machine = None


def plain_features(split: Split, users: NDArray[np.int32], items: NDArray[np.int32], neighbours: bool) -> Reals:
    """Return one row per pair, as the docstring of `fit_bayesian_fm` says; users and items with training rows only."""
    of_user: dict[int, set[int]] = {}
    of_item: dict[int, set[int]] = {}
    for user, item in zip(split.train.users.tolist(), split.train.items.tolist(), strict=True):
        of_user.setdefault(user, set()).add(item)
        of_item.setdefault(item, set()).add(user)
    known_users, known_items = sorted(of_user), sorted(of_item)
    rows = []
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        row = [float(user == each) for each in known_users]
        if neighbours:
            row += [len(of_user[user]) ** -0.5 * (each in of_user[user]) for each in known_items]
        row += [float(item == each) for each in known_items]
        if neighbours:
            row += [len(of_item[item]) ** -0.5 * (each in of_item[item]) for each in known_users]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("neighbours", [True, False])
def test_the_factors_of_a_machine_say_what_the_machine_says(
    split: Split, recorded: type[Recorded], neighbours: bool
) -> None:
    trained = fit_bayesian_fm(split, rank=3, iterations=60, neighbours=neighbours)
    rows = split.train
    features = plain_features(split, rows.users, rows.items, neighbours)
    from scipy import sparse

    groups = [78 + 1, 49, 49, 79] if neighbours else [79, 49]
    assert features.shape[1] == sum(groups)
    ends = np.cumsum([sum(groups[: len(groups) // 2]), sum(groups[len(groups) // 2 :])])
    import myfm

    # The machine knows blocks: one row of each per pair is the same.
    blocks = [
        myfm.RelationBlock(list(range(len(rows))), sparse.csr_matrix(part))
        for part in np.split(features, ends[:-1], axis=1)
    ]
    said = recorded.machine.predict(None, X_rel=blocks)
    np.testing.assert_allclose(trained.ratings(rows.users, rows.items), said, atol=1e-5)
    # Items are ranked by their ratings.
    pairs = np.indices((len(split.user_ids), 50), np.int32).reshape(2, -1)
    ratings = trained.ratings(*pairs).reshape(-1, 50)
    scores = trained.scores(everyone(split))
    np.testing.assert_allclose(scores - scores[:, :1], ratings - ratings[:, :1], atol=1e-5)


def test_every_kind_of_feature_has_a_prior_of_its_own(split: Split, recorded: type[Recorded]) -> None:
    fit_bayesian_fm(split, rank=2, iterations=55)
    assert recorded.machine.n_groups_ == 4
    assert len(recorded.machine.predictor_.samples) == 5  # 50 are dropped


def test_what_is_unknown_is_the_average(split: Split) -> None:
    known = np.arange(79, dtype=np.int32)
    trained = fit_bayesian_fm(split, rank=3, iterations=60)
    for item in (0, 7):
        of_known = trained.ratings(known, np.full(79, item, np.int32))
        unknown = trained.ratings(np.array([79], np.int32), np.array([item], np.int32))
        assert unknown[0] == pytest.approx(of_known.mean(), abs=1e-5)
    ranked = fit_ials(split, factors=4, regularization=2.0, alpha=4.0, iterations=10)
    np.testing.assert_allclose(ranked.scores(np.array([79], np.int32))[0], ranked.scores(known).mean(axis=0), atol=1e-6)


def test_both_are_better_than_what_needs_no_search_and_the_same_each_time(split: Split) -> None:
    told: list[tuple[str, float]] = []
    found = evaluate_strong_baselines(split, split.validation, lambda name, share: told.append((name, share)))
    simple = evaluate_baselines(split, split.validation)
    assert list(found) == ["ials", "bayesian_fm"]
    assert found["bayesian_fm"]["rmse"] < 0.8 * simple["biases"]["rmse"]
    assert found["ials"]["top_10_unseen"] > 1.1 * simple["popularity"]["top_10_unseen"]
    assert "rmse" not in found["ials"]
    assert "top_10" not in found["bayesian_fm"]
    assert found == evaluate_strong_baselines(split, split.validation)
    # Each training is told of from its begin to its end.
    assert {name for name, _ in told} == {"ials, retrieval", "bayesian_fm, rating"}
    shares = [share for name, share in told if name == "bayesian_fm, rating"]
    assert shares == pytest.approx(np.arange(1, 301) / 300)
    assert [share for name, share in told if name == "ials, retrieval"][-1] == 1


def test_the_same_bits_from_any_number_of_threads(split: Split) -> None:
    first = fit_ials(split, 8, 3.0, 5.0, 10)
    with threadpool_limits(1, "openmp"):
        again = fit_ials(split, 8, 3.0, 5.0, 10)
    assert first.users.tobytes() == again.users.tobytes()
    assert first.items.tobytes() == again.items.tobytes()


@pytest.mark.parametrize("package", ["implicit", "myfm"])
def test_a_missing_package_is_missed_before_anything_is_trained(
    split: Split, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MachineError) as error:
        evaluate_strong_baselines(split, split.validation, lambda _name, _share: pytest.fail("trained"))
    assert str(error.value) == (
        f"the strong baselines need {package}, which is not installed; pip install 'mtsearch[reference]'"
    )


def test_too_many_users_are_refused_before_anything_is_trained(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 users and 50 items take 55 kB each: 7,150,000 bytes."""
    told: list[str] = []
    monkeypatch.setattr(strong_module, "free_memory", lambda: 7_149_999)
    with pytest.raises(MachineError, match=r"bayesian_fm of 80 users and 50 items takes about 0\.0 GiB.*--strong"):
        evaluate_strong_baselines(split, split.validation, lambda name, _share: told.append(name))
    assert told == []


def test_each_task_of_its_kind_has_a_model_of_its_own_rows() -> None:
    definition = StudyDefinition.load("shop", (), {"data.source": "synthetic/shop-100k"})
    interactions = load(definition.data, definition.split, definition.tasks)
    shop = split_of_study(interactions, definition.split, definition.tasks)
    kinds = {task.name: task.kind for task in shop.tasks}
    assert set(kinds.values()) == {"rating", "retrieval", "label"}
    ranked, rated = ials(shop), bayesian_fm(shop)
    assert list(ranked.by_task) == [name for name, kind in kinds.items() if kind == "retrieval"]
    assert list(rated.by_task) == [name for name, kind in kinds.items() if kind == "rating"]
    found = Evaluator(shop, shop.validation).evaluate(ranked)
    simple = evaluate_baselines(shop, shop.validation)["popularity"]
    for name in ranked.by_task:
        assert found[f"{name}.top_100"] > simple[f"{name}.top_100"]


def test_of_factors_every_part_counts() -> None:
    """Rating 1 + 0.5 + 0.25 + (1 * 2 + 3 * 4) = 15.75 for user 0 and item 1; its score leaves 1.5 out."""
    factors = Factors(
        1.0,
        np.array([0.5, 7.0]),
        np.array([9.0, 0.25, 3.0]),
        np.array([[1.0, 3.0], [0.0, 0.0]]),
        np.array([[5.0, 5.0], [2.0, 4.0], [1.0, 1.0]]),
        np.array([1, 2], np.int32),
    )
    assert factors.ratings(np.array([0, 1], np.int32), np.array([1, 2], np.int32)).tolist() == [15.75, 11.0]
    assert factors.scores(np.array([0], np.int32)).tolist() == [[14.25, 7.0]]


def test_long_calls_are_cut_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    factors = Factors(0.0, np.zeros(5), np.zeros(4), users, items, np.arange(4, dtype=np.int32))
    pairs = rng.integers(4, size=(2, 11)).astype(np.int32)
    monkeypatch.setattr("mtsearch.evaluation.factors._BATCH_VALUES", 12)  # 4 pairs
    assert factors.ratings(*pairs) == pytest.approx((users[pairs[0]] * items[pairs[1]]).sum(axis=1))
