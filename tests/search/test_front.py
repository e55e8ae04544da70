"""The front as data: against brute force, Optuna's own hypervolume, and hand arithmetic."""

import math
from itertools import pairwise

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import BaseDistribution, FloatDistribution

from mtsearch.search.front import FrontRow, hypervolume, knee, pareto_front

from .fronts import front_of

SIGNS = st.tuples(st.sampled_from([1.0, -1.0]), st.sampled_from([1.0, -1.0]))
NUMBER = st.one_of(st.integers(0, 4).map(float), st.floats(-10, 10))
POINTS = st.lists(st.tuples(NUMBER, NUMBER), max_size=30)
Pair = tuple[float, float]


def rows_of(points: list[Pair]) -> list[FrontRow]:
    return [FrontRow(number, point, {}, {}) for number, point in enumerate(points)]


def dominates(a: Pair, b: Pair, signs: Pair) -> bool:
    no_worse = all(sign * x <= sign * y for sign, x, y in zip(signs, a, b, strict=True))
    return no_worse and a != b


class TestParetoFront:
    @given(
        points=st.lists(st.tuples(NUMBER | st.sampled_from([math.inf, -math.inf]), NUMBER), max_size=30), signs=SIGNS
    )
    def test_equals_brute_force(self, points: list[Pair], signs: Pair) -> None:
        expected = {i for i, p in enumerate(points) if not any(dominates(q, p, signs) for q in points)}
        assert {row.trial for row in pareto_front(rows_of(points), signs)} == expected

    @given(points=POINTS, signs=SIGNS)
    def test_is_sorted_best_first(self, points: list[Pair], signs: Pair) -> None:
        front = pareto_front(rows_of(points)[::-1], signs)
        keys = [(signs[0] * row.values[0], signs[1] * row.values[1], row.trial) for row in front]
        assert keys == sorted(keys)

    def test_keeps_equal_points_in_trial_order(self) -> None:
        front = pareto_front(rows_of([(1, 1), (0, 0), (2, 5), (1, 1), (1, 0.5)]), (1, -1))
        assert [row.trial for row in front] == [1, 0, 3, 2]

    def test_empty(self) -> None:
        assert pareto_front([], (1, -1)) == []


class TestHypervolume:
    @given(points=POINTS, signs=SIGNS)
    def test_equals_optunas(self, points: list[Pair], signs: Pair) -> None:
        reference, ideal = np.array([6.0, 6.0]), np.array([-3.0, -4.0])  # as losses
        losses = np.maximum(np.array(points).reshape(-1, 2) * signs, ideal)
        inside = losses[(losses < reference).all(axis=1)]
        expected = compute_hypervolume(inside, reference) / 90 if len(inside) else 0.0
        corners = [tuple(corner * signs) for corner in (reference, ideal)]
        assert hypervolume(points, signs, *corners) == pytest.approx(expected, abs=1e-12)

    @given(points=POINTS, signs=SIGNS)
    def test_equals_a_count_of_rectangles(self, points: list[Pair], signs: Pair) -> None:
        losses = [(max(s0, 0.0), max(s1, 0.0)) for s0, s1 in (np.array(p) * signs for p in points)]
        xs, ys = (sorted({0.0, 5.0, *(loss[i] for loss in losses if loss[i] < 5)}) for i in (0, 1))
        area = sum(
            (x1 - x0) * (y1 - y0)
            for x0, x1 in pairwise(xs)
            for y0, y1 in pairwise(ys)
            if any(a <= x0 and b <= y0 for a, b in losses)
        )
        corner = (5 * signs[0], 5 * signs[1])
        assert hypervolume(points, signs, corner, (0, 0)) == pytest.approx(area / 25, abs=1e-12)

    @given(points=POINTS, extra=st.tuples(NUMBER, NUMBER), signs=SIGNS)
    def test_a_point_more_never_lowers_it(self, points: list[Pair], extra: Pair, signs: Pair) -> None:
        reference, ideal = (9 * signs[0], 9 * signs[1]), (-9 * signs[0], -9 * signs[1])
        before = hypervolume(points, signs, reference, ideal)
        after = hypervolume([*points, extra], signs, reference, ideal)
        assert 0 <= before <= after + 1e-12
        assert after <= 1 + 1e-12

    @given(points=POINTS.filter(bool), scale=st.floats(0.5, 4), shift=st.floats(-5, 5))
    def test_does_not_depend_on_units(self, points: list[Pair], scale: float, shift: float) -> None:
        moved = [(scale * x + shift, y) for x, y in points]
        box = ((7.0, -7.0), (-7.0, 7.0))
        moved_box = [(scale * x + shift, y) for x, y in box]
        assert hypervolume(moved, (1, -1), *moved_box) == pytest.approx(hypervolume(points, (1, -1), *box), abs=1e-9)

    def test_by_hand(self) -> None:
        # RMSE from 2 to 0, accuracy from 0 to 1. (1, 0.5) covers 1 x 0.5 of the box of 2; (0.5, 0.25) adds 0.5 x 0.25.
        assert hypervolume([(1, 0.5)], (1, -1), (2, 0), (0, 1)) == 0.25
        assert hypervolume([(1, 0.5), (0.5, 0.25)], (1, -1), (2, 0), (0, 1)) == 0.3125

    def test_edges(self) -> None:
        box: tuple[Pair, Pair] = ((2, 0), (0, 1))
        assert hypervolume([], (1, -1), *box) == 0
        assert hypervolume([(0, 1)], (1, -1), *box) == 1
        assert hypervolume([(-5, 9)], (1, -1), *box) == 1  # better than the ideal: clipped
        assert (
            hypervolume([(2, 1), (0, 0), (3, 0.5), (math.inf, 0.5)], (1, -1), *box) == 0
        )  # on or beyond the reference
        assert hypervolume([(-math.inf, 0.5)], (1, -1), *box) == 0.5
        assert hypervolume([(math.nan, 0.5)], (1, -1), *box) == 0
        assert hypervolume([(0, 1)], (1, -1), (2, 1), (0, 1)) == 0  # chance is perfect: nothing to gain


class TestKnee:
    def test_by_hand(self) -> None:
        # RMSE 1..3, accuracy 0..0.4: scaled losses (0, 1), (0.1, 0.25), (0.5, 0.2), (1, 0).
        front = pareto_front(rows_of([(1.0, 0.0), (1.2, 0.3), (2.0, 0.32), (3.0, 0.4)]), (1, -1))
        best = knee(front, (1, -1))
        assert best is not None and best.values == (1.2, 0.3)

    def test_a_front_above_its_chord_bends_at_an_end(self) -> None:
        front = pareto_front(rows_of([(0.0, 1.0), (0.9, 0.9), (1.0, 0.0)]), (1, 1))
        best = knee(front, (1, 1))
        assert best is not None and best.values == (0.0, 1.0)

    def test_few_points(self) -> None:
        assert knee([], (1, -1)) is None
        (only,) = front = rows_of([(1, 2)])
        assert knee(front, (1, -1)) is only
        two = pareto_front(rows_of([(2, 9), (1, 0)]), (1, -1))
        best = knee(two, (1, -1))
        assert best is not None and best.values == (1, 0)  # both are as near: the first

    @given(points=POINTS.filter(bool), signs=SIGNS)
    def test_is_one_of_the_front(self, points: list[Pair], signs: Pair) -> None:
        front = pareto_front(rows_of(points), signs)
        assert knee(front, signs) in front


class TestFrontOf:
    @settings(max_examples=20, deadline=None)
    @given(points=POINTS, maximise=st.booleans())
    def test_agrees_with_optuna(self, points: list[Pair], maximise: bool) -> None:
        study = optuna.create_study(directions=["minimize", "maximize" if maximise else "minimize"])
        study.add_trials([optuna.trial.create_trial(values=list(point)) for point in points])
        assert sorted(row.trial for row in front_of(study)) == [trial.number for trial in study.best_trials]

    def test_leaves_out_what_does_not_count(self) -> None:
        study = optuna.create_study(directions=["minimize", "maximize"])
        x: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
        attributes = {"mtsearch:metrics": {"rmse": 1.0, "top_100": 0.5}}
        trial = optuna.trial.create_trial
        study.add_trial(trial(values=[1, 0.5], params={"x": 0.25}, distributions=x, user_attrs=attributes))
        study.add_trial(trial(values=[0, 1], constraints={"memory": 1.0}))
        study.add_trial(trial(values=[-math.inf, 1]))
        study.add_trial(trial(state=optuna.trial.TrialState.PRUNED))
        study.add_trial(trial(state=optuna.trial.TrialState.FAIL))
        assert front_of(study) == [FrontRow(0, (1.0, 0.5), {"x": 0.25}, {"rmse": 1.0, "top_100": 0.5})]
