"""Tests of `ExactRetrieval` against the TFRS task that it replaces, and against arithmetic in float64."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mtsearch.models.tasks import LEAST_PROBABILITY, ExactRetrieval, SortedIndex

Floats = NDArray[np.floating[Any]]
Index = NDArray[np.int32]

pytestmark = pytest.mark.filterwarnings(
    "ignore:In loss categorical_crossentropy:SyntaxWarning"  # stock, of a batch of one row
)


@dataclass
class Batch:
    """Tables `[Q, D]` and `[C, D]`, rows `[B]` of them, and the task's options."""

    queries: Floats
    candidates: Floats
    query_index: Index
    candidate_index: Index
    weight: Floats | None = None
    temperature: float | None = None
    probability: Floats | None = None  # [C]
    remove_accidental_hits: bool = False
    full: bool = False

    @property
    def weights(self) -> Floats:
        return np.ones(len(self.query_index)) if self.weight is None else self.weight.astype(np.float64)

    def by_user(self) -> "Batch":
        order = np.argsort(self.query_index, kind="stable")
        return replace(
            self,
            query_index=self.query_index[order],
            candidate_index=self.candidate_index[order],
            weight=None if self.weight is None else self.weight[order],
        )


Answer = tuple[float, Floats, Floats]  # the loss, and its gradients by queries and candidates


def exact(batch: Batch) -> Answer:
    task = ExactRetrieval(temperature=batch.temperature, remove_accidental_hits=batch.remove_accidental_hits)
    counts = np.bincount(batch.candidate_index, minlength=len(batch.candidates)).astype(np.float32)
    return _differentiated(batch, lambda queries, candidates: task(
        queries,
        candidates,
        query_index=_sorted_index(batch.query_index),
        candidate_index=_sorted_index(batch.candidate_index),
        sample_weight=batch.weight,
        candidate_sampling_probability=batch.probability,
        candidate_counts=None if batch.full else tf.constant(counts),
    ))  # fmt: skip


def _sorted_index(index: Index) -> SortedIndex:
    order = None if (np.diff(index) >= 0).all() else tf.constant(np.argsort(index).astype(np.int32))
    return SortedIndex(tf.constant(index), order)


def stock(batch: Batch) -> Answer:
    task = tfrs.tasks.Retrieval(temperature=batch.temperature, remove_accidental_hits=batch.remove_accidental_hits)
    by_row = None if batch.probability is None else tf.constant(batch.probability[batch.candidate_index])
    return _differentiated(batch, lambda queries, candidates: task(
        tf.gather(queries, batch.query_index),
        tf.gather(candidates, batch.candidate_index),
        sample_weight=batch.weight,
        candidate_sampling_probability=by_row,
        candidate_ids=tf.constant(batch.candidate_index) if batch.remove_accidental_hits else None,
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
    """Compute the loss row against row, or row against catalogue, in float64."""
    temperature = 1.0 if batch.temperature is None else batch.temperature
    queries, candidates = batch.queries.astype(np.float64), batch.candidates.astype(np.float64)
    rows = np.arange(len(batch.query_index))
    columns = np.arange(len(candidates)) if batch.full else batch.candidate_index
    positive = batch.candidate_index if batch.full else rows
    logits = queries[batch.query_index] @ candidates[columns].T / temperature
    if batch.probability is not None:
        logits -= np.log(np.maximum(batch.probability[columns].astype(np.float64), LEAST_PROBABILITY))
    if batch.remove_accidental_hits:
        hits = batch.candidate_index[:, None] == columns
        hits[rows, positive] = False
        logits[hits] = -np.inf
    highest = logits.max(axis=1, keepdims=True)
    log_sums = highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    loss = batch.weights @ (log_sums[:, 0] - logits[rows, positive])
    by_logit = np.exp(logits - log_sums)
    by_logit[rows, positive] -= 1
    by_logit *= batch.weights[:, None] / temperature
    by_query, by_candidate = (np.zeros(table.shape) for table in (batch.queries, batch.candidates))
    np.add.at(by_query, batch.query_index, by_logit @ candidates[columns])
    np.add.at(by_candidate, columns, by_logit.T @ queries[batch.query_index])
    return float(loss), by_query, by_candidate


def assert_equal(batch: Batch, answer: Answer, expected: Answer, tolerance: float) -> None:
    """Compare relative to the number, or to the terms that cancel in it if they are larger."""
    temperature = batch.temperature or 1.0
    largest = max(np.linalg.norm(batch.queries, axis=1).max(), np.linalg.norm(batch.candidates, axis=1).max())
    correction = 1.0 if batch.probability is None else -np.log(LEAST_PROBABILITY)  # log c is a logit's part, too
    terms = batch.weights.sum() * largest / temperature
    # A logit x is known to eps * x, and its probability to that share: at logits of 60 that is 7e-6.
    tolerance += 2 * float(np.finfo(np.float32).eps * (largest**2 / temperature + correction))
    if batch.remove_accidental_hits:
        # What is left of a probability once that of the other rows of its item is taken away: up to 1 / count.
        tolerance *= np.bincount(batch.candidate_index).max()
    allowed = 0.1 * tolerance * (terms * largest + batch.weights.sum() * correction)
    assert answer[0] == pytest.approx(expected[0], rel=tolerance, abs=allowed)
    for gradient, expected_gradient in zip(answer[1:], expected[1:], strict=True):
        allowed = tolerance * max(float(np.linalg.norm(expected_gradient)), 0.3 * terms)
        assert np.linalg.norm(gradient - expected_gradient) <= allowed


def tables_and_rows(
    rng: np.random.Generator, size: int, ids: tuple[int, int], scale: float, dimension: int
) -> tuple[Floats, Floats, Index, Index]:
    """Draw tables, and rows in which every user and item of the tables occurs."""
    (users, query_index), (items, candidate_index) = (
        np.unique(rng.integers(most, size=size), return_inverse=True) for most in ids
    )
    queries, candidates = (
        (scale * rng.normal(size=(len(unique), dimension))).astype(np.float32) for unique in (users, items)
    )
    return queries, candidates, query_index.astype(np.int32), candidate_index.astype(np.int32)


@st.composite
def random_batches(draw: st.DrawFn, rows: st.SearchStrategy[int], most_ids: int) -> Batch:
    """Draw batches of few ids and many rows, with users in any order or ascending."""
    size, ids = draw(rows), (draw(st.integers(1, most_ids)), draw(st.integers(1, most_ids)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tables = tables_and_rows(rng, size, ids, draw(st.sampled_from([0.05, 1.0, 3.0])), draw(st.integers(1, 8)))
    weight = draw(st.sampled_from(["none", "random", "some zero"]))
    # 1e-8 is below what TFRS corrects for.
    probability = rng.choice([1e-8, 1e-3, 0.2, 1.0], size=len(tables[1])).astype(np.float32)
    batch = Batch(
        *tables,
        weight=None
        if weight == "none"
        else (rng.random(size) * (rng.random(size) > 0.3 * (weight != "random"))).astype("f4"),
        temperature=draw(st.sampled_from([None, 0.2, 3.0])),
        probability=draw(st.sampled_from([None, probability])),
        remove_accidental_hits=draw(st.booleans()),
    )
    return draw(st.sampled_from([batch, batch.by_user()]))


@given(random_batches(st.integers(1, 40), most_ids=12))
def test_equals_stock_and_arithmetic(batch: Batch) -> None:
    assert_equal(batch, exact(batch), oracle(batch), tolerance=2e-6)
    assert_equal(batch, exact(batch), stock(batch), tolerance=1e-5)


@settings(max_examples=60, deadline=None)
@given(random_batches(st.integers(1, 40), most_ids=12), st.integers(0, 9))
def test_the_whole_catalogue_equals_arithmetic(batch: Batch, more: int) -> None:
    """Items of no row are negatives too; TFRS has no such task."""
    others = np.random.default_rng(more).normal(size=(more, batch.candidates.shape[1])).astype(np.float32)
    batch = replace(
        batch,
        candidates=np.concatenate([batch.candidates, others]),
        probability=None,
        remove_accidental_hits=False,
        full=True,
    )
    batch = batch if more == 0 else replace(batch, candidate_index=_shifted(batch))
    assert_equal(batch, _ordered_exact(batch), oracle(batch), tolerance=2e-6)


def _shifted(batch: Batch) -> Index:
    """Return for each row the place after its item, so that the first item of the table is in no row."""
    return (batch.candidate_index + 1).astype(np.int32)


def _ordered_exact(batch: Batch) -> Answer:
    """Call the task as the model does: with an order of the items, which the catalogue needs."""
    task = ExactRetrieval(temperature=batch.temperature)
    order = tf.constant(np.argsort(batch.candidate_index, kind="stable").astype(np.int32))
    return _differentiated(batch, lambda queries, candidates: task(
        queries,
        candidates,
        query_index=_sorted_index(batch.query_index),
        candidate_index=SortedIndex(tf.constant(batch.candidate_index), order),
        sample_weight=batch.weight,
    ))  # fmt: skip


def test_a_large_batch_to_the_last_digits() -> None:
    """Nothing cancels in these numbers: differences are relative to the number itself."""
    rng = np.random.default_rng(5)
    tables = tables_and_rows(rng, 1500, (200, 300), 1.0, 16)
    batch = Batch(*tables).by_user()
    loss, *gradients = exact(batch)
    for expected, *expected_gradients in (oracle(batch), stock(batch)):
        assert loss == pytest.approx(expected, rel=5e-7)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            assert np.linalg.norm(gradient - expected_gradient) <= 2e-6 * np.linalg.norm(expected_gradient)


def rounding_of(batch: Batch) -> float:
    """Return the possible error of a row's loss: a few roundings of its largest logit."""
    products = np.abs(batch.queries) @ np.abs(batch.candidates).T / (batch.temperature or 1.0)
    return float(4 * np.finfo(np.float32).eps * (products.max() - np.log(LEAST_PROBABILITY)))


@settings(max_examples=20, deadline=None)
@given(random_batches(st.just(1), most_ids=4))
def test_one_row_loses_nothing(batch: Batch) -> None:
    loss, *gradients = exact(batch)
    off = batch.weights.sum() * rounding_of(batch)
    assert loss == pytest.approx(0, abs=off)
    for gradient, other in zip(gradients, (batch.candidates, batch.queries), strict=True):
        assert gradient == pytest.approx(0, abs=off * np.abs(other).max() / (batch.temperature or 1.0))


@settings(max_examples=20, deadline=None)
@given(random_batches(st.integers(2, 30), most_ids=1))
def test_one_item_is_a_draw_among_equals(batch: Batch) -> None:
    """With one item the loss of each row is log B, or 0 if the other rows are removed as accidental hits."""
    rows, removed = len(batch.query_index), batch.remove_accidental_hits
    loss, by_query, by_candidate = exact(batch)
    expected = 0.0 if removed else np.log(rows)
    # Without its other rows, a row's loss is the rest of a difference that is as many times larger as they are.
    off = rounding_of(batch) * (rows if removed else 1)
    assert loss == pytest.approx(batch.weights.sum() * expected, rel=1e-5, abs=batch.weights.sum() * off)
    assert np.isfinite(by_query).all()
    assert np.isfinite(by_candidate).all()


@pytest.mark.parametrize("kind", ["in_batch", "corrected", "without accidental hits", "full"])
@pytest.mark.parametrize("logit", [30.0, 900.0, 1e6])
def test_large_logits_stay_finite(kind: str, logit: float) -> None:
    """exp(900) is beyond float32 and float64, and 1e6 is known to 0.06 only."""
    rng = np.random.default_rng(1)
    queries, candidates, query_index, candidate_index = tables_and_rows(rng, 300, (20, 6), 1.0, 4)
    scale = np.float32(np.sqrt(logit / np.abs(queries @ candidates.T).max()))
    batch = Batch(
        scale * queries,
        scale * candidates,
        query_index,
        candidate_index,
        probability=rng.random(len(candidates)).astype(np.float32) if kind == "corrected" else None,
        remove_accidental_hits=kind == "without accidental hits",
        full=kind == "full",
    ).by_user()
    answer, expected = exact(batch), oracle(batch)
    assert all(np.isfinite(part).all() for part in answer)
    assert answer[0] == pytest.approx(expected[0], rel=1e-4)
    if logit < 1e6:
        assert_equal(batch, answer, expected, tolerance=1e-5)
