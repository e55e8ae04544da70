"""Non-dominated layers and the covering order within a layer, against their definitions."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.pruning import non_dominated_layers
from mtsearch.pruning.layers import covering_order, scale_to_unit
from tests.helpers.vectors import BROKEN, SMALL, Vectors, layers_by_peeling, vectors


def layers(rows: Any) -> list[int]:
    found: list[int] = non_dominated_layers(np.array(rows, dtype=float).reshape(len(rows), -1) if len(rows) else
                                            np.zeros((0, 2))).tolist()  # fmt: skip
    return found


def test_by_hand() -> None:
    #  3 | c . . e        a, b and c: nobody is better than one of them in both
    #  2 | . . d .        d: b is; e: d is too
    #  1 | . b . .        b2 is b again
    #  0 | . . . a
    assert layers([(3, 0), (1, 1), (0, 3), (2, 2), (3, 3), (1, 1)]) == [0, 0, 0, 1, 2, 0]
    assert layers([(1.0,), (3.0,), (2.0,), (1.0,)]) == [0, 2, 1, 0]
    assert layers([(0.0, 1.0), (-0.0, 1.0)]) == [0, 0]
    assert layers([(0.0,), (-0.0,), (0.0,)]) == [0, 0, 0]
    assert layers([]) == []


@pytest.mark.parametrize("rows", [[1.0, 2.0], [[]], 3.0])
def test_invalid_tables_are_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="one row per vector, one column per objective"):
        non_dominated_layers(rows)


@settings(max_examples=300, deadline=None)
@given(vectors(SMALL | BROKEN) | vectors())
def test_against_peeling(rows: Vectors) -> None:
    assert layers(rows) == layers_by_peeling(rows)


@settings(max_examples=60, deadline=None)
@given(vectors(SMALL | BROKEN, objectives=3), st.permutations([0, 1, 2]))
def test_the_order_of_objectives_does_not_matter(rows: Vectors, order: list[int]) -> None:
    assert layers([[row[index] for index in order] for row in rows]) == layers(rows)


@settings(max_examples=60, deadline=None)
@given(vectors(objectives=2), st.tuples(*[st.sampled_from([1.0, -1.0])] * 2))
def test_a_direction_flipped_with_its_sign(rows: Vectors, signs: tuple[float, float]) -> None:
    """A maximised objective enters as its negative, whatever the others' directions."""
    told = [tuple(sign * value for sign, value in zip(signs, row, strict=True)) for row in rows]
    back = np.array(told).reshape(-1, 2) * signs
    assert layers(back) == layers(rows)


@settings(max_examples=60, deadline=None)
@given(vectors(SMALL, objectives=2), st.sampled_from([math.exp, math.atan, lambda x: x**3, lambda x: 1e300 * x + 1]))
def test_a_monotone_scale_of_one_objective_does_not_matter(rows: Vectors, scale: Any) -> None:
    assert layers([(scale(first), second) for first, second in rows]) == layers(rows)


@settings(max_examples=60, deadline=None)
@given(vectors(smallest=1), st.lists(BROKEN, min_size=1, max_size=3))
def test_nonfinite_vectors_come_last(rows: Vectors, broken: list[float]) -> None:
    m = len(rows[0])
    found = layers([*rows, *((value, *[0.0] * (m - 1)) for value in broken)])
    assert found[: len(rows)] == layers(rows)
    assert set(found[len(rows) :]) == {max(layers(rows)) + 1}


class OrderWithinALayerTests:
    def test_by_hand(self) -> None:
        # The middle first, then the two ends, then the gaps; the point beside the middle comes last.
        line = [(0.0, 1.0), (0.2, 0.8), (0.48, 0.49), (0.5, 0.5), (0.74, 0.26), (1.0, 0.0)]
        assert covering_order(line).tolist() == [2, 5, 0, 4, 1, 3]

    def test_indices_and_not_places(self) -> None:
        """Four points whose order is not its own inverse, so that indices and places cannot be confused."""
        order = covering_order([(1.0, 0.5), (0.9, 0.9), (0.0, 0.0), (0.5, 0.5)])
        assert order.tolist() == [2, 1, 3, 0]
        assert np.argsort(order).tolist() != order.tolist()

    @settings(max_examples=60, deadline=None)
    @given(vectors(st.floats(0, 1), smallest=1))
    def test_each_next_one_is_the_farthest(self, points: Vectors) -> None:
        table = np.array(points)
        order = covering_order(table)
        assert sorted(order.tolist()) == list(range(len(points)))
        assert order[0] == np.linalg.norm(table, axis=1).argmin()
        for k in range(1, len(points)):
            chosen, rest = table[order[:k]], table[order[k:]]
            nearest = np.linalg.norm(rest[:, None] - chosen[None], axis=2).min(axis=1)
            assert nearest[0] == pytest.approx(nearest.max(), rel=1e-12)

    def test_a_range_that_is_no_number(self) -> None:
        scaled = scale_to_unit(np.array([[-1.7e308, 5.0], [1.7e308, 5.0], [0.0, 5.0], [np.inf, 9.0]]))
        np.testing.assert_array_equal(scaled, [[0, 0], [1, 0], [0.5, 0], [np.nan, np.nan]])

    @settings(max_examples=60, deadline=None)
    @given(vectors(smallest=1))
    def test_scaled_by_the_extremes(self, rows: Vectors) -> None:
        scaled = scale_to_unit(np.array(rows))
        assert (scaled >= 0).all() and (scaled <= 1).all()
        assert (scaled.min(axis=0) == 0).all()
        same = np.ptp(np.array(rows) / 2, axis=0) == 0
        assert (scaled.max(axis=0) == np.where(same, 0, 1)).all()
