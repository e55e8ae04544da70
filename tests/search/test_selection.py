"""Selection of a trial: every form of a pick, the neighbours of the selected trial, and refused picks."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mtsearch.errors import PickError
from mtsearch.metrics import METRICS, metrics_of
from mtsearch.search.pareto import FrontRow, knee
from mtsearch.search.results import Failure, StudyResults
from mtsearch.search.selection import Pick, describe_picks, parse_pick, select
from tests.helpers.results import results, row

pytestmark = pytest.mark.quick

# RMSE (lower is better) and top-100 (higher): trials 0, 2, 1 and 4 are the front, in this order; 3 and 5 are dominated.
POINTS = [(0.90, 0.10), (0.95, 0.30), (0.92, 0.25), (0.96, 0.29), (1.00, 0.32), (0.95, 0.25)]
NUMBER = st.one_of(st.integers(0, 4).map(float), st.floats(0.01, 10))
SPARSE = st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=20)
KEYS = st.sampled_from([("rmse", "top_100"), ("top_100", "rmse"), ("rmse", "mae"), ("mrr", "top_100")])


def study(points: list[tuple[float, float]], keys: tuple[str, str] = ("rmse", "top_100")) -> StudyResults:
    return results((row(number, *point) for number, point in enumerate(points)), objectives=keys, baselines={})


def study_of(points: Sequence[tuple[float, ...]], keys: Sequence[str]) -> StudyResults:
    """The same in any number of objectives."""
    rows = [FrontRow(number, point, {}, {}) for number, point in enumerate(points)]
    return replace(results(rows, baselines={}), objectives=tuple(METRICS[key] for key in keys))


@st.composite
def studies_of_any(draw: st.DrawFn) -> StudyResults:
    """A study of one to four objectives."""
    keys = draw(st.lists(st.sampled_from(["rmse", "top_100", "mae", "mrr"]), min_size=1, max_size=4, unique=True))
    return study_of(draw(st.lists(st.tuples(*[NUMBER] * len(keys)), min_size=1, max_size=20)), keys)


def rule(keys: tuple[str, ...], index: int, bound: float) -> str:
    return f"{keys[index]}{'<=' if keys[index] in ('rmse', 'mae') else '>='}{bound!r}"


class PicksTests:
    @pytest.mark.parametrize(
        ("asked", "trial"),
        [
            # scaled losses of the front: (0, 1), (0.2, 0.32), (0.5, 0.09), (1, 0): sums 1, 0.52, 0.59, 1
            ("knee", 2),
            ("rmse", 0),
            ("top_100", 4),
            ("trial:1", 1),
            ("trial:3", 3),
            ("rmse<=0.93", 2),
            ("rmse <= 0.95", 1),
            ("rmse<=9", 4),
            ("rmse<=0.9", 0),
            ("top_100>=0.26", 1),
            ("top_100>=.25", 2),
            ("top_100>=-1e3", 0),
            (" top_100>=0.32 ", 4),
        ],
    )
    def test_takes(self, asked: str, trial: int) -> None:
        assert select(study(POINTS), asked).row.trial == trial

    def test_the_other_order_of_objectives(self) -> None:
        turned = study([(b, a) for a, b in POINTS], ("top_100", "rmse"))
        assert [row.trial for row in turned.front] == [4, 1, 2, 0]
        picks = ("knee", "rmse", "top_100", "rmse<=0.93", "top_100>=0.26")
        assert [select(turned, asked).row.trial for asked in picks] == [2, 0, 4, 2, 1]

    def test_both_lower_is_better(self) -> None:
        both = study([(1.0, 0.9), (1.1, 0.7), (1.2, 0.6)], ("rmse", "mae"))
        assert select(both, "mae<=0.7").row.trial == 1
        assert select(both, "rmse<=1.15").row.trial == 1

    def test_parses(self) -> None:
        metrics = study(POINTS).objectives
        assert parse_pick("top_100>=0.38", metrics) == Pick("rule", 1, 0.38)
        assert parse_pick("trial:017", metrics) == replace(parse_pick("trial: 17", metrics)) == Pick("trial", trial=17)


class OneObjectiveTests:
    """The front is the best trial, and those that equal it."""

    HELD = study_of([(0.95,), (0.90,), (0.93,), (0.90,)], ["rmse"])

    @pytest.mark.parametrize(
        ("asked", "trial"),
        [("knee", 1), ("rmse", 1), ("rmse<=0.94", 1), ("rmse<=0.9", 1), ("trial:3", 3), ("trial:2", 2)],
    )
    def test_takes(self, asked: str, trial: int) -> None:
        assert select(self.HELD, asked).row.trial == trial

    def test_what_stands_beside_it(self) -> None:
        best, other = select(self.HELD), select(self.HELD, "trial:2")
        assert (best.neighbours, best.dominated_by) == ((None,), ())
        assert [row.trial for row in best.equals] == [3]
        assert (other.neighbours, [row.trial for row in other.dominated_by]) == ((None,), [1, 3])

    def test_refusals(self) -> None:
        with pytest.raises(PickError, match=r"the nearest is trial 1 with RMSE 0.9 stars, 0.1 stars away"):
            select(self.HELD, "rmse<=0.8")
        with pytest.raises(PickError, match=r"mae is not an objective of the study; name rmse$"):
            select(self.HELD, "mae<=0.8")
        assert describe_picks(self.HELD.objectives) == 'write knee, rmse, trial:N, or a rule: "rmse<=0.93"'


class ThreeObjectivesTests:
    # RMSE and MAE (lower is better), top-100 (higher); trial 4 is dominated by trial 3.
    HELD = study_of(
        [(0.90, 0.10, 0.80), (1.00, 0.40, 0.80), (1.00, 0.10, 0.60), (0.94, 0.30, 0.70), (0.95, 0.25, 0.75)],
        ["rmse", "top_100", "mae"],
    )

    @pytest.mark.parametrize(
        ("asked", "trial"),
        [
            ("knee", 3),  # scaled losses (0, 1, 1), (1, 0, 1), (1, 1, 0), (0.4, 0.33, 0.5)
            ("rmse", 0),
            ("top_100", 1),
            ("mae", 2),
            ("rmse<=0.95", 3),  # of (0, 1, 1) and (1, 0, 0), now that trials 1 and 2 do not count
            ("mae<=0.7", 3),
            ("top_100>=0.2", 3),
            ("top_100>=0.35", 1),
            ("trial:4", 4),
        ],
    )
    def test_takes(self, asked: str, trial: int) -> None:
        assert select(self.HELD, asked).row.trial == trial

    def test_what_stands_beside_it(self) -> None:
        middle = select(self.HELD)
        assert [other and other.trial for other in middle.neighbours] == [0, 1, 2]
        assert select(self.HELD, "rmse").neighbours[0] is None
        dominated = select(self.HELD, "trial:4")
        assert dominated.neighbours == (None, None, None)
        assert [other.trial for other in dominated.dominated_by] == [3]

    def test_refusals(self) -> None:
        with pytest.raises(PickError, match="mrr is not an objective of the study; name rmse, top_100 or mae"):
            select(self.HELD, "mrr>=0.1")
        with pytest.raises(PickError) as error:
            select(self.HELD, "best")
        forms = 'write knee, rmse, top_100, mae, trial:N, or a rule: "rmse<=0.93", "top_100>=0.38" or "mae<=0.93"'
        assert forms in str(error.value)


class TasksTests:
    """Objectives of several tasks are named with the task, or without it if one task alone has them."""

    KEYS = ("stars.rmse", "purchase.top_100", "view.top_100")
    POINTS = ((0.90, 0.10, 0.5), (0.95, 0.30, 0.4), (1.00, 0.20, 0.9))

    def study(self) -> StudyResults:
        metrics = metrics_of({"view": "retrieval", "purchase": "retrieval", "stars": "rating"})
        return replace(study_of(self.POINTS, ["rmse"] * 3), objectives=tuple(metrics[key] for key in self.KEYS))

    @pytest.mark.parametrize(
        ("asked", "trial"),
        [
            ("stars.rmse", 0),
            ("rmse", 0),
            ("purchase.top_100", 1),
            ("view.top_100", 2),
            ("purchase.top_100>=0.25", 1),
            ("view.top_100 >= 0.8", 2),
            ("rmse<=0.92", 0),
            ("stars.rmse<=0.92", 0),
        ],
    )
    def test_takes(self, asked: str, trial: int) -> None:
        assert select(self.study(), asked).row.trial == trial

    def test_refusals(self) -> None:
        objectives = self.study().objectives
        for asked in ("top_100>=0.2", "view.rmse<=1", "purchase.rmse<=1"):
            with pytest.raises(PickError, match=r"is not an objective of the study; name stars\.rmse, purch"):
                parse_pick(asked, objectives)
        with pytest.raises(PickError, match=r"'top_100' cannot be read .*write knee, stars\.rmse, purchase\.top_100"):
            parse_pick("top_100", objectives)
        with pytest.raises(PickError, match=r"did you mean 'purchase\.top_100'"):
            parse_pick("purchase.top_10", objectives)
        with pytest.raises(PickError, match=r"lower stars\.rmse is better; write stars\.rmse<=0\.9"):
            parse_pick("rmse>=0.9", objectives)


class NeighboursTests:
    def test_neighbours(self) -> None:
        middle = select(study(POINTS), "trial:2")
        assert [other and other.trial for other in middle.neighbours] == [0, 1]
        first, last = select(study(POINTS), "rmse"), select(study(POINTS), "top_100")
        assert [other and other.trial for other in first.neighbours] == [None, 2]
        assert [other and other.trial for other in last.neighbours] == [1, None]

    def test_a_dominated_trial(self) -> None:
        choice = select(study(POINTS), "trial:5")
        assert [other.trial for other in choice.dominated_by] == [2, 1]  # better in RMSE alone; in top-100 alone
        assert choice.neighbours == (None, None)
        assert select(study(POINTS), "knee").dominated_by == ()

    def test_equal_points(self) -> None:
        tied = study([(1, 0.5), (0.9, 0.1), (1, 0.5), (1.1, 0.6), (0.9, 0.1)])
        choice = select(tied, "rmse<=1.05")
        assert choice.row.trial == 0
        assert [other.trial for other in choice.equals] == [2]
        later = select(tied, "trial:2")
        assert [other.trial for other in later.equals] == [0]
        for each in (choice, later):
            assert [other and other.trial for other in each.neighbours] == [1, 3]

    def test_one_point(self) -> None:
        for asked in ("knee", "rmse", "top_100", "trial:0", "rmse<=1", "top_100>=0.2"):
            choice = select(study([(1.0, 0.2)]), asked)
            assert (choice.row.trial, choice.neighbours, choice.equals) == (0, (None, None), ())

    def test_two_points(self) -> None:
        two = study([(2.0, 0.9), (1.0, 0.1)])
        assert select(two, "knee").row.trial == 1  # both are as near to the best of either: the first
        assert select(two, "rmse<=1.5").row.trial == 1
        assert select(two, "rmse<=2").row.trial == 0


class RefusalsTests:
    @pytest.mark.parametrize(
        "asked", ["", "Knee", "rmse<0.93", "rmse=0.93", "rmse<=", "<=0.93", "trial:", "trial:x", "trial:-1", "17",
                  "rmse<=0.9 and top_100>=0.3", "trial:" + "9" * 5000]
    )  # fmt: skip
    def test_unreadable_names_the_forms(self, asked: str) -> None:
        with pytest.raises(PickError) as error:
            select(study(POINTS), asked)
        assert 'write knee, rmse, top_100, trial:N, or a rule: "rmse<=0.93" or "top_100>=0.38"' in str(error.value)
        assert len(str(error.value)) < 300

    @pytest.mark.parametrize("number", ["nan", "inf", "-inf", "0,93", "1e999", "zero"])
    def test_no_number(self, number: str) -> None:
        with pytest.raises(PickError, match=f"'{number}' is not a finite number; for example"):
            select(study(POINTS), f"rmse<={number}")

    def test_a_near_name(self) -> None:
        with pytest.raises(PickError, match="did you mean 'top_100'"):
            select(study(POINTS), "top100")

    def test_the_worse_side(self) -> None:
        with pytest.raises(PickError, match=r"the worse side: lower rmse is better; write rmse<=0.9$"):
            select(study(POINTS), "rmse>=0.9")
        with pytest.raises(PickError, match=r"the worse side: higher top_100 is better; write top_100>=0.3$"):
            select(study(POINTS), "top_100<=0.3")

    def test_no_objective(self) -> None:
        with pytest.raises(PickError, match="mae is not an objective of the study; name rmse or top_100"):
            select(study(POINTS), "mae<=0.7")

    def test_unmet_says_how_far(self) -> None:
        with pytest.raises(PickError, match=r"nearest is trial 0 with RMSE 0.9 stars, 0.05 stars away.*trial:0"):
            select(study(POINTS), "rmse<=0.85")
        with pytest.raises(PickError, match=r"nearest is trial 4 with top-100 accuracy 0.32, 0.08 away"):
            select(study(POINTS), "top_100>=0.4")

    @pytest.mark.parametrize("asked", ["knee", "rmse", "rmse<=1"])
    def test_a_study_without_a_front(self, asked: str) -> None:
        with pytest.raises(PickError, match=r"has no front \(trials: 2 fail\); `mtsearch run`"):
            select(results(states={"fail": 2}), asked)

    @pytest.mark.parametrize(
        ("number", "said"),
        [
            (6, r"trial 6 failed \(non-finite loss at epoch 2"),
            (7, r"trial 7 exceeds the \[constraints\]"),
            (8, "trial 8 is not complete"),
            (9, "there is no trial 9; its trials are 0 to 8"),
        ],
    )
    def test_trials_that_cannot_be_selected(self, number: int, said: str) -> None:
        held = replace(
            study(POINTS),
            states={"complete": 7, "fail": 1, "running": 1},
            failures=(Failure(6, "non-finite loss at epoch 2, step 14", counted=True),),
            infeasible=(7,),
        )
        with pytest.raises(PickError, match=said):
            select(held, f"trial:{number}")

    def test_no_trial_at_all(self) -> None:
        with pytest.raises(PickError, match="there is no trial 0; it has no trials"):
            select(results(states={}), "trial:0")

    def test_no_trial_that_keeps_the_constraints(self) -> None:
        with pytest.raises(PickError, match=r"no trial keeps the \[constraints\], so there is no front; widen"):
            select(results(states={"complete": 2}, infeasible=(0, 1)))
        with pytest.raises(PickError, match="has no front"):
            select(results(states={"running": 2}))


class InvariantsTests:
    @given(points=SPARSE, keys=KEYS, index=st.sampled_from([0, 1]), bound=NUMBER)
    def test_a_rule(self, points: list[tuple[float, float]], keys: tuple[str, str], index: int, bound: float) -> None:
        """The selected trial equals that of brute force over all trials, not only those of the front."""
        held = study(points, keys)
        signs, asked = held.signs, rule(keys, index, bound)
        meeting = [point for point in points if signs[index] * point[index] <= signs[index] * bound]
        if not meeting:
            with pytest.raises(PickError, match="the nearest is trial"):
                select(held, asked)
            return
        chosen, other = select(held, asked).row, 1 - index
        assert chosen in held.front
        assert signs[index] * chosen.values[index] <= signs[index] * bound
        assert signs[other] * chosen.values[other] == min(signs[other] * point[other] for point in meeting)

    @given(points=SPARSE, keys=KEYS, index=st.sampled_from([0, 1]), bound=NUMBER)
    def test_a_rule_does_not_depend_on_the_scale(
        self, points: list[tuple[float, float]], keys: tuple[str, str], index: int, bound: float
    ) -> None:
        signs = study(points, keys).signs
        assume(any(signs[index] * point[index] <= signs[index] * bound for point in points))
        # Only the order of the values matters: each is replaced by its rank, and by the exponential of that.
        ranks = {value: rank for rank, value in enumerate(sorted({bound, *(p[index] for p in points)}))}
        scaled = [(*p[:index], math.exp(ranks[p[index]]), *p[index + 1 :]) for p in points]
        before = select(study(points, keys), rule(keys, index, bound)).row.trial
        after = select(study([(a, b) for a, b in scaled], keys), rule(keys, index, math.exp(ranks[bound]))).row.trial
        assert before == after

    @given(held=studies_of_any(), data=st.data())
    def test_a_rule_of_any_number_of_objectives(self, held: StudyResults, data: st.DataObject) -> None:
        index, bound = data.draw(st.integers(0, len(held.objectives) - 1)), data.draw(NUMBER)
        sign, asked = held.signs[index], rule(tuple(m.key for m in held.objectives), index, bound)
        meeting = [row for row in held.front if sign * row.values[index] <= sign * bound]
        if not meeting:
            assert all(sign * row.values[index] > sign * bound for row in held.rows)
            with pytest.raises(PickError, match="the nearest is trial"):
                select(held, asked)
            return
        chosen = select(held, asked).row
        assert chosen in meeting
        if len(held.objectives) != 2:
            assert chosen == knee(meeting, held.signs)

    @given(held=studies_of_any(), data=st.data())
    def test_what_stands_beside_it(self, held: StudyResults, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(held.rows) - 1))
        choice = select(held, f"trial:{number}")
        on_front = any(other.trial == number for other in held.front)
        assert on_front == (choice.dominated_by == ())
        assert len(choice.neighbours) == len(held.objectives)
        for index, other in enumerate(choice.neighbours):
            found = None if other is None else other.values[index]
            assert found == (_next(held, choice.row, index) if on_front else None)
        assert [other.trial for other in choice.equals] == [
            other.trial for other in held.front if other.values == choice.row.values and other.trial != number
        ]


def _next(held: StudyResults, chosen: FrontRow, index: int) -> float | None:
    """By definition: of the front's values that are better in an objective the one that is least so."""
    sign = held.signs[index]
    losses = sorted(sign * other.values[index] for other in held.front)
    better = [loss for loss in losses if loss < sign * chosen.values[index]]
    return sign * better[-1] if better else None
