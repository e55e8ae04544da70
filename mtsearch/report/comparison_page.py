"""Studies side by side as one self-contained page."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from mtsearch.report.comparison import Compared, Comparison, difference_rows
from mtsearch.report.comparison_table import comparison_lines
from mtsearch.report.drawing import (
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
from mtsearch.report.figures import baseline_lines, trials_axis
from mtsearch.report.front_view import axis_range
from mtsearch.report.html_document import Source, document, write_document
from mtsearch.report.markup import Html, join, row, section, table, tag
from mtsearch.report.page_plots import figure, matrix_or_plot
from mtsearch.report.progress import Step, by_end, improvements
from mtsearch.report.wording import aims, axis_title, better, listing, number, plain, volume_format, volume_title
from mtsearch.search.front import FrontRow

Style = tuple[str, str, str]

_NOTHING_TO_CLICK = '{"trials":[],"colours":[],"knee":null}'


def write_comparison(compared: Comparison, place: Path, plotlyjs: Source = "inline") -> Path:
    """Write the page, whole or not at all, and say where it is; see `write_page`.

    Raises:
        MachineError: it cannot be written.
    """
    return write_document(comparison_page(compared, plotlyjs), place)


def comparison_page(compared: Comparison, plotlyjs: Source = "inline") -> str:
    """The page; all text that came from users or files is escaped."""
    title = listing([plain(name) for name in compared.names])
    warning = tag("p", compared.warning, class_="verdict trouble") if compared.warning else Html()
    body = join((
        tag("header", tag("h1", title), tag("p", aims(compared.objectives))),
        warning,
        _fronts(compared),
        section("Side by side", _table(compared), id_="sides"),
        _progress(compared),
        _differences(compared),
    ))  # fmt: skip
    return document(title, body, _NOTHING_TO_CLICK, plotlyjs)


def fronts_figure(compared: Comparison) -> go.Figure:
    """The fronts over each other; each study has its colour, its dashes and its symbol.

    Of two objectives it is a plane, of three and more a matrix with a panel per pair, and of a single one each study's
    best value so far over its trials.
    """
    draw = {1: _best_so_far, 2: _plane}.get(len(compared.objectives), _matrix)
    return draw(compared)


def _plane(compared: Comparison) -> go.Figure:
    traces = [_front(each, style, compared, PLANE) for each, style in _styled(compared)]
    titles = [text(axis_title(metric)) for metric in compared.objectives]
    x, y = (axis(title, range=_range(compared, index)) for index, title in enumerate(titles))
    return go.Figure(traces + _baselines(compared, PLANE), layout(x, y))


def _matrix(compared: Comparison) -> go.Figure:
    titles = ["<br>".join([text(metric.axis), better(metric)]) for metric in compared.objectives]
    drawn = go.Figure(layout=matrix_layout(titles, [_range(compared, index) for index in range(len(titles))]))
    for pair in pairs(len(titles)):
        x, y = axes_of(pair)
        fronts = [_front(each, style, compared, pair) for each, style in _styled(compared)]
        for trace in [*fronts, *_baselines(compared, pair)]:
            # A front projected is no staircase, so it has no line.
            trace.update(mode="markers", legendgroup=trace.name, showlegend=pair == PLANE, xaxis=x, yaxis=y)
            drawn.add_trace(trace)
    return drawn


def _best_so_far(compared: Comparison) -> go.Figure:
    (metric,) = compared.objectives
    longest = max(len(each.record.rows) for each in compared.studies)
    traces = [_best_trace(each, style, compared) for each, style in _styled(compared)]
    shown = [value for trace in traces for value in trace.y]
    baselines = {name: value for name, (value,) in _baseline_points(compared).items()}
    traces += baseline_lines(baselines, metric, longest)
    x = trials_axis("complete trials, in the order of their ends", longest)
    y = axis(text(axis_title(metric)), range=list(axis_range(shown, [*shown, *baselines.values()])) if shown else None)
    return go.Figure(traces, layout(x, y, showlegend=True))


def _range(compared: Comparison, index: int) -> list[float] | None:
    """What is in view of an objective: every study's knee, and of the fronts what does not squeeze the rest."""
    records = [each.record for each in compared.studies]
    points = [row.values[index] for record in records for row in record.front]
    knees = [record.knee.values[index] for record in records if record.knee]
    return list(axis_range(points, points, knees)) if points else None


def progress_figure(compared: Comparison, over: str) -> go.Figure:
    """The hypervolumes as the studies went on.

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
            name=text(each.record.name, 30),
            mode="lines",
            line={"shape": "hv", "color": color, "dash": dash, "width": 2},
            hovertemplate=f"after trial %{{customdata}}: {volume}<extra>{text(each.record.name, 30)}</extra>",
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


def _styled(compared: Comparison) -> list[tuple[Compared, Style]]:
    """Each study with its colour, its dashes and its symbol."""
    styles = zip(cycle(PALETTE), cycle(DASHES), cycle(SYMBOLS), strict=False)
    return list(zip(compared.studies, styles, strict=False))


def _hover(each: Compared, row: FrontRow, compared: Comparison) -> str:
    lines = [f"<b>{text(each.record.name, 30)}</b>, trial {row.trial}"]
    for metric, value in zip(compared.objectives, row.values, strict=True):
        lines.append(f"{text(metric.label)}: {number(value)}")
    for name, chosen in row.params.items():
        lines.append(f"{text(name, 24)}: {text(number(chosen), 40)}")
    return "<br>".join(lines)


def _front(each: Compared, style: Style, compared: Comparison, pair: Pair) -> go.Scatter:
    front, (color, dash, symbol) = each.record.front, style
    return go.Scatter(
        x=[row.values[pair[0]] for row in front],
        y=[row.values[pair[1]] for row in front],
        name=text(each.record.name, 30),
        mode="lines+markers",
        line={"shape": "hv", "color": color, "dash": dash, "width": 1.5},
        marker={"symbol": symbol, "size": 9, "color": color},
        hovertext=[_hover(each, row, compared) for row in front],
        hoverinfo="text",
        showlegend=True,
    )


def _best_trace(each: Compared, style: Style, compared: Comparison) -> go.Scatter:
    """Draw a study's best so far: a step at each improvement, and on to the study's end."""
    rows = by_end(each.record)
    steps = improvements(rows, compared.objectives[0].sign)
    steps += [(len(rows), row) for _, row in steps[-1:]]
    return _front(each, style, compared, (0, 0)).update(
        x=[place for place, _ in steps],
        y=[row.values[0] for _, row in steps],
        hovertext=[_hover(each, row, compared) for _, row in steps],
    )


def _baselines(compared: Comparison, pair: Pair) -> list[go.Scatter]:
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
    """The objectives of the first study's baselines, by name, where they are everyone's."""
    record = compared.studies[0].record
    return {name: record.baseline_values(name) for name in record.baselines} if compared.same_data else {}


def _fronts(compared: Comparison) -> Html:
    title, label = "Fronts", "The fronts of all studies"
    if len(compared.objectives) == 1:
        title, label = "Best so far", "The best so far of all studies"
    return section(title, matrix_or_plot(fronts_figure(compared), label, compared.objectives), id_="fronts")


def _table(compared: Comparison) -> Html:
    rows = [row(plain(title), cells) for title, cells in comparison_lines(compared)]
    return table(["", *map(plain, compared.names)], rows)


def _progress(compared: Comparison) -> Html:
    if not any(each.progress for each in compared.studies):
        return Html()
    drawn = [figure(progress_figure(compared, over), f"Hypervolume over {over}") for over in ("trials", "minutes")]
    return section("Hypervolume over trials and over wall clock", tag("div", *drawn, class_="pair"), id_="progress")


def _differences(compared: Comparison) -> Html:
    rows = [row(plain(name), [what, plain(line)]) for name, what, line in difference_rows(compared)]
    title = f"What differs from {plain(compared.names[0])}"
    if not rows:
        return section(title, tag("p", "Nothing: definitions and passports are the same."), id_="failures")
    return section(title, table(["", "where", "first -> this study"], rows), id_="failures")
