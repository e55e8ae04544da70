"""The front on test: who stays on it, who cannot be told apart, how kind validation was; as data, words and tables."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import le

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mtsearch.report.on_test import FrontOnTest, front_on_test, on_test_json
from mtsearch.report.on_test_verdict import on_test_verdict
from mtsearch.report.on_test_view import on_test, on_test_table
from mtsearch.report.page import page
from mtsearch.report.plotted import plotted
from mtsearch.search.judgements import Judged
from mtsearch.search.record import StudyRecord

from .records import BASELINES, HOSTILE, OBJECTIVES, realistic, record, row

Reached = Mapping[int, Sequence[tuple[float, float]]]

FRONT = (row(0, 0.90, 0.20), row(1, 0.92, 0.25), row(2, 0.95, 0.30))
REACHED: Reached = {
    0: [(0.940, 0.19), (0.950, 0.19), (0.960, 0.19)],
    1: [(0.930, 0.24), (0.935, 0.24), (0.940, 0.24)],
    2: [(0.955, 0.31), (0.960, 0.30), (0.965, 0.32)],
}


def judged(reached: Reached = REACHED, rows: Sequence[object] = FRONT, **changes: object) -> StudyRecord:
    """A study of the rows, each of seed 7 and the ones after it."""
    study = record(rows)  # type: ignore[arg-type]
    return replace(
        study,
        configs={each.trial: {"seed": 7} for each in study.rows},
        judged={
            trial: {7 + place: Judged({"rmse": a, "top_100": b}) for place, (a, b) in enumerate(values)}
            for trial, values in reached.items()
        },
        test_baselines=BASELINES,
        **changes,  # type: ignore[arg-type]
    )


def lines(study: StudyRecord) -> list[str]:
    return list(on_test_verdict(front_on_test(study)))


def shown(found: FrontOnTest, width: int = 80) -> str:
    Console(width=width, file=(file := io.StringIO())).print(on_test_table(found))
    return file.getvalue()


def test_means_intervals_and_optimism_by_hand() -> None:
    """Trial 0: RMSE 0.94, 0.95, 0.96; s = 0.01, t(2) = 4.3027, half = 4.3027 * 0.01 / sqrt(3) = 0.024841."""
    first, second, third = front_on_test(judged()).members
    rmse = first.test["rmse"]
    assert (rmse.mean, rmse.low, rmse.high) == pytest.approx((0.95, 0.95 - 0.024841, 0.95 + 0.024841), abs=1e-6)
    assert first.optimism == pytest.approx({"rmse": 0.05, "top_100": 0.01})
    assert third.optimism == pytest.approx({"rmse": 0.01, "top_100": -0.01})  # better on test: below 0
    assert [member.on_front for member in (first, second, third)] == [False, True, True]
    assert (first.dominated_by, second.dominated_by, third.dominated_by) == ((1,), (), ())
    assert first.alike == second.alike == third.alike == ()


def test_alike_takes_both_objectives_and_both_intervals() -> None:
    wide: Reached = {
        0: [(0.90, 0.20), (0.94, 0.24)],
        1: [(0.91, 0.21), (0.95, 0.25)],
        2: [(0.97, 0.3), (0.9701, 0.3001)],
    }
    first, second, third = front_on_test(judged(wide)).members
    assert (first.alike, second.alike, third.alike) == ((1,), (0,), ())
    one_seed = {trial: values[:1] for trial, values in wide.items()}
    assert all(member.alike == () for member in front_on_test(judged(one_seed)).members)


def test_in_words() -> None:
    assert lines(judged()) == [
        "On test 2 of the 3 members of the front stay on it.",
        "Trial 0 falls off: trial 1 is better on test.",
        "Optimism of RMSE: 0.025 stars on average, from 0.01 stars to 0.05 stars: validation was too good.",
        "Optimism of top-100 accuracy: 0.003333 on average, from -0.01 to 0.01: validation was too good for some.",
        "Trial 0, best RMSE on validation: test RMSE 0.95 stars: does not beat biases (0.942 stars).",
        "Trial 2, best top-100 accuracy on validation: test top-100 accuracy 0.31: beats popularity (0.295).",
    ]


def test_an_optimism_that_the_seeds_do_not_show_is_said_to_be_doubtful() -> None:
    """Trial 1 was at 0.92 on validation, which its seeds on test are around."""
    said = lines(judged({1: [(0.90, 0.25), (0.96, 0.25)]}))
    (rmse,) = [line for line in said if line.startswith("Optimism of RMSE")]
    assert rmse.endswith(": validation was too good, within the intervals though.")
    sure = lines(judged({1: [(0.9601, 0.25), (0.96, 0.25)]}))
    assert not any("intervals" in line for line in sure if line.startswith("Optimism of RMSE"))


def test_in_words_when_it_is_less_clear() -> None:
    near: Reached = {0: [(0.93, 0.21), (0.95, 0.23)], 1: [(0.92, 0.22), (0.94, 0.24)]}
    said = lines(judged(near))
    assert said[1] == "Trial 0 falls off: trial 1 is better on test, within the intervals though."
    assert said[2] == "These seeds do not tell apart: trials 0 and 1."
    assert said[-1] == "Not judged yet: trial 2."
    kind = lines(judged({2: [(0.95, 0.35)]}))
    assert kind[0] == "On test no member of the front falls off: 1 trial."
    assert kind[2] == "Optimism of top-100 accuracy: -0.05: test is no worse, with more rows trained on."
    assert lines(record(FRONT)) == []
    onto = judged(definition={"study": {"objectives": ["rmse", "top_100"]}, "split": {"validation": "test"}})
    assert "chosen on them" in lines(onto)[-1]


def test_a_member_that_failed_is_not_judged_on_the_rest() -> None:
    study = judged()
    broken = replace(study, judged={**study.judged, 1: {**study.judged[1], 8: Judged({}, "non-finite loss")}})
    found = front_on_test(broken)
    assert (dict(found.members[1].test), found.members[1].on_front) == ({}, False)
    assert found.members[0].on_front  # nothing is left that dominates it
    assert "Trial 1 could not be judged: its training with seed 8 failed (non-finite loss)." in lines(broken)
    assert "failed" in shown(found)
    assert front_on_test(broken, seeds=1).members[1].test  # its first seed did not fail


def test_json_is_the_contract() -> None:
    text = json.dumps(on_test_json(front_on_test(judged())), allow_nan=False)
    document = json.loads(text)
    assert list(document) == ["study", "objectives", "seeds", "front", "unjudged", "baselines"]
    assert (document["seeds"], document["objectives"]) == (3, ["rmse", "top_100"])
    first = document["front"][0]
    assert list(first) == [
        "trial", "params", "seeds", "validation", "test", "optimism", "on_front", "dominated_by", "alike", "failures",
    ]  # fmt: skip
    assert first["validation"] == dict(FRONT[0].metrics)
    assert first["params"] == dict(FRONT[0].params)
    assert first["seeds"] == [7, 8, 9]
    assert set(first["test"]["rmse"]) == {"mean", "low", "high", "values"}
    assert first["test"]["rmse"]["values"] == [0.94, 0.95, 0.96]
    assert first["on_front"] is False
    assert document["baselines"] == BASELINES


def test_seeds_are_in_the_order_of_training_past_the_largest_too() -> None:
    study = record(FRONT[:1])
    last = 2**31 - 1
    held = {0: Judged({"rmse": 0.93, "top_100": 0.2}), last: Judged({"rmse": 0.91, "top_100": 0.2})}
    study = replace(study, configs={0: {"seed": last}}, judged={0: held}, test_baselines=BASELINES)
    (member,) = front_on_test(study).members
    assert (member.seeds, member.test["rmse"].values) == ((last, 0), (0.91, 0.93))
    assert front_on_test(study, seeds=1).members[0].seeds == (last,)


values = st.lists(
    st.tuples(st.sampled_from([0.9, 0.91, 0.92, 0.93]), st.sampled_from([0.1, 0.2, 0.3])), min_size=1, max_size=8
)


@given(values)
def test_on_front_is_what_brute_force_says(reached: list[tuple[float, float]]) -> None:
    """On validation none dominates another; on test anything may be."""
    rows = [row(number, 0.9 + number / 100, 0.1 + number / 100) for number in range(len(reached))]
    found = front_on_test(judged({number: [each] for number, each in enumerate(reached)}, rows))
    for member, (rmse, top) in zip(found.members, reached, strict=True):
        better = [
            number
            for number, (a, b) in enumerate(reached)
            if a <= rmse and b >= top and (a < rmse or b > top)
        ]  # fmt: skip
        assert list(member.dominated_by) == better
        assert member.on_front == (not better)


def test_the_table_holds_in_eighty_columns() -> None:
    text = shown(front_on_test(judged()))
    (line,) = [line for line in text.splitlines() if line.startswith(" trial 0")]
    rmse, top = "0.9500 ±0.0248 0.9000 +0.0500", "0.1900 ±0.0000 0.2000 +0.0100"
    assert line.split() == f"trial 0 ✗ {rmse} {top}".split()
    (knee,) = [line for line in text.splitlines() if "◆" in line and line.startswith(" trial")]
    assert knee.startswith(f" trial {judged().knee.trial} ◆")  # type: ignore[union-attr]
    assert any(line.split() == ["biases", "0.9420", "0.1830"] for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 80


def test_an_interrupted_report_says_how_far_it_came() -> None:
    part = {**REACHED, 1: REACHED[1][:2]}
    assert "the front on test, 2 to 3 seeds each" in shown(front_on_test(judged(part)))
    assert "with 2 to 3 seeds;" in page(judged(part))
    assert "the front on test, 3 seeds each" in shown(front_on_test(judged()))


def test_the_page_has_it_where_it_was_made() -> None:
    text = page(judged())
    assert "The front on test" in text
    assert "0.9252\u00a0to\u00a00.9748" in text
    assert "falls off behind trial 1" in text
    assert "The front on test" not in page(record(FRONT))
    assert on_test(record(FRONT)) == ""


def test_hostile_text_stays_text() -> None:
    study = judged()
    attacked = replace(
        study,
        name=HOSTILE,
        test_baselines={**BASELINES, HOSTILE: BASELINES["chance"]},
        judged={**study.judged, 2: {7: Judged({}, HOSTILE)}},
    )
    assert "<img" not in on_test(attacked)
    assert "[red]x[/red]" in shown(front_on_test(attacked), width=400)


def test_plotted_carries_the_report() -> None:
    assert plotted(record(FRONT))["report"] is None
    assert plotted(judged())["report"] == on_test_json(front_on_test(judged()))
    assert not math.isnan(plotted(judged())["report"]["front"][0]["optimism"]["rmse"])


def of_any(number: int, seeds: int = 3, members: int = 3) -> StudyRecord:
    """The realistic study; of a member's seeds the k-th is k hundredths of a unit higher than on validation."""
    study = realistic(objectives=OBJECTIVES[number])
    reached = {
        each.trial: {
            7 + place: Judged(
                {key: value + place / 100 for key, value in zip(OBJECTIVES[number], each.values, strict=True)}
            )
            for place in range(seeds)
        }
        for each in study.front[:members]
    }
    configs = {each.trial: {"seed": 7} for each in study.rows}
    return replace(study, configs=configs, judged=reached, test_baselines=study.baselines)


@pytest.mark.parametrize("number", OBJECTIVES)
def test_optimism_of_each_objective_is_in_json_words_table_and_page(number: int) -> None:
    """The mean of 0, 1 and 2 hundredths is one hundredth, for the worse where lower is better; none falls off."""
    study = of_any(number)
    found = front_on_test(study)
    parsed = json.loads(json.dumps(on_test_json(found)))
    assert parsed["objectives"] == list(OBJECTIVES[number])
    said = lines(study)
    table, section = shown(found), on_test(study)
    assert max(map(len, table.splitlines())) <= 80
    for metric in study.objectives:
        assert [each["optimism"][metric.key] for each in parsed["front"]] == pytest.approx(
            [metric.sign / 100] * len(parsed["front"])
        )
        assert any(line.startswith(f"Optimism of {metric.label}: {metric.sign / 100:.4g}") for line in said)
        assert metric.label.split()[0] in table
    for member in found.members:
        assert member.on_front and not member.dominated_by
        for value in member.row.values:
            assert f"{value + 0.01:.4f} ±0.0248" in table
            assert f"{value + 0.01:.4f}" in section
    for name in study.baselines:
        assert f" {name}" in table


@given(st.data())
def test_on_front_is_what_brute_force_says_in_any_number(data: st.DataObject) -> None:
    number = data.draw(st.sampled_from([1, 3, 4]))
    count = data.draw(st.integers(1, 6))
    # On validation no member dominates another: of one objective they are equal, of more one is a trade for another.
    rows = [
        row(n, 0.9) if number == 1 else row(n, *[0.9 + n / 100, 0.1 + n / 100, 0.5, 0.5][:number]) for n in range(count)
    ]
    reached = [tuple(data.draw(st.sampled_from([0.1, 0.2, 0.3])) for _ in range(number)) for _ in range(count)]
    study = record(rows, OBJECTIVES[number])
    judged_ = {n: {0: Judged(dict(zip(OBJECTIVES[number], values, strict=True)))} for n, values in enumerate(reached)}
    found = front_on_test(replace(study, judged=judged_))
    losses = [[sign * value for sign, value in zip(study.signs, values, strict=True)] for values in reached]
    for member in found.members:
        mine = losses[member.row.trial]
        better = [n for n, other in enumerate(losses) if other != mine and all(map(le, other, mine))]
        assert sorted(member.dominated_by) == better


def test_of_one_objective_in_words() -> None:
    """Two trials that are as good on validation; on test trial 1 is better than trial 0."""
    rows = [row(0, 0.9), row(1, 0.9), row(2, 1.1)]
    study = record(rows, ["rmse"], configs={n: {"seed": 7} for n in range(3)}, test_baselines=BASELINES)
    reached = {n: {7 + k: Judged({"rmse": value + k / 1000}) for k in range(2)} for n, value in enumerate((0.96, 0.91))}
    two = replace(study, judged=reached)
    assert lines(two) == [
        "Of the 2 trials that are best on validation 1 is best on test.",
        "Trial 0 falls behind: trial 1 is better on test.",
        "Optimism of RMSE: 0.0355 stars on average, from 0.0105 stars to 0.0605 stars: validation was too good.",
        "Trial 0, best RMSE on validation: test RMSE 0.9605 stars: does not beat biases (0.942 stars).",
    ]
    table = " ".join(shown(front_on_test(two)).split())
    assert "ml-100k: the best trials on test, 2 seeds each" in table
    assert "✗ not the best on test" in table
    assert "The best trials on test" in on_test(two)
    one = replace(study, rows=(rows[0], rows[2]), judged={0: reached[0]})
    assert lines(one) == [
        "Optimism of RMSE: 0.0605 stars: validation was too good.",
        "Trial 0, best RMSE on validation: test RMSE 0.9605 stars: does not beat biases (0.942 stars).",
    ]
    table = " ".join(shown(front_on_test(one)).split())
    assert "ml-100k: the best trial on test, 2 seeds RMSE" in table
    assert not [mark for mark in "◆✗" if mark in table]
    assert "knee" not in on_test(one)
