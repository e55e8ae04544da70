"""Tests of the test report: which trials stay on the front, intervals, optimism; as data, words and tables."""

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

from mtsearch.report.page import page
from mtsearch.report.plot_data import plot_json

# pytest would take a name that begins with test for a test, so the functions get other names here.
from mtsearch.report.test_report import (
    TestReport,
    make_test_report,
    report_json,
    report_section,
    report_table,
    report_verdict,
)
from mtsearch.search.attributes import TestResult
from mtsearch.search.results import StudyResults
from tests.helpers.results import BASELINES, HOSTILE, OBJECTIVES, realistic, results, row

pytestmark = pytest.mark.quick

Reached = Mapping[int, Sequence[tuple[float, float]]]

FRONT = (row(0, 0.90, 0.20), row(1, 0.92, 0.25), row(2, 0.95, 0.30))
REACHED: Reached = {
    0: [(0.940, 0.19), (0.950, 0.19), (0.960, 0.19)],
    1: [(0.930, 0.24), (0.935, 0.24), (0.940, 0.24)],
    2: [(0.955, 0.31), (0.960, 0.30), (0.965, 0.32)],
}


def evaluated(reached: Reached = REACHED, rows: Sequence[object] = FRONT, **changes: object) -> StudyResults:
    """Return a study whose trials were tested with seed 7 and the seeds after it."""
    study = results(rows)  # type: ignore[arg-type]
    return replace(
        study,
        configs={each.trial: {"seed": 7} for each in study.rows},
        test_results={
            trial: {7 + place: TestResult({"rmse": a, "top_100": b}) for place, (a, b) in enumerate(values)}
            for trial, values in reached.items()
        },
        test_baselines=BASELINES,
        **changes,  # type: ignore[arg-type]
    )


def lines(study: StudyResults) -> list[str]:
    return list(report_verdict(make_test_report(study)))


def shown(found: TestReport, width: int = 80) -> str:
    Console(width=width, file=(file := io.StringIO())).print(report_table(found))
    return file.getvalue()


def test_means_intervals_and_optimism_by_hand() -> None:
    """Check trial 0, RMSE 0.94, 0.95, 0.96: s = 0.01, t(2) = 4.3027, half = t * s / sqrt(3) = 0.024841."""
    first, second, third = make_test_report(evaluated()).members
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
    first, second, third = make_test_report(evaluated(wide)).members
    assert (first.alike, second.alike, third.alike) == ((1,), (0,), ())
    one_seed = {trial: values[:1] for trial, values in wide.items()}
    assert all(member.alike == () for member in make_test_report(evaluated(one_seed)).members)


def test_in_words() -> None:
    assert lines(evaluated()) == [
        "On test 2 of the 3 members of the front stay on it.",
        "Trial 0 leaves the front: trial 1 is better on test.",
        "Optimism of RMSE: 0.025 stars on average, from 0.01 stars to 0.05 stars: validation was too good.",
        "Optimism of top-100 accuracy: 0.003333 on average, from -0.01 to 0.01: validation was too good for some.",
        "Trial 0, best RMSE on validation: test RMSE 0.95 stars: does not beat biases (0.942 stars).",
        "Trial 2, best top-100 accuracy on validation: test top-100 accuracy 0.31: beats popularity (0.295).",
    ]


def test_an_optimism_that_the_seeds_do_not_show_is_said_to_be_doubtful() -> None:
    """Name the intervals for trial 1, whose validation value 0.92 lies between its test values."""
    said = lines(evaluated({1: [(0.90, 0.25), (0.96, 0.25)]}))
    (rmse,) = [line for line in said if line.startswith("Optimism of RMSE")]
    assert rmse.endswith(": validation was too good, but within the intervals.")
    sure = lines(evaluated({1: [(0.9601, 0.25), (0.96, 0.25)]}))
    assert not any("intervals" in line for line in sure if line.startswith("Optimism of RMSE"))


def test_in_words_when_it_is_less_clear() -> None:
    near: Reached = {0: [(0.93, 0.21), (0.95, 0.23)], 1: [(0.92, 0.22), (0.94, 0.24)]}
    said = lines(evaluated(near))
    assert said[1] == "Trial 0 leaves the front: trial 1 is better on test, but within the intervals."
    assert said[2] == "With these seeds there is no clear difference between: trials 0 and 1."
    assert said[-1] == "Not tested yet: trial 2."
    kind = lines(evaluated({2: [(0.95, 0.35)]}))
    assert kind[0] == "On test all members of the front stay on it: 1 trial."
    assert kind[2] == "Optimism of top-100 accuracy: -0.05: test is no worse, after training on more rows."
    assert lines(results(FRONT)) == []
    onto = evaluated(definition={"study": {"objectives": ["rmse", "top_100"]}, "split": {"validation": "test"}})
    assert "chosen on them" in lines(onto)[-1]


def test_a_member_with_a_failed_training_is_not_tested_on_the_other_seeds() -> None:
    study = evaluated()
    failed = {**study.test_results[1], 8: TestResult({}, "non-finite loss")}
    broken = replace(study, test_results={**study.test_results, 1: failed})
    found = make_test_report(broken)
    assert (dict(found.members[1].test), found.members[1].on_front) == ({}, False)
    assert found.members[0].on_front  # nothing is left that dominates it
    assert "Trial 1 could not be tested: its training with seed 8 failed (non-finite loss)." in lines(broken)
    assert "failed" in shown(found)
    assert make_test_report(broken, seeds=1).members[1].test  # its first seed did not fail


def test_json_is_the_contract() -> None:
    text = json.dumps(report_json(make_test_report(evaluated())), allow_nan=False)
    document = json.loads(text)
    assert list(document) == ["study", "objectives", "seeds", "members", "front", "unjudged", "baselines"]
    assert (document["seeds"], document["members"], document["objectives"]) == (3, 1, ["rmse", "top_100"])
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


def of_members(study: StudyResults, members: int) -> StudyResults:
    """Return the study whose models of several members reached 0.1 less RMSE, each from the seed after another's."""
    reached = {
        trial: {
            7 + members * place: TestResult({**each.metrics, "rmse": each.metrics["rmse"] - 0.1})
            for place, each in enumerate(tested.values())
        }
        for trial, tested in study.test_results.items()
    }
    return replace(study, member_results={members: reached})


def test_models_of_several_members_have_a_report_of_their_own() -> None:
    study = of_members(evaluated(), 4)
    single, several = (make_test_report(study, members=members) for members in (1, 4))
    assert single == make_test_report(evaluated())
    for one, four in zip(single.members, several.members, strict=True):
        assert four.seeds == (7, 11, 15)[: len(one.seeds)]
        assert four.test["rmse"].mean == pytest.approx(one.test["rmse"].mean - 0.1)
    assert make_test_report(study, seeds=2, members=4).members[0].seeds == (7, 11)
    assert make_test_report(study) == several  # the page shows the models of the most members
    assert report_json(several)["members"] == 4
    assert not make_test_report(study, members=5).members
    table = " ".join(shown(several).split())
    assert "3 models of 4 members each" in table and "mean over models" in table
    failed = replace(study, member_results={4: {0: {7: TestResult({}, "non-finite loss")}}})
    (said,) = [line for line in report_verdict(make_test_report(failed, members=4)) if "could not be tested" in line]
    assert "its model of 4 members from seed 7 failed" in said
    assert make_test_report(failed) == single  # a part of the front does not hide the report of all of it


def test_seeds_are_in_the_order_of_training_past_the_largest_too() -> None:
    study = results(FRONT[:1])
    last = 2**31 - 1
    held = {0: TestResult({"rmse": 0.93, "top_100": 0.2}), last: TestResult({"rmse": 0.91, "top_100": 0.2})}
    study = replace(study, configs={0: {"seed": last}}, test_results={0: held}, test_baselines=BASELINES)
    (member,) = make_test_report(study).members
    assert (member.seeds, member.test["rmse"].values) == ((last, 0), (0.91, 0.93))
    assert make_test_report(study, seeds=1).members[0].seeds == (last,)


values = st.lists(
    st.tuples(st.sampled_from([0.9, 0.91, 0.92, 0.93]), st.sampled_from([0.1, 0.2, 0.3])), min_size=1, max_size=8
)


@given(values)
def test_on_front_is_what_brute_force_says(reached: list[tuple[float, float]]) -> None:
    """Compare with brute force; on validation no trial dominates another, on test any may."""
    rows = [row(number, 0.9 + number / 100, 0.1 + number / 100) for number in range(len(reached))]
    found = make_test_report(evaluated({number: [each] for number, each in enumerate(reached)}, rows))
    for member, (rmse, top) in zip(found.members, reached, strict=True):
        better = [
            number
            for number, (a, b) in enumerate(reached)
            if a <= rmse and b >= top and (a < rmse or b > top)
        ]  # fmt: skip
        assert list(member.dominated_by) == better
        assert member.on_front == (not better)


def test_the_table_holds_in_eighty_columns() -> None:
    text = shown(make_test_report(evaluated()))
    (line,) = [line for line in text.splitlines() if line.startswith(" trial 0")]
    rmse, top = "0.9500 ±0.0248 0.9000 +0.0500", "0.1900 ±0.0000 0.2000 +0.0100"
    assert line.split() == f"trial 0 ✗ {rmse} {top}".split()
    (knee,) = [line for line in text.splitlines() if "◆" in line and line.startswith(" trial")]
    assert knee.startswith(f" trial {evaluated().knee.trial} ◆")  # type: ignore[union-attr]
    assert any(line.split() == ["biases", "0.9420", "0.1830"] for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 80


def test_an_interrupted_report_says_how_far_it_came() -> None:
    part = {**REACHED, 1: REACHED[1][:2]}
    assert "the front on test, 2 to 3 seeds each" in shown(make_test_report(evaluated(part)))
    assert "with 2 to 3 seeds;" in page(evaluated(part))
    assert "the front on test, 3 seeds each" in shown(make_test_report(evaluated()))


def test_the_page_has_it_where_it_was_made() -> None:
    text = page(evaluated())
    assert "The front on test" in text
    assert "0.9252\u00a0to\u00a00.9748" in text
    assert "dominated by trial 1" in text
    assert "The front on test" not in page(results(FRONT))
    assert report_section(results(FRONT)) == ""


def test_hostile_text_stays_text() -> None:
    study = evaluated()
    attacked = replace(
        study,
        name=HOSTILE,
        test_baselines={**BASELINES, HOSTILE: BASELINES["chance"]},
        test_results={**study.test_results, 2: {7: TestResult({}, HOSTILE)}},
    )
    assert "<img" not in report_section(attacked)
    assert "[red]x[/red]" in shown(make_test_report(attacked), width=400)


def test_plot_json_carries_the_report() -> None:
    assert plot_json(results(FRONT))["report"] is None
    assert plot_json(evaluated())["report"] == report_json(make_test_report(evaluated()))
    assert not math.isnan(plot_json(evaluated())["report"]["front"][0]["optimism"]["rmse"])


def of_any(number: int, seeds: int = 3, members: int = 3) -> StudyResults:
    """The realistic study; of a member's seeds the k-th is k hundredths of a unit higher than on validation."""
    study = realistic(objectives=OBJECTIVES[number])
    reached = {
        each.trial: {
            7 + place: TestResult(
                {key: value + place / 100 for key, value in zip(OBJECTIVES[number], each.values, strict=True)}
            )
            for place in range(seeds)
        }
        for each in study.front[:members]
    }
    configs = {each.trial: {"seed": 7} for each in study.rows}
    return replace(study, configs=configs, test_results=reached, test_baselines=study.baselines)


@pytest.mark.parametrize("number", OBJECTIVES)
def test_optimism_of_each_objective_is_in_json_words_table_and_page(number: int) -> None:
    """The mean of 0, 1 and 2 hundredths is one hundredth, for the worse where lower is better; none falls off."""
    study = of_any(number)
    found = make_test_report(study)
    parsed = json.loads(json.dumps(report_json(found)))
    assert parsed["objectives"] == list(OBJECTIVES[number])
    said = lines(study)
    table, section = shown(found), report_section(study)
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
    study = results(rows, OBJECTIVES[number])
    judged_ = {
        n: {0: TestResult(dict(zip(OBJECTIVES[number], values, strict=True)))} for n, values in enumerate(reached)
    }
    found = make_test_report(replace(study, test_results=judged_))
    losses = [[sign * value for sign, value in zip(study.signs, values, strict=True)] for values in reached]
    for member in found.members:
        mine = losses[member.row.trial]
        better = [n for n, other in enumerate(losses) if other != mine and all(map(le, other, mine))]
        assert sorted(member.dominated_by) == better


def test_of_one_objective_in_words() -> None:
    """Two trials that are as good on validation; on test trial 1 is better than trial 0."""
    rows = [row(0, 0.9), row(1, 0.9), row(2, 1.1)]
    study = results(rows, ["rmse"], configs={n: {"seed": 7} for n in range(3)}, test_baselines=BASELINES)
    reached = {
        n: {7 + k: TestResult({"rmse": value + k / 1000}) for k in range(2)} for n, value in enumerate((0.96, 0.91))
    }
    two = replace(study, test_results=reached)
    assert lines(two) == [
        "Of the 2 trials that are best on validation, 1 is best on test.",
        "Trial 0 falls behind: trial 1 is better on test.",
        "Optimism of RMSE: 0.0355 stars on average, from 0.0105 stars to 0.0605 stars: validation was too good.",
        "Trial 0, best RMSE on validation: test RMSE 0.9605 stars: does not beat biases (0.942 stars).",
    ]
    table = " ".join(shown(make_test_report(two)).split())
    assert "ml-100k: the best trials on test, 2 seeds each" in table
    assert "✗ not the best on test" in table
    assert "The best trials on test" in report_section(two)
    one = replace(study, rows=(rows[0], rows[2]), test_results={0: reached[0]})
    assert lines(one) == [
        "Optimism of RMSE: 0.0605 stars: validation was too good.",
        "Trial 0, best RMSE on validation: test RMSE 0.9605 stars: does not beat biases (0.942 stars).",
    ]
    table = " ".join(shown(make_test_report(one)).split())
    assert "ml-100k: the best trial on test, 2 seeds RMSE" in table
    assert not [mark for mark in "◆✗" if mark in table]
    assert "knee" not in report_section(one)
