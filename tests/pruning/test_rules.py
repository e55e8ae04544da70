"""The rules `Halving` and `Dominated`: which trials they stop at a rung."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtsearch.pruning import ENOUGH, Dominated, Halving, Rule, Rung, Rungs
from tests.helpers.vectors import ANY, BROKEN, SMALL, Vectors, dominates, layers_by_peeling, vectors

pytestmark = pytest.mark.quick


def stops(rule: Rule, own: Sequence[float], others: Sequence[Sequence[float]], front: Sequence[int] = ()) -> bool:
    table = np.array(others, dtype=float).reshape(len(others), len(own))
    return rule.stops(np.array(own, dtype=float), Rung(table, np.isin(np.arange(len(others)), front)))


def all_on_the_front(others: Vectors) -> list[int]:
    layers = layers_by_peeling(others)
    return [index for index, row in enumerate(others) if layers[index] == 0 and all(map(math.isfinite, row))]


class RungsTests:
    @pytest.mark.parametrize(
        ("rungs", "expected"),
        [
            (Rungs(1, 3), [1, 3, 9, 27]),
            (Rungs(2, 3), [2, 6, 18]),
            (Rungs(5, 2), [5, 10, 20]),
            (Rungs(6, 4), [6, 24]),
            (Rungs(50, 2), []),
        ],
    )
    def test_epochs(self, rungs: Rungs, expected: list[int]) -> None:
        assert rungs.up_to(30) == expected
        assert 0 not in rungs and -3 not in rungs

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 50), st.integers(2, 5), st.integers(1, 300))
    def test_are_the_powers(self, grace: int, reduction: int, epoch: int) -> None:
        assert (epoch in Rungs(grace, reduction)) == (epoch in [grace * reduction**k for k in range(10)])

    @pytest.mark.parametrize(("grace", "reduction"), [(0, 3), (1, 1), (-1, 3)])
    def test_invalid_rungs_are_refused(self, grace: int, reduction: int) -> None:
        for kind in (Rungs, Halving, Dominated):
            with pytest.raises(ValueError, match="grace of at least 1 and a reduction of at least 2"):
                kind(grace, reduction)


class BothTests:
    @pytest.mark.parametrize(
        "rule", [Halving(1, 3), Halving(1, reduction=2), Dominated(1, 3), Dominated(1, 3, margin=0)]
    )
    @settings(max_examples=100, deadline=None)
    @given(vectors(SMALL | ANY | BROKEN, smallest=1), st.data())
    def test_a_trial_that_dominates_all_others_goes_on(self, rule: Rule, others: Vectors, data: st.DataObject) -> None:
        finite = [row for row in others if all(map(math.isfinite, row))]
        best = [min(column) for column in zip(*finite, strict=True)] if finite else [0.0] * len(others[0])
        index = data.draw(st.integers(0, len(best) - 1))
        best[index] -= abs(best[index]) + 1
        if not math.isfinite(best[index]):
            return
        assert all(dominates(best, row) for row in finite)
        assert not stops(rule, best, others, all_on_the_front(others))

    @settings(max_examples=60, deadline=None)
    @given(vectors(SMALL | BROKEN), st.data())
    def test_trials_on_the_first_layer_go_on(self, others: Vectors, data: st.DataObject) -> None:
        m = len(others[0]) if others else 2
        own = data.draw(st.tuples(*[SMALL] * m))
        if layers_by_peeling([*others, own])[-1] == 0:
            assert not stops(Halving(1, 3), own, others)
            assert not stops(Dominated(1, 3, margin=0), own, others, all_on_the_front(others))

    @settings(max_examples=60, deadline=None)
    @given(vectors(SMALL, objectives=2), st.tuples(BROKEN, SMALL))
    def test_all_go_on_before_enough_trials(self, others: Vectors, own: tuple[float, float]) -> None:
        few = others[: ENOUGH - 2]
        for rule in (Halving(1, 3), Dominated(1, 3)):
            assert not stops(rule, (9.0, 9.0), few, range(len(few)))
            assert not stops(rule, own, few, range(len(few)))

    @pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
    def test_trials_with_nonfinite_losses_stop(self, broken: float) -> None:
        others = [(0.0, 3.0), (1.0, 2.0), (2.0, 1.0), (3.0, 0.0), (9.0, 9.0)]
        assert stops(Halving(1, 3), (broken, 0.0), others)
        assert stops(Dominated(1, 3), (broken, 0.0), others, [0])
        assert not stops(Halving(1, 3), (broken, 0.0), [(math.nan, 0.0)] * 9)
        assert not stops(Dominated(1, 3), (broken, 0.0), others)  # nothing has ended that it could be worse than


class HalvingTests:
    def test_by_hand(self) -> None:
        # Nine have come, of whom three go on: the two of the first layer, and one of the second one's four. That is
        # its middle; the next would be its ends, and not the middle's neighbour.
        first, rest = [(0.0, 2.0), (2.0, 0.0)], [(9.0, 9.0), (8.0, 9.0)]
        second = {"end": (1.0, 9.0), "middle": (3.0, 3.0), "beside": (2.9, 3.5), "other end": (9.0, 1.0)}
        fates = {}
        for name, own in second.items():
            others = [*first, *rest, *(row for row in second.values() if row != own), (9.5, 9.5)]
            fates[name] = stops(Halving(1, 3), own, others)
        assert fates == {"end": True, "middle": False, "beside": True, "other end": True}
        assert stops(Halving(1, 3), (8.0, 9.0), [*first, *second.values(), (9.0, 9.0), (9.5, 9.5)])

    def test_equal_vectors_take_a_place_each(self) -> None:
        """Four trials of the second layer have two places: the equal two in the middle go on, the others stop."""
        rest = [(9.0, 9.0 + row) for row in range(4)]
        second = [(1.0, 5.0), (3.0, 3.0), (3.0, 3.0), (5.0, 1.0)]
        fates = [
            stops(Halving(1, 3), own, [(0, 0), *second[:i], *second[i + 1 :], *rest]) for i, own in enumerate(second)
        ]
        assert fates == [True, False, False, True]

    def test_a_layer_that_fits_goes_on_as_a_whole(self) -> None:
        others = [(0.0, 0.0), (1.0, 2.0), *((9.0, 9.0 + row) for row in range(6))]
        assert not stops(Halving(1, 3), (2.0, 1.0), others)  # 9 // 3 = 1 + 2
        assert stops(Halving(1, 3), (2.0, 1.0), others[:-1])  # 8 // 3 = 1 + 1, and the other is nearer the corner
        assert not stops(Halving(1, reduction=2), (2.0, 1.0), others[:-2])

    def test_the_newest_of_four_that_is_best(self) -> None:
        """A rule that confuses the order of the trials with their places would stop this trial."""
        assert not stops(Halving(1, 3), (0, 0), [(1, 1), (2, 2), (3, 3), (4, 4)])

    @settings(max_examples=300, deadline=None)
    @given(st.lists(SMALL, min_size=ENOUGH - 1, max_size=30), SMALL, st.integers(2, 5))
    def test_with_one_objective_it_is_successive_halving(self, others: list[float], own: float, reduction: int) -> None:
        """As in Optuna's SuccessiveHalvingPruner, n // reduction of n trials go on, at least one, and equal ones."""
        everybody = sorted([*others, own])
        worst_promoted = everybody[max(len(everybody) // reduction, 1) - 1]
        assert stops(Halving(1, reduction=reduction), (own,), [(other,) for other in others]) == (own > worst_promoted)

    @settings(max_examples=60, deadline=None)
    @given(vectors(SMALL, smallest=ENOUGH, objectives=2), st.integers(2, 4))
    def test_how_many_of_a_rung_go_on(self, rows: Vectors, reduction: int) -> None:
        """Those of the layers that fit go on, and just enough of the next layer to fill up, equal vectors aside."""
        rows = list(dict.fromkeys(rows))
        if len(rows) < ENOUGH:
            return
        fates = [stops(Halving(1, reduction=reduction), own, rows[:i] + rows[i + 1 :]) for i, own in enumerate(rows)]
        first = layers_by_peeling(rows).count(0)
        assert fates.count(False) == max(len(rows) // reduction, first)

    @settings(max_examples=60, deadline=None)
    @given(vectors(SMALL, smallest=ENOUGH, objectives=2), st.randoms())
    def test_neither_the_order_of_trials_nor_of_objectives_matters(self, rows: Vectors, random: object) -> None:
        own, others = rows[0], rows[1:]
        shuffled = sorted(others, key=lambda _: random.random())  # type: ignore[attr-defined] # Hypothesis' Random
        assert stops(Halving(1, 3), own, shuffled) == stops(Halving(1, 3), own, others)


class DominatedTests:
    OTHERS = ((0.0, 0.4), (0.4, 0.0), (1.0, 1.0), (0.6, 0.6), (0.9, 0.8))

    @pytest.mark.parametrize(
        ("own", "margin", "front", "stopped"),
        [
            ((0.5, 0.5), 0.05, [0, 1], True),
            ((0.5, 0.5), 0.10, [0, 1], True),  # bettered by the whole margin it would be (0.4, 0.4)
            ((0.5, 0.5), 0.11, [0, 1], False),
            ((0.5, 0.41), 0.05, [0], False),
            ((0.5, 0.41), 0.00, [0], True),
            ((0.4, 0.0), 0.00, [0, 1], False),  # as good as one of the front
            ((0.7, 0.7), 0.05, [0], True),
            ((0.7, 0.7), 0.05, [3], True),
            ((0.7, 0.7), 0.05, [2], False),  # better than the only one that has ended
            ((0.7, 0.7), 0.05, [], False),
        ],
    )
    def test_by_hand(self, own: tuple[float, float], margin: float, front: list[int], stopped: bool) -> None:
        assert stops(Dominated(1, 3, margin=margin), own, self.OTHERS, front) == stopped
        scaled = [(1000 * a + 7, b / 8) for a, b in (*self.OTHERS, own)]
        assert stops(Dominated(1, 3, margin=margin + 1e-9), scaled[-1], scaled[:-1], front) in (stopped, margin != 0.10)

    def test_an_objective_in_which_all_are_the_same(self) -> None:
        others = [(0.5, value) for value in (0.0, 0.3, 0.6, 1.0)]
        assert stops(Dominated(1, 3), (0.5, 0.9), others, [0])
        assert not stops(Dominated(1, 3), (0.5, 0.0), others, [0])

    @settings(max_examples=60, deadline=None)
    @given(vectors(SMALL | BROKEN, smallest=ENOUGH - 1, objectives=2), st.tuples(SMALL, SMALL), st.floats(0, 1))
    def test_only_dominated_trials_stop(self, others: Vectors, own: tuple[float, float], margin: float) -> None:
        front = all_on_the_front(others)
        worse = any(dominates(others[index], own) for index in front)
        assert stops(Dominated(1, 3, margin=0), own, others, front) == worse
        assert worse or not stops(Dominated(1, 3, margin=margin), own, others, front)

    @pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
    def test_invalid_margins_are_refused(self, margin: float) -> None:
        with pytest.raises(ValueError, match="give a number of at least 0"):
            Dominated(1, 3, margin=margin)
