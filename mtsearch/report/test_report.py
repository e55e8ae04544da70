"""The front on the test rows, as data, sentences, a table for the terminal and a section of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from statistics import fmean
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from mtsearch.evaluation.baselines import compare_with_best
from mtsearch.evaluation.confidence import Interval, intervals
from mtsearch.metrics import Metric
from mtsearch.report.html import Html, row, section, table, tag
from mtsearch.report.tables import as_text, bare_table, four_decimals, heading
from mtsearch.search.pareto import FrontRow, dominates
from mtsearch.text import amount, count, front_name, plain, trials

if TYPE_CHECKING:
    from mtsearch.search.results import StudyResults


@dataclass(frozen=True)
class TestedTrial:
    """A trial of the front that was trained on training and validation rows, and evaluated on test.

    Attributes:
        row: the trial, with its validation metrics.
        seeds: seeds of its trainings; of models of several members that of each model's first.
        test: interval of each metric over the seeds; empty if a training failed.
        failures: reason of each failed training, by seed.
        optimism: for each objective, how much worse the test mean is than the validation value; above 0, validation was
            too good.
        dominated_by: members whose test means are no worse in every objective and better in one.
        alike: members that cannot be told apart from it: in every objective the mean of each lies within the interval
            of the other; empty with a single seed.
    """

    row: FrontRow
    seeds: tuple[int, ...]
    test: Mapping[str, Interval]
    failures: Mapping[int, str]
    optimism: Mapping[str, float]
    dominated_by: tuple[int, ...] = ()
    alike: tuple[int, ...] = ()

    @property
    def on_front(self) -> bool:
        """True if the trial was tested, and no other trial's means on test dominate its means."""
        return bool(self.test) and not self.dominated_by


@dataclass(frozen=True)
class TestReport:
    """Results of a study's front on its test rows.

    Attributes:
        study: the study's name.
        objectives: metrics of its objectives.
        members: the trials of the front that were tested, in the order of the front.
        untested: numbers of the other trials of the front.
        knee: the knee's number; None without a front.
        baselines: what needs no search, learnt from the same rows, on the test rows.
        was_validated_on_test: the study chose on these very rows, so that nothing was held out from it.
        members_of_model: number of trainings that make a model, whose predictions and scores are their means.
    """

    study: str
    objectives: tuple[Metric, ...]
    members: tuple[TestedTrial, ...]
    untested: tuple[int, ...]
    knee: int | None
    baselines: Mapping[str, Mapping[str, float]]
    was_validated_on_test: bool
    members_of_model: int = 1

    @property
    def seeds(self) -> int:
        """Largest number of models of a trial; 0 before a report."""
        return max((len(member.seeds) for member in self.members), default=0)


def make_test_report(results: StudyResults, seeds: int | None = None, members: int | None = None) -> TestReport:
    """Return the test report of a study.

    Args:
        results: results of the study.
        seeds: number of models of each trial, those of the first seeds; None for all.
        members: number of members of the models; None for the largest that was tested.
    """
    members = results.tested_members if members is None else members
    found = (_tested_trial(results, row, seeds, members) for row in results.front)
    tested = [trial for trial in found if trial.seeds]
    numbers = {member.row.trial for member in tested}
    return TestReport(
        study=results.name,
        objectives=results.objectives,
        members=tuple(_compared_with_others(member, tested, results) for member in tested),
        untested=tuple(row.trial for row in results.front if row.trial not in numbers),
        knee=results.knee.trial if results.knee else None,
        baselines=results.test_baselines,
        was_validated_on_test=results.definition.get("split", {}).get("validation") == "test",
        members_of_model=members,
    )


def report_json(found: TestReport) -> dict[str, Any]:
    """Return a test report as plain values for JSON; `front` has an entry per tested trial."""
    return {
        "study": found.study,
        "objectives": [metric.key for metric in found.objectives],
        "seeds": found.seeds,
        "members": found.members_of_model,
        "front": [
            {
                "trial": member.row.trial,
                "params": dict(member.row.params),
                "seeds": list(member.seeds),
                "validation": dict(member.row.metrics),
                "test": {key: asdict(interval) for key, interval in member.test.items()},
                "optimism": dict(member.optimism),
                "on_front": member.on_front,
                "dominated_by": list(member.dominated_by),
                "alike": list(member.alike),
                "failures": {str(seed): reason for seed, reason in member.failures.items()},
            }
            for member in found.members
        ],
        "unjudged": list(found.untested),
        "baselines": {name: dict(metrics) for name, metrics in found.baselines.items()},
    }


def _tested_trial(results: StudyResults, row: FrontRow, seeds: int | None, members: int) -> TestedTrial:
    """Return a trial with its test results: intervals over the seeds, failures and optimism."""
    tested = results.tested(members).get(row.trial, {})
    first = int(results.configs.get(row.trial, {}).get("seed", 0))
    # The trial's own seed and the seeds after it, in that order; after the largest seed comes 0.
    numbers = sorted(tested, key=lambda seed: (seed - first) % 2**31)
    numbers = [seed for seed in numbers if seeds is None or (seed - first) % 2**31 < seeds * members]
    failures = {seed: tested[seed].failure for seed in numbers if tested[seed].failure}
    test = intervals([tested[seed].metrics for seed in numbers]) if numbers and not failures else {}
    optimism = {
        metric.key: metric.sign * (test[metric.key].mean - value)
        for metric, value in zip(results.objectives, row.values, strict=True)
        if test
    }
    return TestedTrial(row, tuple(numbers), test, failures, optimism)


def _compared_with_others(member: TestedTrial, members: Sequence[TestedTrial], results: StudyResults) -> TestedTrial:
    """Return a tested trial with the trials that dominate it or cannot be told apart from it."""
    if not member.test:
        return member
    others = [other for other in members if other.test and other.row.trial != member.row.trial]
    point = _means(member, results.objectives)
    better = [other for other in others if dominates(_means(other, results.objectives), point, results.signs)]
    alike = [other for other in others if _is_alike(member, other, results.objectives)]
    return replace(
        member,
        dominated_by=tuple(other.row.trial for other in better),
        alike=tuple(other.row.trial for other in alike),
    )


def _means(member: TestedTrial, objectives: tuple[Metric, ...]) -> FrontRow:
    return FrontRow(member.row.trial, tuple(member.test[metric.key].mean for metric in objectives), {}, {})


def _is_alike(member: TestedTrial, other: TestedTrial, objectives: tuple[Metric, ...]) -> bool:
    """Tell whether two trials cannot be told apart: each one's means lie in the other's intervals."""
    if min(len(member.seeds), len(other.seeds)) < 2:
        return False
    pairs = [(member.test[metric.key], other.test[metric.key]) for metric in objectives]
    return all(a.low <= b.mean <= a.high and b.low <= a.mean <= b.high for a, b in pairs)


_PAIRS = 6
"""Number of pairs that cannot be told apart that are named; JSON has all."""


def report_verdict(found: TestReport) -> Iterator[str]:
    """Yield sentences that sum up a test report; none if no trial was trained."""
    tested = [member for member in found.members if member.test]
    if tested:
        yield from _verdict_on_tested(found, tested)
    yield from (_failed(found, member) for member in found.members if member.failures)
    if found.members and found.was_validated_on_test:
        yield "This study validates on its test rows, so its front was chosen on them."
    if found.members and found.untested:
        yield f"Not tested yet: {trials(found.untested)}."


def _verdict_on_tested(found: TestReport, tested: Sequence[TestedTrial]) -> Iterator[str]:
    yield from _staying(found, tested)
    yield from (_fallen(found, member) for member in tested if member.dominated_by)
    if pairs := _pairs(tested):
        yield f"With these seeds there is no clear difference between: {_shortly(pairs)}."
    for metric in found.objectives:
        yield _optimism_sentence(metric, tested)
    yield from _against_baselines(found, tested)


def _staying(found: TestReport, tested: Sequence[TestedTrial]) -> Iterator[str]:
    """Yield a sentence on the number of trials that stay on the front on test."""
    staying = sum(member.on_front for member in tested)
    if len(found.objectives) == 1:
        # A single best trial has no other trial to fall behind.
        if len(tested) > 1:
            yield f"Of the {len(tested)} trials that are best on validation, {staying} {_is(staying)} best on test."
    elif staying == len(tested):
        yield f"On test all members of the front stay on it: {count(staying, 'trial')}."
    else:
        yield f"On test {staying} of the {len(tested)} members of the front stay on it."


def _fallen(found: TestReport, member: TestedTrial) -> str:
    others, verb = trials(member.dominated_by), _is(len(member.dominated_by))
    apart = set(member.dominated_by) - set(member.alike)
    doubt = "" if apart or len(member.seeds) < 2 else ", but within the intervals"
    what = "leaves the front" if len(found.objectives) > 1 else "falls behind"
    return f"Trial {member.row.trial} {what}: {others} {verb} better on test{doubt}."


def _is(amount: int) -> str:
    return "is" if amount == 1 else "are"


def _failed(found: TestReport, member: TestedTrial) -> str:
    seed, reason = next(iter(member.failures.items()))
    what = "training with" if found.members_of_model == 1 else f"model of {found.members_of_model} members from"
    return f"Trial {member.row.trial} could not be tested: its {what} seed {seed} failed ({plain(reason)})."


def _pairs(tested: Sequence[TestedTrial]) -> list[str]:
    numbers = [member.row.trial for member in tested]
    return [
        trials([member.row.trial, other])
        for place, member in enumerate(tested)
        for other in member.alike
        if other in numbers[place:]
    ]


def _shortly(pairs: Sequence[str]) -> str:
    more = [f"{count(len(pairs) - _PAIRS, 'further pair')}"] if len(pairs) > _PAIRS else []
    return "; ".join([*pairs[:_PAIRS], *more])


def _optimism_sentence(metric: Metric, tested: Sequence[TestedTrial]) -> str:
    values = [member.optimism[metric.key] for member in tested]
    mean = fmean(values)
    span = f"from {amount(min(values), metric)} to {amount(max(values), metric)}" if len(values) > 1 else ""
    if min(values) > 0:
        said = "validation was too good"
    elif max(values) > 0:
        said = "validation was too good for some"
    else:
        said = "test is no worse, after training on more rows"
    if all(_within(member, metric) for member in tested if member.optimism[metric.key] > 0) and max(values) > 0:
        said += ", but within the intervals"
    shown = f"Optimism of {metric.label}: {amount(mean, metric)}"
    return f"{shown} on average, {span}: {said}." if span else f"{shown}: {said}."


def _within(member: TestedTrial, metric: Metric) -> bool:
    """Tell whether the validation value lies in the interval of the test values over several seeds."""
    found = member.test[metric.key]
    validation = found.mean - metric.sign * member.optimism[metric.key]
    return len(member.seeds) > 1 and found.low <= validation <= found.high


def _against_baselines(found: TestReport, tested: Sequence[TestedTrial]) -> Iterator[str]:
    """Yield, per objective, a comparison of the best trial on validation with the baselines on test."""
    for index, metric in enumerate(found.objectives):
        best = min(tested, key=lambda member: metric.sign * member.row.values[index])
        said = compare_with_best(metric, best.test[metric.key].mean, found.baselines)
        yield f"Trial {best.row.trial}, best {metric.label} on validation: {said}."


_OPTIMISM = "optimism: how much worse test is than validation; above 0, validation was too good"


def report_table(found: TestReport) -> Table:
    """Return a table of the trials and the baselines on test; 80 columns hold it."""
    several = len(found.objectives) > 1
    shown = bare_table(
        f"{plain(found.study)}: {_front(found)} on test, {_seeds_text(found)}{'' if _is_one(found) else ' each'}"
    )
    marks = ["◆ knee", "✗ off the front on test"] if several else ["✗ not the best on test"]
    over = "seeds" if found.members_of_model == 1 else "models"
    legend = [*marks, f"±: half of the 95 % interval of the mean over {over}", _OPTIMISM]
    shown.caption = as_text(" · ".join(legend[1:] if _is_one(found) else legend))
    shown.caption_justify = "left"
    shown.add_column("", no_wrap=True)
    if len(found.objectives) <= 2:
        _fill_in_columns(shown, found)
    else:
        _fill_in_lines(shown, found)
    return shown


def _fill_in_columns(shown: Table, found: TestReport) -> None:
    """Add the rows to a table with the objectives next to each other."""
    for metric in found.objectives:
        shown.add_column(Text(f"{heading(metric)}\non test"), overflow="fold")
        shown.add_column(Text("valid-\nation"), justify="right")
        shown.add_column(Text("opti-\nmism"), justify="right")
    for member in found.members:
        last = member is found.members[-1]
        cells = [_marked(found, member), *_cells(found, member, _with_half)]
        shown.add_row(*map(as_text, cells), end_section=last, style="bold" if _is_knee(found, member) else None)
    for name, values in found.baselines.items():
        cells = [text for metric in found.objectives for text in (four_decimals(values.get(metric.key, nan)), "", "")]
        shown.add_row(*map(as_text, [name, *cells]))


def _fill_in_lines(shown: Table, found: TestReport) -> None:
    """Add the rows to a table with the objectives below each other, which fits three or more in a terminal."""
    shown.add_column("", overflow="fold")
    shown.add_column(Text("on test"))
    shown.add_column(Text("validation"), justify="right")
    shown.add_column(Text("optimism"), justify="right")
    for member in found.members:
        cells, style = _cells(found, member, _with_half), "bold" if _is_knee(found, member) else None
        for index, metric in enumerate(found.objectives):
            line = ["" if index else _marked(found, member), heading(metric), *cells[3 * index : 3 * index + 3]]
            shown.add_row(*map(as_text, line), style=style, end_section=metric is found.objectives[-1])
    for name, values in found.baselines.items():
        for index, metric in enumerate(found.objectives):
            line = ["" if index else name, heading(metric), four_decimals(values.get(metric.key, nan)), "", ""]
            shown.add_row(*map(as_text, line), end_section=metric is found.objectives[-1])


def report_section(results: StudyResults) -> Html:
    """Return the page's section on the test rows; empty before a report."""
    found = make_test_report(results)
    if not found.members:
        return Html()
    headings = [""]
    for metric in found.objectives:
        headings += [f"{heading(metric)} on test", "95 % interval", "validation", "optimism"]
    rows = [_member_row(found, member) for member in found.members]
    rows += [_baseline_row(found, name) for name in found.baselines]
    said = tag("ul", *(tag("li", line) for line in report_verdict(found)))
    trained = "It was trained" if _is_one(found) else "Each trial was trained"
    about = f"{trained} again on training and validation rows with {_seeds_text(found)}; {_OPTIMISM}."
    title = f"{_front(found).capitalize()} on test"
    return section(title, tag("p", about, class_="hint"), table([*headings, ""], rows), said, id_="test")


def _member_row(found: TestReport, member: TestedTrial) -> Html:
    cells = _cells(found, member, _with_ends)
    return row(f"trial {member.row.trial}", [*cells, _note(found, member)], "knee" if _is_knee(found, member) else "")


def _baseline_row(found: TestReport, name: str) -> Html:
    values = found.baselines[name]
    cells = [text for metric in found.objectives for text in (four_decimals(values.get(metric.key, nan)), "", "", "")]
    return row(plain(name), [*cells, ""], "baseline")


def _cells(found: TestReport, member: TestedTrial, shown: Callable[[Interval | None], list[str]]) -> list[str]:
    """Return, per objective, the cells that `shown` makes of the test interval, then validation and optimism."""
    cells: list[str] = []
    for metric, validation in zip(found.objectives, member.row.values, strict=True):
        optimism = f"{member.optimism[metric.key]:+.4f}" if member.test else ""
        cells += [*shown(member.test.get(metric.key)), four_decimals(validation), optimism]
    return cells


def _with_half(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["failed"]
    half = f" ±{four_decimals(interval.high - interval.mean)}" if len(interval.values) > 1 else ""
    return [four_decimals(interval.mean) + half]


def _with_ends(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["failed", ""]
    several = len(interval.values) > 1
    return [
        four_decimals(interval.mean),
        f"{four_decimals(interval.low)}\u00a0to\u00a0{four_decimals(interval.high)}" if several else "",
    ]


def _seeds_text(found: TestReport) -> str:
    """Return the number of seeds, such as `5 seeds`, or `4 to 5 seeds` if a report was interrupted.

    Of models of several members it is the number of models, such as `5 models of 3 members`.
    """
    fewest = min((len(member.seeds) for member in found.members), default=0)
    members = found.members_of_model
    most = count(found.seeds, "seed") if members == 1 else f"{count(found.seeds, 'model')} of {members} members"
    return most if fewest == found.seeds else f"{fewest} to {most}"


def _front(found: TestReport) -> str:
    return front_name(found.objectives, len(found.members))


def _is_one(found: TestReport) -> bool:
    """Tell whether the report is about one trial of one objective, with which no other trial can be compared."""
    return len(found.objectives) == 1 and len(found.members) <= 1


def _is_knee(found: TestReport, member: TestedTrial) -> bool:
    """Tell whether a trial is the knee of several objectives; with one objective no trial is marked."""
    return member.row.trial == found.knee and len(found.objectives) > 1


def _marked(found: TestReport, member: TestedTrial) -> str:
    marks = [" ◆"] if _is_knee(found, member) else []
    marks += [" ✗"] if member.test and not member.on_front else []
    return f"trial {member.row.trial}{''.join(marks)}"


def _note(found: TestReport, member: TestedTrial) -> str:
    notes = ["knee"] if _is_knee(found, member) else []
    what = "dominated by" if len(found.objectives) > 1 else "worse than"
    notes += [f"{what} {trials(member.dominated_by)}"] if member.dominated_by else []
    notes += [f"no clear difference from {trials(member.alike)}"] if member.alike else []
    return ", ".join(notes)
