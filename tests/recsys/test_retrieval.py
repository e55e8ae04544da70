"""`ExactRetrieval` against the task of TFRS that it stands in for, and against arithmetic in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtsearch.recsys.retrieval import ExactRetrieval

Floats = NDArray[np.floating[Any]]


@dataclass
class Batch:
    """Tables `[Q, D]` and `[C, D]`, rows `[B]` of them, and the task's options."""

    queries: Floats
    candidates: Floats
    query_index: NDArray[np.int32]
    candidate_index: NDArray[np.int32]
    weight: Floats | None
    temperature: float | None

    @property
    def weights(self) -> Floats:
        return np.ones(len(self.query_index)) if self.weight is None else self.weight.astype(np.float64)

    def unique(self) -> "Batch":
        """The same rows over tables of just the batch's own users and items."""
        users, query_index = np.unique(self.query_index, return_inverse=True)
        items, candidate_index = np.unique(self.candidate_index, return_inverse=True)
        return Batch(
            self.queries[users],
            self.candidates[items],
            query_index.astype(np.int32),
            candidate_index.astype(np.int32),
            self.weight,
            self.temperature,
        )


Answer = tuple[float, Floats, Floats]  # the loss, and its gradients by queries and candidates


def exact(batch: Batch) -> Answer:
    return _differentiated(batch, lambda queries, candidates: ExactRetrieval(temperature=batch.temperature)(
        queries, candidates, batch.query_index, batch.candidate_index, sample_weight=batch.weight
    ))  # fmt: skip


def stock(batch: Batch) -> Answer:
    return _differentiated(batch, lambda queries, candidates: tfrs.tasks.Retrieval(temperature=batch.temperature)(
        tf.gather(queries, batch.query_index),
        tf.gather(candidates, batch.candidate_index),
        sample_weight=batch.weight,
        compute_metrics=False,
    ))  # fmt: skip


def _differentiated(batch: Batch, loss_of: Any) -> Answer:
    tables = tf.constant(batch.queries), tf.constant(batch.candidates)
    with tf.GradientTape() as tape:
        tape.watch(tables)
        loss = loss_of(*tables)
    gradients = (tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, tables))
    return float(loss), *gradients


def oracle(batch: Batch) -> Answer:
    """B x B logits, row by row, in float64."""
    temperature = batch.temperature or 1.0
    queries = batch.queries.astype(np.float64)[batch.query_index]
    candidates = batch.candidates.astype(np.float64)[batch.candidate_index]
    logits = queries @ candidates.T / temperature
    highest = logits.max(axis=1, keepdims=True)
    log_sums = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    loss = batch.weights @ (log_sums[:, 0] - np.diag(logits))
    by_logit = batch.weights[:, None] * (np.exp(logits - log_sums) - np.eye(len(logits))) / temperature
    by_query, by_candidate = (np.zeros(table.shape) for table in (batch.queries, batch.candidates))
    np.add.at(by_query, batch.query_index, by_logit @ candidates)
    np.add.at(by_candidate, batch.candidate_index, by_logit.T @ queries)
    return float(loss), by_query, by_candidate


def assert_equal(batch: Batch, answer: Answer, expected: Answer, tolerance: float) -> None:
    """Relative to the number, or to the terms that cancel in it where they are larger (one item: everything does)."""
    temperature = batch.temperature or 1.0
    largest = max(np.linalg.norm(batch.queries, axis=1).max(), np.linalg.norm(batch.candidates, axis=1).max())
    terms = batch.weights.sum() * largest / temperature
    # A logit x is known to eps * x, and its probability to that share: at logits of 60 that is 7e-6.
    tolerance += 2 * float(np.finfo(np.float32).eps * largest**2) / temperature
    assert answer[0] == pytest.approx(expected[0], rel=tolerance, abs=0.1 * tolerance * terms * largest)
    for gradient, expected_gradient in zip(answer[1:], expected[1:], strict=True):
        allowed = tolerance * max(float(np.linalg.norm(expected_gradient)), 0.1 * terms)
        assert np.linalg.norm(gradient - expected_gradient) <= allowed


@st.composite
def random_batches(draw: st.DrawFn, rows: st.SearchStrategy[int], most_ids: int) -> Batch:
    """Few ids for many rows: duplicates everywhere; unused rows in the tables."""
    size, queries, candidates = draw(rows), draw(st.integers(1, most_ids)), draw(st.integers(1, most_ids))
    dimension, scale = draw(st.integers(1, 8)), draw(st.sampled_from([0.05, 1.0, 3.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = draw(st.sampled_from(["none", "random", "some zero"]))
    return Batch(
        (scale * rng.normal(size=(queries + draw(st.integers(0, 3)), dimension))).astype(np.float32),
        (scale * rng.normal(size=(candidates + draw(st.integers(0, 3)), dimension))).astype(np.float32),
        rng.integers(queries, size=size).astype(np.int32),
        rng.integers(candidates, size=size).astype(np.int32),
        None if weight == "none" else (rng.random(size) * (rng.random(size) > 0.3 * (weight != "random"))).astype("f4"),
        draw(st.sampled_from([None, 0.2, 3.0])),
    )


@pytest.mark.filterwarnings("ignore:In loss categorical_crossentropy:SyntaxWarning")  # stock, of a batch of one row
@pytest.mark.parametrize("form", ["whole tables", "unique ids"])
@settings(max_examples=60, deadline=None)
@given(random_batches(st.integers(1, 40), most_ids=12))
def test_equals_stock_and_arithmetic(form: str, batch: Batch) -> None:
    batch = batch.unique() if form == "unique ids" else batch
    assert_equal(batch, exact(batch), oracle(batch), tolerance=2e-6)
    assert_equal(batch, exact(batch), stock(batch), tolerance=1e-5)


def test_a_large_batch_to_the_last_digits() -> None:
    """Nothing cancels here: plain relative differences, as the project states them."""
    rng = np.random.default_rng(5)
    tables = [rng.normal(size=(size, 16)).astype(np.float32) for size in (200, 300)]
    users, items = rng.integers(200, size=1500), (300 * rng.random(1500) ** 2).astype(np.int64)
    batch = Batch(tables[0], tables[1], users.astype(np.int32), items.astype(np.int32), None, None)
    loss, *gradients = exact(batch)
    for expected, *expected_gradients in (oracle(batch), stock(batch)):
        assert loss == pytest.approx(expected, rel=5e-7)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            assert np.linalg.norm(gradient - expected_gradient) <= 2e-6 * np.linalg.norm(expected_gradient)


@settings(max_examples=20, deadline=None)
@given(random_batches(st.just(1), most_ids=4))
def test_one_row_loses_nothing(batch: Batch) -> None:
    loss, by_query, by_candidate = exact(batch)
    assert loss == pytest.approx(0, abs=1e-5)
    assert by_query == pytest.approx(0, abs=1e-4)
    assert by_candidate == pytest.approx(0, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(random_batches(st.integers(2, 30), most_ids=1))
def test_one_item_is_a_draw_among_equals(batch: Batch) -> None:
    size = len(batch.query_index)
    assert exact(batch)[0] == pytest.approx(batch.weights.sum() * np.log(size), rel=1e-5, abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(random_batches(st.integers(1, 30), most_ids=6), st.sampled_from([1e4, 1e8]))
@example(
    Batch(np.ones((2, 1), "f4"), np.ones((3, 1), "f4"), np.zeros(2, "i4"), np.array([0, 2], "i4"), None, None), 1e8
)
def test_items_of_no_row_do_not_matter(batch: Batch, size: float) -> None:
    """However high they would score."""
    batch.candidates[np.setdiff1d(np.arange(len(batch.candidates)), batch.candidate_index)] = size
    loss, by_query, by_candidate = exact(batch)
    unused = np.setdiff1d(np.arange(len(by_candidate)), batch.candidate_index)
    assert loss == pytest.approx(exact(batch.unique())[0], rel=1e-5, abs=1e-5)
    assert np.isfinite(by_query).all()
    assert not by_candidate[unused].any()
