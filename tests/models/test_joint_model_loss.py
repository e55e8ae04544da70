"""Tests of the loss of a batch and its gradient against row-by-row arithmetic, for every kind of model."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.data.interactions import Rows
from mtsearch.data.split import Split
from mtsearch.models.joint_model import Batch, JointModel, Losses
from mtsearch.study_file.config import TrialConfig
from tests.helpers.arithmetic import NumpyModel
from tests.helpers.model_cases import make_split
from tests.helpers.stock import initial_model


@pytest.fixture(scope="module")
def small() -> Split:
    """Make a split with items only in the catalogue (12, 13), only in training rows, and in neither (2, 6)."""
    split = make_split(users=9, items=14, rows=120, unknown=2)
    train = split.train.take(np.flatnonzero(~np.isin(split.train.items, [2, 6])))
    return dataclasses.replace(split, train=train, catalogue=np.array([0, 1, 3, 4, 8, 12, 13], np.int32))


@st.composite
def configs(draw: st.DrawFn) -> TrialConfig:
    return TrialConfig(
        rating_weight=draw(st.sampled_from([0.0, 1.0, 3.0])),
        retrieval_weight=draw(st.sampled_from([1e-3, 0.7])),
        balance=draw(st.sampled_from(["fixed", "uncertainty"])),
        embedding_size=draw(st.integers(1, 5)),
        retrieval_loss=draw(st.sampled_from(["in_batch", "corrected", "full", "squared"])),
        unobserved_weight=draw(st.sampled_from([0.0, 0.2, 1.5])),
        temperature=draw(st.sampled_from([0.3, 1.0, 2.0])),
        normalize=draw(st.booleans()),
        item_bias=draw(st.booleans()),
        remove_accidental_hits=draw(st.booleans()),
        rating_biases=draw(st.booleans()),
        dot_product=draw(st.booleans()),
        elementwise_product=draw(st.booleans()),
        hidden_layers=draw(st.sampled_from(["", "8", "16-8"])),
        l2=draw(st.sampled_from([0.0, 0.5])),
    )


def model_and_arithmetic(split: Split, config: TrialConfig, seed: int) -> tuple[JointModel, NumpyModel]:
    """Make a model with every weight away from 0, biases included, and the same model in NumPy."""
    model, rng = initial_model(split, config), np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(scale=0.5, size=variable.shape))
    return model, NumpyModel(model, split, config)


def batch_of(rows: Rows) -> Batch:
    columns = tf.constant(rows.users), tf.constant(rows.items), (tf.constant(rows.ratings),)
    by_item = np.argsort(rows.items, kind="stable").astype(np.int32)
    return Batch(*columns, by_item=tf.constant(by_item), seed=tf.constant([0, 0]))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(configs(), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_loss_and_its_gradient_by_arithmetic(small: Split, config: TrialConfig, size: int, seed: int) -> None:
    """The gradient is compared along a random direction, with central differences in float64."""
    rng = np.random.default_rng(seed)
    rows = small.train.take(np.sort(rng.choice(len(small.train), size, replace=False)))
    model, arithmetic = model_and_arithmetic(small, config, seed)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        losses = model.task_losses(batch_of(rows))
        loss = model.weighted_loss(losses)
    assert float(losses.terms[0]) == pytest.approx(arithmetic.rating_loss(rows), rel=2e-5, abs=2e-5)
    assert float(losses.terms[1]) == pytest.approx(arithmetic.retrieval_loss(rows), rel=2e-5, abs=2e-5)
    assert float(losses.penalty) == pytest.approx(arithmetic.penalty(rows), rel=2e-5, abs=2e-5)
    assert float(loss) == pytest.approx(arithmetic.loss(rows), rel=2e-5, abs=2e-5)

    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    dense = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
    directions = [rng.normal(size=gradient.shape) for gradient in dense]
    terms = [gradient * direction for gradient, direction in zip(dense, directions, strict=True)]
    expected = difference(arithmetic, directions, rows)
    allowed = 1e-4 * sum(float(np.linalg.norm(term)) for term in terms) + 1e-4
    assert sum(float(term.sum()) for term in terms) == pytest.approx(expected, abs=allowed)


def difference(arithmetic: NumpyModel, directions: list[Any], rows: Rows, step: float = 1e-6) -> float:
    """Return the derivative of the loss along `directions`."""

    def moved(size: float) -> float:
        for weight, direction in zip(arithmetic.weights, directions, strict=True):
            np.add(weight, size * direction, out=weight)
        return arithmetic.loss(rows)

    ahead, behind = moved(step), moved(-2 * step)
    moved(step)
    return (ahead - behind) / (2 * step)


def test_learnt_uncertainties_by_hand(small: Split) -> None:
    """The losses are 2 and 30 with weights 3 and 0.1, the log variances log 2 and log 3.

    Loss: 6 / (2 * 2) + 3 / 3 + (log 2 + log 3) / 2 + 0.5 = 3 + log(6) / 2; gradient: 1/2 - 6/4 and 1/2 - 3/3.
    """
    model = initial_model(small, TrialConfig(balance="uncertainty", rating_weight=3.0, retrieval_weight=0.1))
    model.log_variance.assign(np.log([2.0, 3.0]))
    with tf.GradientTape() as tape:
        loss = model.weighted_loss(Losses((tf.constant(2.0), tf.constant(30.0)), (), tf.constant(0.5)))
    assert float(loss) == pytest.approx(3 + np.log(6) / 2)
    assert tape.gradient(loss, model.log_variance).numpy() == pytest.approx([-1, -0.5])
    assert model.balance_factors().numpy() == pytest.approx([1 / 4, 1 / 3])


def test_bfloat16_is_close_and_keeps_float32(small: Split) -> None:
    model, arithmetic = model_and_arithmetic(small, TrialConfig(hidden_layers="64-32-16", precision="bfloat16"), seed=2)
    rows = small.train.take(np.arange(40))
    losses = model.task_losses(batch_of(rows))
    assert float(losses.terms[0]) == pytest.approx(arithmetic.rating_loss(rows), rel=0.02)
    assert float(losses.terms[0]) != pytest.approx(arithmetic.rating_loss(rows), rel=1e-5)
    assert float(losses.terms[1]) == pytest.approx(arithmetic.retrieval_loss(rows), rel=1e-5)
    assert {variable.dtype for variable in model.trainable_variables} == {tf.float32}
    assert losses.terms[0].dtype == tf.float32
