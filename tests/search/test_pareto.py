"""The front, hypervolume and knee in one to four objectives, against brute force, Optuna and hand arithmetic."""

import math
from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import optuna
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import BaseDistribution, FloatDistribution

from mtsearch.search.pareto import FrontRow, dominates, hypervolume, hypervolume_gain, knee, pareto_front
from tests.helpers.fronts import compute_front

pytestmark = pytest.mark.quick

INTEGER = st.integers(0, 4).map(float)
NUMBER = st.one_of(INTEGER, st.floats(-10, 10))
Point = tuple[float, ...]
Pair = tuple[float, float]


@st.composite
def problems(
    draw: st.DrawFn, number: st.SearchStrategy[float] = NUMBER, fewest: int = 0, most: int = 30
) -> tuple[list[Point], Point]:
    """Draw points in one to four objectives, and the signs of the objectives."""
    size = draw(st.integers(1, 4))
    points = draw(st.lists(st.tuples(*[number] * size), min_size=fewest, max_size=most))
    return points, draw(st.tuples(*[st.sampled_from([1.0, -1.0])] * size))


def rows_of(points: Sequence[Point]) -> list[FrontRow]:
    return [FrontRow(number, point, {}, {}) for number, point in enumerate(points)]


def betters(a: Point, b: Point, signs: Point) -> bool:
    """Tell whether a point dominates another, by the definition."""
    pairs = [(sign * x, sign * y) for sign, x, y in zip(signs, a, b, strict=True)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def times(signs: Point, number: float) -> Point:
    return tuple(sign * number for sign in signs)


class ParetoFrontTests:
    @given(problem=problems(NUMBER | st.sampled_from([math.inf, -math.inf])) | problems(INTEGER))
    def test_equals_brute_force(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        expected = {i for i, p in enumerate(points) if not any(betters(q, p, signs) for q in points)}
        front = pareto_front(rows_of(points), signs)
        assert {row.trial for row in front} == expected
        assert len(front) == len(expected)

    @given(problem=problems(INTEGER, fewest=2, most=2))
    def test_dominates_by_definition(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        one, other = rows_of(points)
        assert dominates(one, other, signs) is betters(one.values, other.values, signs)

    @given(problem=problems())
    def test_is_sorted_best_first(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        front = pareto_front(rows_of(points)[::-1], signs)
        keys = [(*(sign * x for sign, x in zip(signs, row.values, strict=True)), row.trial) for row in front]
        assert keys == sorted(keys)

    def test_keeps_equal_points_in_trial_order(self) -> None:
        front = pareto_front(rows_of([(1, 1), (0, 0), (2, 5), (1, 1), (1, 0.5)]), (1, -1))
        assert [row.trial for row in front] == [1, 0, 3, 2]
        front = pareto_front(rows_of([(1, 1, 0), (0, 0, 9), (1, 1, 0), (2, 5, 9), (1, 0.5, 0)]), (1, -1, 1))
        assert [row.trial for row in front] == [1, 0, 2, 3]
        assert [row.trial for row in pareto_front(rows_of([(2,), (3,), (1,), (3,)]), (-1,))] == [1, 3]

    @pytest.mark.parametrize("objectives", [1, 2, 3, 4])
    def test_empty(self, objectives: int) -> None:
        assert pareto_front([], (1.0,) * objectives) == []


def by_inclusion_and_exclusion(losses: Sequence[Point], worst: Point) -> float:
    """Return the volume of the union of the boxes between each point and the corner."""
    volume = 0.0
    for size in range(1, len(losses) + 1):
        for chosen in combinations(losses, size):
            shared = math.prod(max(end - max(column), 0) for end, *column in zip(worst, *chosen, strict=True))
            volume += shared if size % 2 else -shared
    return volume


class HypervolumeTests:
    @given(problem=problems())
    def test_equals_optunas(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        assume(len(signs) > 1)  # of one objective Optuna has none
        reference, ideal = np.full(len(signs), 6.0), -np.arange(3.0, 3.0 + len(signs))  # as losses
        losses = np.maximum(np.array(points).reshape(-1, len(signs)) * signs, ideal)
        inside = losses[(losses < reference).all(axis=1)]
        expected = compute_hypervolume(inside, reference) / np.prod(reference - ideal) if len(inside) else 0.0
        corners = [tuple(corner * signs) for corner in (reference, ideal)]
        assert hypervolume(points, signs, *corners) == pytest.approx(expected, abs=1e-12)

    @given(problem=problems(INTEGER))
    def test_equals_a_count_of_unit_cells(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        losses = np.array(points).reshape(-1, len(signs)) * signs
        cells = product(range(-1, 3), repeat=len(signs))  # the lowest corner of each
        covered = sum(bool((losses <= cell).all(axis=1).any()) for cell in cells)
        found = hypervolume(points, signs, times(signs, 3), times(signs, -1))
        assert found == pytest.approx(covered / 4 ** len(signs), abs=1e-12)

    @given(problem=problems(most=7))
    def test_equals_inclusion_and_exclusion(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        losses = [tuple(max(sign * x, 0.0) for sign, x in zip(signs, point, strict=True)) for point in points]
        expected = by_inclusion_and_exclusion(losses, (5.0,) * len(signs)) / 5 ** len(signs)
        assert hypervolume(points, signs, times(signs, 5), times(signs, 0)) == pytest.approx(expected, abs=1e-12)

    @given(problem=problems(fewest=1))
    def test_a_point_more_never_lowers_it(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        before = hypervolume(points[1:], signs, times(signs, 9), times(signs, -9))
        after = hypervolume(points, signs, times(signs, 9), times(signs, -9))
        assert 0 <= before <= after + 1e-12
        assert after <= 1 + 1e-12

    @given(problem=problems(fewest=1))
    def test_gain_is_the_difference(self, problem: tuple[list[Point], Point]) -> None:
        (point, *others), signs = problem
        box = signs, times(signs, 6), times(signs, -4)
        difference = hypervolume([point, *others], *box) - hypervolume(others, *box)
        found = hypervolume_gain(point, others, *box)
        assert found == pytest.approx(difference, abs=1e-12)
        if any(betters(other, point, signs) or other == point for other in others):
            assert found == 0.0

    @given(problem=problems(), data=st.data())
    def test_does_not_depend_on_the_order(self, problem: tuple[list[Point], Point], data: st.DataObject) -> None:
        points, signs = problem
        reference, ideal = times(signs, 7), tuple(-(5.0 + place) * sign for place, sign in enumerate(signs))
        order = data.draw(st.permutations(range(len(signs))))

        def turn(point: Point) -> Point:
            return tuple(point[place] for place in order)

        turned = hypervolume([turn(point) for point in points[::-1]], turn(signs), turn(reference), turn(ideal))
        assert turned == pytest.approx(hypervolume(points, signs, reference, ideal), abs=1e-12)

    @given(problem=problems())
    def test_an_objective_in_which_all_are_ideal_changes_nothing(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        reference, ideal = times(signs, 7), times(signs, -7)
        longer = hypervolume([(*point, 1.0) for point in points], (*signs, -1.0), (*reference, 0.0), (*ideal, 1.0))
        assert longer == pytest.approx(hypervolume(points, signs, reference, ideal), abs=1e-12)

    @given(problem=problems(fewest=1), scale=st.floats(0.5, 4), shift=st.floats(-5, 5))
    def test_does_not_depend_on_units(self, problem: tuple[list[Point], Point], scale: float, shift: float) -> None:
        points, signs = problem
        moved = [(scale * x + shift, *others) for x, *others in points]
        box = (times(signs, 7), times(signs, -7))
        moved_box = [(scale * x + shift, *others) for x, *others in box]
        assert hypervolume(moved, signs, *moved_box) == pytest.approx(hypervolume(points, signs, *box), abs=1e-9)

    def test_by_hand(self) -> None:
        # RMSE from 2 to 0, accuracy from 0 to 1. (1, 0.5) covers 1 x 0.5 of the box of 2; (0.5, 0.25) adds 0.5 x 0.25.
        assert hypervolume([(1, 0.5)], (1, -1), (2, 0), (0, 1)) == 0.25
        assert hypervolume([(1, 0.5), (0.5, 0.25)], (1, -1), (2, 0), (0, 1)) == 0.3125
        assert hypervolume([(1.5,), (0.5,)], (1,), (2,), (0,)) == 0.75
        # Boxes of 1 x 0.5 x 1 and 1.5 x 0.25 x 1 of one of 2 x 1 x 2 share 1 x 0.25 x 1; the third reaches no further.
        points = [(1, 0.5, 1), (0.5, 0.25, 1), (1, 0.25, 1.5)]
        assert hypervolume(points, (1, -1, 1), (2, 0, 2), (0, 1, 0)) == 0.625 / 4

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


class KneeTests:
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

    def test_of_one_objective_is_the_best_trial(self) -> None:
        best = knee(pareto_front(rows_of([(0.3,), (0.4,), (0.4,), (0.4,)]), (-1,)), (-1,))
        assert best is not None and best.trial == 1

    def test_of_three_objectives_by_hand(self) -> None:
        # Scaled losses (0, 1, 1), (1, 0, 0.5), (0.5, 0.5, 0) and (0.1, 0.5, 0.5), their sums 2, 1.5, 1 and 1.1.
        points = [(1.0, 0.0, 30.0), (3.0, 0.4, 20.0), (2.0, 0.2, 10.0), (1.2, 0.2, 20.0)]
        front = pareto_front(rows_of(points), (1, -1, 1))
        best = knee(front, (1, -1, 1))
        assert len(front) == 4
        assert best is not None and best.trial == 2

    def test_exists_where_one_trial_is_best_in_two_objectives(self) -> None:
        # The best points of the three objectives are two: no plane goes through them alone. Sums 1, 1.9, 1.1.
        front = pareto_front(rows_of([(0, 0, 1), (1, 0.9, 0), (0.5, 0.1, 0.5)]), (1, 1, 1))
        best = knee(front, (1, 1, 1))
        assert best is not None and best.trial == 0

    @given(problem=problems(fewest=1))
    def test_by_definition(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        front = pareto_front(rows_of(points), signs)
        best = knee(front, signs)
        assert best in front
        losses = np.array([row.values for row in front]) * signs
        ends = [(min(column), max(column)) for column in losses.T.tolist()]

        def scaled(row: FrontRow) -> list[float]:
            losses = [sign * x for sign, x in zip(signs, row.values, strict=True)]
            return [
                (x - low) / (high - low) if high > low else 0.0 for x, (low, high) in zip(losses, ends, strict=True)
            ]

        if len(front) < 3:
            expected = min(front, key=lambda row: math.hypot(*scaled(row)))
            assert best.trial == expected.trial
        else:
            # How far below the hyperplane that meets each axis at 1, whose normal is (1, ..., 1).
            depth = {row.trial: (1 - sum(scaled(row))) / math.sqrt(len(signs)) for row in front}
            assert depth[best.trial] == pytest.approx(max(depth.values()), abs=1e-9)

    @given(points=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=12))
    def test_of_two_objectives_lies_farthest_below_the_chord(self, points: list[tuple[int, int]]) -> None:
        xs, ys = sorted({x for x, _ in points}), sorted({y for _, y in points}, reverse=True)
        points = list(zip(xs, ys, strict=False))  # a front
        assume(len(points) >= 3)
        best = knee(rows_of(points), (1, 1))
        assert best is not None
        (x0, y0), (x1, y1) = points[0], points[-1]
        # Twice the area of the triangle with the chord; above the chord it is negative.
        areas = [(x1 - x) * (y0 - y) - (x0 - x) * (y1 - y) for x, y in points]
        assert areas[best.trial] == max(areas)

    @given(problem=problems(fewest=1), data=st.data())
    def test_does_not_depend_on_units(self, problem: tuple[list[Point], Point], data: st.DataObject) -> None:
        points, signs = problem
        scales = data.draw(st.tuples(*[st.sampled_from([1.0, 4.0, 1024.0])] * len(signs)))  # exact
        scaled = [tuple(scale * x for scale, x in zip(scales, point, strict=True)) for point in points]
        before, after = (knee(pareto_front(rows_of(each), signs), signs) for each in (points, scaled))
        assert before is not None and after is not None
        assert before.trial == after.trial


class FrontOfTests:
    @settings(max_examples=30, deadline=None)
    @given(problem=problems())
    def test_agrees_with_optuna(self, problem: tuple[list[Point], Point]) -> None:
        points, signs = problem
        study = optuna.create_study(directions=["minimize" if sign > 0 else "maximize" for sign in signs])
        study.add_trials([optuna.trial.create_trial(values=list(point)) for point in points])
        assert sorted(row.trial for row in compute_front(study)) == [trial.number for trial in study.best_trials]

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
        assert compute_front(study) == [FrontRow(0, (1.0, 0.5), {"x": 0.25}, {"rmse": 1.0, "top_100": 0.5})]
