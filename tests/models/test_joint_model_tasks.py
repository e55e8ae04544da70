"""A joint model of several tasks: each task's loss and gradient are those of the stock tasks on the rows it has."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data.interactions import Rows, Task
from mtsearch.data.split import Split
from mtsearch.models import Device, JointTrainer
from mtsearch.models import graph_key as key_module
from mtsearch.models.graph_key import GraphKey, learnt_tasks, target_columns
from mtsearch.models.joint_model import Batch, JointModel
from mtsearch.models.tasks import SortedIndex
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import go_on, make_split
from tests.helpers.shops import TASKS, shop

SMALL: dict[str, Any] = {"losses": "normalized", "embedding_size": 4, "hidden_layers": "8", "batch_size": 300}


def config_of(**changes: Any) -> TrialConfig:
    return TrialConfig.model_validate({**SMALL, **changes})


def model_of(split: Split, config: TrialConfig, seed: int = 1) -> JointModel:
    """Make a model with every weight away from 0, biases included."""
    sizes, has_weights = (len(split.user_ids), len(split.item_ids)), split.train.weights is not None
    key = GraphKey.of(config, *sizes, tasks=learnt_tasks(split), has_weights=has_weights)
    model, rng = JointModel(key, split), np.random.default_rng(seed)
    model.trial_inputs.assign(config)
    model.task_losses(batch_of(split, split.train.take(np.arange(9))))
    for variable in model.trainable_variables:
        variable.assign(rng.normal(scale=0.5, size=variable.shape))
    return model


def batch_of(split: Split, rows: Rows) -> Batch:
    by_item = np.argsort(rows.items, kind="stable").astype(np.int32)
    return Batch(
        tf.constant(rows.users),
        tf.constant(rows.items),
        tuple(map(tf.constant, target_columns(rows, split))),
        tf.constant(by_item),
        tf.constant([0, 0]),
        row_weights=() if rows.weights is None else (tf.constant(rows.weights),),
    )


def static_batch_of(split: Split, rows: Rows, filling: int) -> Batch:
    """Return the batch as XLA's graph gets it: some rows repeat the last one and do not count."""
    filled = rows.take(np.pad(np.arange(len(rows)), (0, filling), mode="edge"))
    counts = tf.constant([1.0] * len(rows) + [0.0] * filling)
    return batch_of(split, filled)._replace(by_item=None, weights=counts)


def stock_losses(model: JointModel, split: Split, rows: Rows) -> dict[str, Any]:
    """Return the normalized losses of the stock tasks, each on the rows of `rows` that serve it."""
    return {task.name: stock_loss(model, split, rows.serving(task), task) for task in split.tasks}


def stock_loss(model: JointModel, split: Split, own: Rows, task: Task) -> Any:
    if len(own) <= (task.kind == "retrieval"):  # the stock task refuses a single row, whose softmax is of one item
        return tf.constant(0.0)
    train = split.train.serving(task)
    known = np.ones(len(train)) if train.weights is None else train.weights.astype(np.float64)
    weights = None if own.weights is None else own.weights / known.mean()
    users, items = tf.gather(model.user_table, own.users), tf.gather(model.item_table, own.items)
    if task.kind == "retrieval":
        total = tfrs.tasks.Retrieval()(users, items, sample_weight=weights, compute_metrics=False)
        return total / np.log(len(split.catalogue)) / len(own)
    values = head_values(model, task.name, users, items)
    mean = np.average(train.ratings.astype(np.float64), weights=known)
    if task.kind == "label":
        values += np.float32(np.log(mean / (1 - mean)))
        stock = tfrs.tasks.Ranking(tf_keras.losses.BinaryCrossentropy(from_logits=True))
        truth, scale = own.ratings, -mean * np.log(mean) - (1 - mean) * np.log(1 - mean)
    else:
        variance = np.average((train.ratings - mean) ** 2, weights=known)
        stock = tfrs.tasks.Ranking(tf_keras.losses.MeanSquaredError())
        truth, scale = ((own.ratings - mean) / np.sqrt(variance)).astype(np.float32), 1
    return stock(labels=truth[:, None], predictions=values[:, None], sample_weight=weights) / scale


def head_values(model: JointModel, name: str, users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    values, weights = tf.concat([users, items], axis=1), model.heads[name].trainable_variables
    for place in range(0, len(weights) - 2, 2):
        values = tf.nn.relu(values @ weights[place] + weights[place + 1])
    return (values @ weights[-2] + weights[-1])[:, 0]


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**20), st.booleans(), st.booleans(), st.booleans())
def test_losses_and_gradients_are_those_of_the_stock_tasks(
    size: int, seed: int, weights: bool, static: bool, uneven: bool
) -> None:
    """Rows of a batch may repeat, and a task may have none of them."""
    split, rng = shop(users=9, items=14, rows=300, weights=weights), np.random.default_rng(seed)
    factors = {"view": 0.5, "purchase": 2.0, "stars": 0.0, "returned": 3.0} if uneven else {}
    model = model_of(split, config_of(weights=factors), seed)
    rows = split.train.take(np.sort(rng.integers(len(split.train), size=size)))
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        losses = model.task_losses(static_batch_of(split, rows, 5) if static else batch_of(split, rows))
        loss = model.weighted_loss(losses)
    with tf.GradientTape() as stock_tape:
        expected = stock_losses(model, split, rows)
        expected_loss = tf.add_n([factors.get(name, 1.0) * each for name, each in expected.items()])
    for task, term, total in zip(split.tasks, losses.terms, losses.totals, strict=True):
        wanted = float(expected[task.name])
        assert float(term) == pytest.approx(wanted, rel=2e-4, abs=1e-5), task.name
        assert float(total) == pytest.approx(len(rows.serving(task)) * wanted, rel=2e-4, abs=1e-4), task.name
    zero = tf.UnconnectedGradients.ZERO
    ours = tape.gradient(loss, variables, unconnected_gradients=zero)
    theirs = stock_tape.gradient(expected_loss, variables, unconnected_gradients=zero)
    for variable, gradient, stock in zip(variables, ours, theirs, strict=True):
        found, wanted = (tf.convert_to_tensor(each).numpy() for each in (gradient, stock))
        np.testing.assert_allclose(found, wanted, atol=2e-5 + 2e-4 * np.abs(wanted).max(), err_msg=variable.name)


def test_a_predictor_that_knows_nothing_has_a_loss_of_one() -> None:
    """With all weights 0: the mean rating, the base rate, and equal scores for the whole catalogue."""
    split = shop(users=9, items=14, rows=3000, weights=True)
    model = model_of(split, config_of(retrieval_loss="full"))
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    losses = model.task_losses(batch_of(split, split.train))
    assert [float(term) for term in losses.terms] == pytest.approx([1, 1, 1, 1], rel=1e-4)
    assert [model.scales[task.name].rows for task in TASKS] == [len(split.train.serving(task)) for task in TASKS]


@pytest.mark.parametrize("weights", [False, True])
def test_an_epoch_of_squared_errors_is_the_objective_of_implicit_als(weights: bool) -> None:
    """Losses and gradients, summed over the batches of an epoch, by the full matrix of all pairs in NumPy."""
    split = shop(users=9, items=14, rows=300, weights=weights)
    factors = {"view": 2.0, "stars": 0.0, "returned": 0.0}
    config = config_of(
        retrieval_loss="squared", unobserved_weight=0.3, temperature=0.7, l2=0.05, item_bias=True, weights=factors
    )
    model = model_of(split, config, seed=5)
    user_gradient, item_gradient, totals = 0, 0, {"view": 0.0, "purchase": 0.0}
    for start in range(0, len(split.train), 50):
        rows = split.train.take(np.arange(start, min(start + 50, len(split.train))))
        with tf.GradientTape() as tape:
            losses = model.task_losses(batch_of(split, rows))
            # What a batch adds to the objective of the epoch: totals of rows, and the penalty per row.
            of = dict(zip((task.name for task in split.tasks), losses.totals, strict=True))
            objective = 2.0 * of["view"] + of["purchase"] + losses.penalty * len(rows)
        gradients = tape.gradient(objective, [model.user_table, model.item_table])
        user_gradient, item_gradient = (
            so_far + tf.convert_to_tensor(each).numpy().astype(np.float64)
            for so_far, each in zip((user_gradient, item_gradient), gradients, strict=True)
        )
        totals = {name: so_far + float(of[name]) for name, so_far in totals.items()}

    users, items = (table.numpy().astype(np.float64) for table in (model.user_table, model.item_table))
    expected = {"users": np.zeros_like(users), "items": np.zeros_like(items)}
    for name, factor in (("view", 2.0), ("purchase", 1.0)):
        own = split.train.serving(next(task for task in split.tasks if task.name == name))
        known = np.ones(len(own)) if own.weights is None else own.weights / own.weights.mean()
        counts = np.zeros((9, 14))
        np.add.at(counts, (own.users, own.items), known)
        scores = (users @ items.T + model.score_biases[name].numpy()[:, 0]) / 0.7
        assert totals[name] == pytest.approx(np.sum(counts * (1 - scores) ** 2) + 0.3 * np.sum(scores**2), rel=1e-4)
        slopes = factor * 2 * (0.3 * scores - counts * (1 - scores)) / 0.7
        expected["users"] += slopes @ items
        expected["items"] += slopes.T @ users
    for name, table, codes, others in (("users", users, split.train.users, 14), ("items", items, split.train.items, 9)):
        of_rows = np.bincount(codes, minlength=len(table))[:, None]
        expected[name] += 2 * 0.05 * (of_rows + 0.3 * others) * table
    np.testing.assert_allclose(user_gradient, expected["users"], atol=1e-3 * np.abs(expected["users"]).max())
    np.testing.assert_allclose(item_gradient, expected["items"], atol=1e-3 * np.abs(expected["items"]).max())


@pytest.mark.parametrize("sharing", ["all", "projections"])
@pytest.mark.parametrize("large", ["users", "items", "both"])
def test_the_rows_of_a_large_table_have_in_an_epoch_the_gradient_of_all_pairs(
    large: str, sharing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the rows of a batch are moved; summed over an epoch, weighed by the size of the batches, it is the same."""
    split = shop(users=19, items=14, rows=300, weights=True)
    split = replace(split, catalogue=np.unique(split.train.items))
    config = config_of(
        retrieval_loss="squared", unobserved_weight=0.3, temperature=0.7, l2=0.05, item_bias=True, normalize=True,
        sharing=sharing, weights={"view": 2.0, "stars": 0.5},
    )  # fmt: skip
    sums = []
    for is_large in (False, True):
        if is_large:
            size = {"users": 19, "items": 14, "both": None}[large]
            monkeypatch.setattr(key_module, "is_large", lambda rows, _, size=size: size in (None, rows))
        model = model_of(split, config, seed=5)
        total: list[Any] = [0] * len(model.trainable_variables)
        for start in range(0, len(split.train), 50):
            rows = split.train.take(np.arange(start, min(start + 50, len(split.train))))
            with tf.GradientTape() as tape:
                losses = model.task_losses(batch_of(split, rows))
                loss = model.weighted_loss(losses) * len(rows)
            gradients = tape.gradient(loss, model.trainable_variables)
            total = [so_far + tf.convert_to_tensor(each).numpy() for so_far, each in zip(total, gradients, strict=True)]
        sums.append(total)
        flags = (model.graph_key.large_users, model.graph_key.large_items)
        assert flags == (is_large and large != "items", is_large and large != "users")
    for variable, found, wanted in zip(model.trainable_variables, sums[1], sums[0], strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-4 * np.abs(wanted).max(), err_msg=variable.name)


def test_what_a_large_table_never_moves_is_in_no_sum(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two items of the catalogue have no row: they are no negatives, and served as the mean of those that have."""
    monkeypatch.setattr(key_module, "is_large", lambda _rows, _batch: True)
    split = shop(users=9, items=14, rows=300)
    kept = split.train.take(np.flatnonzero(split.train.items > 1))
    split = replace(split, train=kept, catalogue=np.arange(14, dtype=np.int32))
    config = config_of(retrieval_loss="squared", unobserved_weight=0.3, l2=0.1)
    model, batch = model_of(split, config), batch_of(split, kept)
    before = model.task_losses(batch)
    model.item_table.assign(tf.concat([tf.fill([2, 4], 9.0), model.item_table[2:]], axis=0))
    after = model.task_losses(batch)
    assert [float(term) for term in after.terms] == [float(term) for term in before.terms]
    assert float(after.penalty) == float(before.penalty)

    trainer = JointTrainer(split, device)
    trainer.train(config, go_on)
    _, items = trainer.last_model().tables().towers["view"]
    np.testing.assert_allclose(items[:2], np.tile(np.mean(items[2:], axis=0), (2, 1)), rtol=1e-4)


@pytest.mark.parametrize("sharing", ["all", "projections", "experts"])
def test_two_tasks_of_the_same_rows_have_equal_gradients(sharing: str) -> None:
    split = shop()
    twins = tuple(replace(task, name=f"{task.name}_{twin}") for task in TASKS[1:] for twin in (1, 2))
    split = replace(split, tasks=twins)
    model = model_of(split, config_of(sharing=sharing))
    model.initialize(3)
    batch = batch_of(split, split.train.take(np.arange(300)))
    with tf.GradientTape(persistent=True) as tape:
        terms = model.task_losses(batch).terms
    for place in range(0, len(twins), 2):
        for table in (model.user_table, model.item_table):
            one, other = (tf.convert_to_tensor(tape.gradient(terms[at], table)).numpy() for at in (place, place + 1))
            np.testing.assert_array_equal(one, other)
            assert np.abs(one).max() > 0


def test_a_task_of_weight_zero_changes_nothing(device: Device) -> None:
    """Not one bit of any other task's metrics, wherever it stands among the tasks."""
    split, results = shop(), []
    view, purchase, stars, returned = TASKS
    cases: list[tuple[tuple[Task, ...], dict[str, float]]] = [
        ((view, stars), {}),
        ((view, stars, returned), {"returned": 0.0}),
        ((purchase, view, returned, stars), {"returned": 0.0, "purchase": 0.0}),
    ]
    for tasks, zeros in cases:
        config = config_of(
            weights={"view": 1.0, "stars": 2.0, **zeros}, epochs=2, rating_biases=True, item_bias=True,
            optimizer="adam", learning_rate=0.01,
        )  # fmt: skip
        metrics = JointTrainer(replace(split, tasks=tasks), device).train(config, go_on).metrics
        results.append({key: value for key, value in metrics.items() if key.startswith(("view.", "stars."))})
    assert results[0] == results[1] == results[2]
    assert len(results[0]) > 5


@pytest.mark.parametrize(("scale", "shift"), [(20.0, 0.0), (1.0, 100.0), (60.0, -7.0)])
def test_the_unit_of_ratings_changes_nothing_but_the_unit(device: Device, scale: float, shift: float) -> None:
    def in_unit(rows: Rows) -> Rows:
        return replace(rows, ratings=(rows.ratings * scale + shift).astype(np.float32))

    stars = make_split()
    other = replace(stars, train=in_unit(stars.train), validation=in_unit(stars.validation))
    config = config_of(epochs=30, rating_biases=True, optimizer="adam", learning_rate=0.05)
    ours, theirs = (JointTrainer(split, device).train(config, go_on).metrics for split in (stars, other))
    assert theirs["rmse"] / scale == pytest.approx(ours["rmse"], rel=5e-3)
    assert theirs["top_100"] == pytest.approx(ours["top_100"], abs=0.01)
    assert ours["rmse"] < 0.95 * stars.validation.ratings.std()


@pytest.mark.parametrize("sharing", ["projections", "experts"])
def test_tasks_may_see_the_embeddings_in_ways_of_their_own(device: Device, sharing: str) -> None:
    """Projections begin as the identity; experts are mixed alike for every task at first."""
    split, config = shop(), config_of(sharing=sharing, epochs=2, optimizer="adam", learning_rate=0.01)
    trainer = JointTrainer(split, device)
    compiled = trainer.compiled_model(config)
    compiled.reset(config)
    heads = compiled.tables().heads
    np.testing.assert_array_equal(heads["stars"].users, heads["returned"].users)
    if sharing == "projections":
        known = split.known_users
        np.testing.assert_array_equal(heads["stars"].users.numpy()[known], compiled.model.user_table.numpy()[known])
    result = trainer.train(config, go_on)
    tables = trainer.last_model().tables()
    assert not np.array_equal(tables.heads["stars"].users, tables.heads["returned"].users)
    assert not np.array_equal(tables.towers["view"][0], tables.towers["purchase"][0])
    assert result.metrics["view.top_10"] > 0


def test_experts_by_arithmetic() -> None:
    model = model_of(shop(), config_of(sharing="experts", experts=3))
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    named: dict[str, list[Any]] = {}
    for variable in model.trainable_variables:
        named.setdefault(variable.name.split(":")[0], []).append(variable.numpy())
    exponentials = np.exp(rows @ named["gate"][2])  # of the second task, for users
    shares = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = sum(shares[:, [expert]] * (rows @ named["experts"][0][expert]) for expert in range(3))
    np.testing.assert_allclose(model.view(model.graph_key.tasks[1], tf.constant(rows), "user"), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"retrieval_loss": "full", "balance": "uncertainty", "sharing": "experts"},
        {"retrieval_loss": "corrected", "remove_accidental_hits": True, "item_bias": True, "rating_biases": True},
    ],
)
def test_xla_gives_the_same_to_rounding(device: Device, changes: dict[str, Any]) -> None:
    split, config = shop(weights=True), config_of(batch_size=90, epochs=2, learning_rate=0.05, **changes)
    results = [JointTrainer(split, replace(device, xla=xla)).train(config, go_on) for xla in (False, True)]
    for ours, theirs in zip(*(result.curve for result in results), strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)
        for key in ("stars.rmse", "returned.log_loss"):
            assert ours.metrics[key] == pytest.approx(theirs.metrics[key], rel=1e-4)


def test_batches_without_a_row_of_a_task_are_trained(device: Device) -> None:
    split = shop()
    few = np.full(len(split.train), np.nan, np.float32)
    few[:2] = [0, 1]
    split = replace(split, train=replace(split.train, targets=(split.train.targets[0], few)))
    result = JointTrainer(split, device).train(config_of(batch_size=20, epochs=1, l2=0.01), go_on)
    assert set(result.curve[0].losses) == {task.name for task in TASKS}
    assert np.isfinite([*result.curve[0].losses.values(), *result.metrics.values()]).all()


def test_balancing_over_four_tasks(device: Device) -> None:
    trainer = JointTrainer(shop(), device)
    for balance in ("uncertainty", "dwa"):
        weights = trainer.train(config_of(balance=balance, epochs=3), go_on).curve[-1].weights
        assert list(weights) == [task.name for task in TASKS]
        assert len(set(weights.values())) == 4
    assert sum(weights.values()) == pytest.approx(4)


@pytest.mark.parametrize("static", [False, True])
def test_a_batch_without_a_row_of_a_task_says_nothing_of_its_variance(static: bool) -> None:
    split = shop()
    model = model_of(split, config_of(balance="uncertainty"))
    rows = split.train.take(np.flatnonzero(np.isnan(split.train.targets[1]))[:40])  # none that may come back
    assert len(rows.serving(TASKS[1])) and len(rows.serving(TASKS[2]))
    with tf.GradientTape() as tape:
        batch = static_batch_of(split, rows, 3) if static else batch_of(split, rows)
        loss = model.weighted_loss(model.task_losses(batch))
    gradient = tape.gradient(loss, model.log_variance).numpy()
    assert gradient[3] == 0
    assert (gradient[:3] != 0).all()


def test_experts_of_users_and_items_begin_different() -> None:
    """Equal ones would have one random stream; those of one seed are the same again."""
    split = shop()
    first, second = (model_of(split, config_of(sharing="experts"), seed) for seed in (1, 2))
    for model in (first, second):
        model.initialize(5)
    experts, again = (
        [each.numpy() for each in model.trainable_variables if "experts" in each.name] for model in (first, second)
    )
    assert not np.isclose(experts[0], experts[1]).all()
    np.testing.assert_array_equal(experts, again)


def test_predictions_are_in_the_units_of_the_data() -> None:
    split = shop()
    model, users, items = model_of(split, config_of()), tf.constant([0, 1, 2]), tf.constant([3, 4, 5])
    rows = tf.gather(model.user_table, users), tf.gather(model.item_table, items)
    stars, returned = (split.train.serving(task).ratings.astype(np.float64) for task in TASKS[2:])
    found = {
        task.name: model.predictions(task, model.tables(task), SortedIndex(users), SortedIndex(items))
        for task in model.graph_key.tasks[2:]
    }
    expected = stars.mean() + stars.std() * head_values(model, "stars", *rows).numpy()
    np.testing.assert_allclose(found["stars"], expected, rtol=1e-5)
    log_odds = np.log(returned.mean() / (1 - returned.mean())) + head_values(model, "returned", *rows).numpy()
    np.testing.assert_allclose(found["returned"], 1 / (1 + np.exp(-log_odds)), rtol=1e-5)
