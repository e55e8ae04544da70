"""Comparison of studies, as data, a table and a page: fronts, hypervolumes and differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from rich.table import Table

from mtsearch.errors import StudyMismatch
from mtsearch.metrics import Metric
from mtsearch.report.front_plot import axis_range, baseline_lines, trials_axis
from mtsearch.report.html import Html, Source, document, figure_div, join, row, section, table, tag, write_document
from mtsearch.report.page import matrix_or_plot
from mtsearch.report.plot_data import Step, by_end, hypervolume_steps, improvements
from mtsearch.report.plot_style import (
    DASHES,
    GREEN,
    PALETTE,
    PLANE,
    SYMBOLS,
    Pair,
    axes_of,
    axis,
    layout,
    matrix_layout,
    pairs,
    rounded,
    text,
)
from mtsearch.report.tables import as_text, bare_table, best_trials, four_decimals, front_rows, heading
from mtsearch.search.pareto import FrontRow, dominates
from mtsearch.search.study import find_differences
from mtsearch.text import aims, axis_title, better, listing, number, plain, shorten, volume_format, volume_title

if TYPE_CHECKING:
    from mtsearch.search.results import StudyResults


@dataclass(frozen=True)
class ComparedStudy:
    """One study of a comparison, with its differences from the first study.

    Attributes:
        results: the study's results. If all studies have the same data and split, the baselines are those of the first
            study, so that all hypervolumes have the same reference.
        differences: lines such as `key: value of the first study -> value of this one`, by `definition` and `passport`
            (the provenance).
    """

    results: StudyResults
    differences: Mapping[str, Sequence[str]]

    @property
    def best(self) -> list[FrontRow]:
        """Best trial of the front for each objective; empty without a front."""
        return best_trials(self.results)

    @cached_property
    def progress(self) -> list[Step]:
        """Hypervolume after each trial."""
        return hypervolume_steps(self.results)


@dataclass(frozen=True)
class Comparison:
    """Two or more studies with the same objectives, to be compared with the first.

    Attributes:
        studies: the studies in the order in which the user named them.
        same_data: true if all have the data and the split of the first, so that their numbers can be compared.
    """

    studies: tuple[ComparedStudy, ...]
    same_data: bool

    @property
    def objectives(self) -> tuple[Metric, ...]:
        """Objectives, which are the same for all studies."""
        return self.studies[0].results.objectives

    @property
    def names(self) -> list[str]:
        """Names of the studies."""
        return [each.results.name for each in self.studies]

    @property
    def warning(self) -> str:
        """Reason why the numbers cannot be compared; empty if they can."""
        if self.same_data:
            return ""
        others = [
            each.results.name
            for each in self.studies[1:]
            if _data_of(each.results) != _data_of(self.studies[0].results)
        ]
        return (
            f"{listing(others)}: other data or another split than {self.names[0]}; each hypervolume is measured "
            "against its study's own baselines, and values on different rows cannot be compared"
        )

    def dominated(self, index: int, other: int) -> int | None:
        """Count the trials of one study's front that another study's front dominates; None if the data differ."""
        if not self.same_data:
            return None
        mine, theirs = self.studies[index].results, self.studies[other].results
        return sum(any(dominates(rival, row, mine.signs) for rival in theirs.front) for row in mine.front)


def compare_studies(all_results: Sequence[StudyResults]) -> Comparison:
    """Compare studies with the first of them.

    Raises:
        StudyMismatch: the studies have different objectives.
    """
    first = all_results[0]
    for results in all_results[1:]:
        if _objective_keys(results) != _objective_keys(first):
            problem = f"{first.name} optimises {_objectives_text(first)}, {results.name} {_objectives_text(results)}"
            raise StudyMismatch(problem, "compare studies of the same objectives")
    same = all(_data_of(results) == _data_of(first) for results in all_results)
    measured = [replace(results, baselines=first.baselines) for results in all_results] if same else all_results
    return Comparison(tuple(ComparedStudy(results, _differences(first, results)) for results in measured), same)


def comparison_json(compared: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values for JSON."""
    return {
        "objectives": [metric.key for metric in compared.objectives],
        "same_data": compared.same_data,
        "warning": compared.warning,
        "studies": [_study_json(compared, index) for index in range(len(compared.studies))],
    }


def _study_json(compared: Comparison, index: int) -> dict[str, Any]:
    """Return one study of the comparison as plain values for JSON."""
    each, names = compared.studies[index], compared.names
    keys = [metric.key for metric in compared.objectives]
    best = zip(keys, each.best, range(len(keys)), strict=False)
    others = [other for other in range(len(names)) if other != index]
    return {
        "study": each.results.name,
        "trials": each.results.counting,
        "hypervolume": each.results.hypervolume,
        "best": {key: {"trial": row.trial, "value": row.values[place]} for key, row, place in best},
        "front": front_rows(each.results),
        "dominated_by": {names[other]: compared.dominated(index, other) for other in others},
        "differences": {what: list(lines) for what, lines in each.differences.items()},
        "progress": [
            {"trial": step.trial, "hypervolume": step.volume, "minutes": step.minutes} for step in each.progress
        ],
    }


def _differences(first: StudyResults, other: StudyResults) -> dict[str, list[str]]:
    """Return the differences of definition and provenance between the first study and another."""
    pairs = {
        "definition": (_unnamed(first.definition), _unnamed(other.definition)),
        "passport": (first.provenance, other.provenance),
    }
    return {what: list(find_differences(stored, present)) for what, (stored, present) in pairs.items()}


def _unnamed(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition without the study's name, which always differs."""
    study = {key: value for key, value in definition.get("study", {}).items() if key != "name"}
    return {**definition, "study": study}


def _data_of(results: StudyResults) -> tuple[Any, ...]:
    """Return the fingerprints of the data and the split of a study."""
    return tuple(results.provenance.get(part, {}).get("fingerprint") for part in ("data", "split"))


def _objectives_text(results: StudyResults) -> str:
    return listing(_objective_keys(results))


def _objective_keys(results: StudyResults) -> list[str]:
    """Return the keys of a study's objectives, whose units may differ between data."""
    return [metric.key for metric in results.objectives]


def difference_rows(compared: Comparison) -> Iterable[tuple[str, str, str]]:
    """Yield each difference from the first study: the study, `definition` or `provenance`, and the text."""
    for each in compared.studies[1:]:
        for what, lines in each.differences.items():
            for line in lines:
                yield each.results.name, what, line


_SHOWN = 100  # greatest length of a shown difference, in characters


def comparison_table(compared: Comparison) -> Table:
    """Return a table for the terminal with a column per study and a line per number."""
    table = bare_table("Studies side by side")
    table.add_column("")
    for name in compared.names:
        table.add_column(as_text(name), justify="right", overflow="fold")
    for title, cells in comparison_lines(compared):
        table.add_row(as_text(title), *map(as_text, cells))
    return table


def comparison_lines(compared: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Yield the title of each line of the table and its cell for each study."""
    studies, several = compared.studies, len(compared.objectives) > 1
    yield "trials", [f"{each.results.counting:,}" for each in studies]
    if several:
        yield "on the front", [str(len(each.results.front)) for each in studies]
    # In three dimensions and more a share of a box is small.
    shown = four_decimals if len(compared.objectives) <= 2 else number
    yield "hypervolume\u00a0↑", [shown(each.results.hypervolume) for each in studies]
    for index, metric in enumerate(compared.objectives):
        yield (
            f"best {heading(metric)}",
            [four_decimals(each.best[index].values[index]) if each.best else "" for each in studies],
        )
    # With one objective the best value alone shows which study is better.
    for other, name in enumerate(compared.names if several else ()):
        counted = [compared.dominated(index, other) if index != other else None for index in range(len(studies))]
        yield f"dominated by {name}", [_or_empty(amount) for amount in counted]
    minutes = [
        max((step.minutes for step in each.progress if step.minutes is not None), default=None) for each in studies
    ]
    yield "minutes of trials", ["" if each is None else f"{each:.1f}" for each in minutes]


def difference_lines(compared: Comparison) -> Iterator[str]:
    """Yield a line of text for each difference from the first study."""
    for name, what, line in difference_rows(compared):
        yield f"{plain(name)}, {what}: {shorten(plain(line), _SHOWN)}"


def _or_empty(amount: int | None) -> str:
    return "" if amount is None else str(amount)


Style = tuple[str, str, str]

_NOTHING_TO_CLICK = '{"trials":[],"colours":[],"knee":null}'


def write_comparison(compared: Comparison, place: Path, plotlyjs: Source = "inline") -> Path:
    """Write the comparison as an HTML page, whole or not at all, and return its path; see `write_page`.

    Raises:
        MachineError: the page cannot be written.
    """
    return write_document(comparison_page(compared, plotlyjs), place)


def comparison_page(compared: Comparison, plotlyjs: Source = "inline") -> str:
    """Return the HTML page of the comparison; all text from users or files is escaped."""
    title = listing([plain(name) for name in compared.names])
    warning = tag("p", compared.warning, class_="verdict trouble") if compared.warning else Html()
    body = join((
        tag("header", tag("h1", title), tag("p", aims(compared.objectives))),
        warning,
        _fronts(compared),
        section("Side by side", _side_by_side(compared), id_="sides"),
        _progress_section(compared),
        _differences_section(compared),
    ))  # fmt: skip
    return document(title, body, _NOTHING_TO_CLICK, plotlyjs)


def fronts_figure(compared: Comparison) -> go.Figure:
    """Draw the fronts of all studies in one figure; each has its own colour, dashes and symbol.

    Two objectives are drawn as a plane, and three or more as a matrix with a panel per pair. A single objective is
    drawn as each study's best value so far over its trials.
    """
    draw = {1: _best_so_far, 2: _plane}.get(len(compared.objectives), _matrix)
    return draw(compared)


def _plane(compared: Comparison) -> go.Figure:
    traces = [_front_of_study(each, style, compared, PLANE) for each, style in _styled(compared)]
    titles = [text(axis_title(metric)) for metric in compared.objectives]
    x, y = (axis(title, range=_range_of(compared, index)) for index, title in enumerate(titles))
    return go.Figure(traces + _common_baselines(compared, PLANE), layout(x, y))


def _matrix(compared: Comparison) -> go.Figure:
    titles = ["<br>".join([text(metric.axis), better(metric)]) for metric in compared.objectives]
    drawn = go.Figure(layout=matrix_layout(titles, [_range_of(compared, index) for index in range(len(titles))]))
    for pair in pairs(len(titles)):
        x, y = axes_of(pair)
        fronts = [_front_of_study(each, style, compared, pair) for each, style in _styled(compared)]
        for trace in [*fronts, *_common_baselines(compared, pair)]:
            # Projected on two objectives, a front of three or more is no staircase, so no line is drawn.
            trace.update(mode="markers", legendgroup=trace.name, showlegend=pair == PLANE, xaxis=x, yaxis=y)
            drawn.add_trace(trace)
    return drawn


def _best_so_far(compared: Comparison) -> go.Figure:
    (metric,) = compared.objectives
    longest = max(len(each.results.rows) for each in compared.studies)
    traces = [_best_trace(each, style, compared) for each, style in _styled(compared)]
    shown = [value for trace in traces for value in trace.y]
    baselines = {name: value for name, (value,) in _baseline_points(compared).items()}
    traces += baseline_lines(baselines, metric, longest)
    x = trials_axis("complete trials, in the order of their ends", longest)
    y = axis(text(axis_title(metric)), range=list(axis_range(shown, [*shown, *baselines.values()])) if shown else None)
    return go.Figure(traces, layout(x, y, showlegend=True))


def _range_of(compared: Comparison, index: int) -> list[float] | None:
    """Return the range of an axis: it holds the knees of all studies, and no outlier squeezes the rest."""
    all_results = [each.results for each in compared.studies]
    points = [row.values[index] for results in all_results for row in results.front]
    knees = [results.knee.values[index] for results in all_results if results.knee]
    return list(axis_range(points, points, knees)) if points else None


def progress_figure(compared: Comparison, over: str) -> go.Figure:
    """Draw the hypervolume of each study over its trials or its time.

    Args:
        compared: the studies.
        over: `trials` or `minutes`.
    """
    volume = f"%{{y:{volume_format(compared.objectives)}}}"
    traces = [
        go.Scatter(
            x=_places(each.progress, over),
            y=rounded([step.volume for step in each.progress]),
            customdata=[step.trial for step in each.progress],
            name=text(each.results.name, 30),
            mode="lines",
            line={"shape": "hv", "color": color, "dash": dash, "width": 2},
            hovertemplate=f"after trial %{{customdata}}: {volume}<extra>{text(each.results.name, 30)}</extra>",
        )
        for each, (color, dash, _) in _styled(compared)
    ]
    title = {
        "trials": "complete trials, in the order of their ends",
        "minutes": "wall clock while trials ran (minutes)",
    }
    x = axis(title[over], rangemode="tozero")
    return go.Figure(traces, layout(x, axis(volume_title(compared.objectives), rangemode="tozero"), showlegend=True))


def _places(progress: list[Step], over: str) -> list[Any]:
    return list(range(1, len(progress) + 1)) if over == "trials" else rounded([step.minutes for step in progress])


def _styled(compared: Comparison) -> list[tuple[ComparedStudy, Style]]:
    """Return each study with its colour, dashes and symbol."""
    styles = zip(cycle(PALETTE), cycle(DASHES), cycle(SYMBOLS), strict=False)
    return list(zip(compared.studies, styles, strict=False))


def _hover(each: ComparedStudy, row: FrontRow, compared: Comparison) -> str:
    lines = [f"<b>{text(each.results.name, 30)}</b>, trial {row.trial}"]
    for metric, value in zip(compared.objectives, row.values, strict=True):
        lines.append(f"{text(metric.label)}: {number(value)}")
    for name, chosen in row.params.items():
        lines.append(f"{text(name, 24)}: {text(number(chosen), 40)}")
    return "<br>".join(lines)


def _front_of_study(each: ComparedStudy, style: Style, compared: Comparison, pair: Pair) -> go.Scatter:
    front, (color, dash, symbol) = each.results.front, style
    return go.Scatter(
        x=[row.values[pair[0]] for row in front],
        y=[row.values[pair[1]] for row in front],
        name=text(each.results.name, 30),
        mode="lines+markers",
        line={"shape": "hv", "color": color, "dash": dash, "width": 1.5},
        marker={"symbol": symbol, "size": 9, "color": color},
        hovertext=[_hover(each, row, compared) for row in front],
        hoverinfo="text",
        showlegend=True,
    )


def _best_trace(each: ComparedStudy, style: Style, compared: Comparison) -> go.Scatter:
    """Return a line through the best values of a study so far, drawn to its last trial."""
    rows = by_end(each.results)
    steps = improvements(rows, compared.objectives[0].sign)
    steps += [(len(rows), row) for _, row in steps[-1:]]
    return _front_of_study(each, style, compared, (0, 0)).update(
        x=[place for place, _ in steps],
        y=[row.values[0] for _, row in steps],
        hovertext=[_hover(each, row, compared) for _, row in steps],
    )


def _common_baselines(compared: Comparison, pair: Pair) -> list[go.Scatter]:
    """Return the baselines as points, or nothing if the data of the studies differ."""
    points = _baseline_points(compared)
    if not points:
        return []
    return [
        go.Scatter(
            x=[point[pair[0]] for point in points.values()],
            y=[point[pair[1]] for point in points.values()],
            name="baselines",
            mode="markers",
            marker={"symbol": "x", "size": 10, "color": GREEN},
            hovertext=[text(name, 30) for name in points],
            hoverinfo="text",
        )
    ]


def _baseline_points(compared: Comparison) -> dict[str, tuple[float, ...]]:
    """Return the objectives of the first study's baselines by name; empty if the data of the studies differ."""
    results = compared.studies[0].results
    return {name: results.baseline_values(name) for name in results.baselines} if compared.same_data else {}


def _fronts(compared: Comparison) -> Html:
    title, label = "Fronts", "The fronts of all studies"
    if len(compared.objectives) == 1:
        title, label = "Best so far", "The best so far of all studies"
    return section(title, matrix_or_plot(fronts_figure(compared), label, compared.objectives), id_="fronts")


def _side_by_side(compared: Comparison) -> Html:
    rows = [row(plain(title), cells) for title, cells in comparison_lines(compared)]
    return table(["", *map(plain, compared.names)], rows)


def _progress_section(compared: Comparison) -> Html:
    if not any(each.progress for each in compared.studies):
        return Html()
    drawn = [figure_div(progress_figure(compared, over), f"Hypervolume over {over}") for over in ("trials", "minutes")]
    return section("Hypervolume over trials and over wall clock", tag("div", *drawn, class_="pair"), id_="progress")


def _differences_section(compared: Comparison) -> Html:
    rows = [row(plain(name), [what, plain(line)]) for name, what, line in difference_rows(compared)]
    title = f"What differs from {plain(compared.names[0])}"
    if not rows:
        return section(title, tag("p", "Nothing: definitions and provenances are the same."), id_="failures")
    return section(title, table(["", "where", "first -> this study"], rows), id_="failures")
