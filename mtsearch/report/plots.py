"""Figures about the progress of a study and its parameters: hypervolume, curves, importance, time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mtsearch.metrics import Metric
from mtsearch.report.front_plot import Range, axis_range, front_view
from mtsearch.report.plot_data import Curve, Dimension, curves, dimensions, hypervolume_steps, on_front
from mtsearch.report.plot_style import BLUE, GREEN, GREY, PALETTE, VERMILION, axis, folded, layout, rounded, text
from mtsearch.text import axis_title, legend_names, number, volume_format, volume_title

if TYPE_CHECKING:
    from mtsearch.search.pareto import FrontRow
    from mtsearch.search.results import StudyResults

FAINT = "rgba(128,136,144,0.4)"
_PHASES = ("prepare", "train", "evaluate")
_REST = "rest: waiting, storing"
_PATTERNS = ("", "/", ".", "x")  # patterns of bars, for readers who cannot tell colours apart
_FEW_POINTS = 1500  # below this number of points every epoch has a marker


def hypervolume_figure(results: StudyResults) -> go.Figure | None:
    """Draw the hypervolume after each complete trial and that of all baselines; None without baselines."""
    steps = hypervolume_steps(results)
    if not steps:
        return None
    volume = f"%{{y:{volume_format(results.objectives)}}}"
    line = go.Scatter(
        x=list(range(1, len(steps) + 1)),
        y=rounded([step.volume for step in steps]),
        customdata=[step.trial for step in steps],
        name="front so far",
        mode="lines+markers" if len(steps) <= 100 else "lines",
        line={"shape": "hv", "color": BLUE, "width": 2},
        marker={"size": 5},
        hovertemplate=f"after trial %{{customdata}}: {volume}<extra></extra>",
    )
    points = [results.baseline_values(name) for name in results.baselines]
    baselines = results.volume([point for point in points if not any(map(math.isnan, point))])
    reference = go.Scatter(
        x=[min(1, len(steps) - 1), len(steps)],  # a line of one point is not drawn
        y=[baselines, baselines],
        name="all baselines",
        mode="lines",
        line={"color": GREEN, "dash": "dash", "width": 1.25},
        hovertemplate=f"all baselines: {volume}<extra></extra>",
    )
    x = axis("complete trials, in the order of their ends", rangemode="tozero")
    return go.Figure([line, reference], layout(x, axis(volume_title(results.objectives), rangemode="tozero")))


def curve_figure(results: StudyResults, index: int, points: int | None = None) -> go.Figure | None:
    """Draw an objective over the epochs of every trial; None if no curve is stored.

    Args:
        results: the study's results.
        index: number of the objective, 0-based.
        points: greatest number of epochs of all trials together.
    """
    shown = curves(results) if points is None else curves(results, points)
    if not shown:
        return None
    front, knee = on_front(results), results.knee.trial if results.knee else None
    member, knee_name = legend_names(results.objectives)
    groups = [
        ("other trials", {t: c for t, c in shown.items() if t not in front}, FAINT, 1.0),
        (member, {t: c for t, c in shown.items() if t in front and t != knee}, BLUE, 1.5),
        (knee_name, {t: c for t, c in shown.items() if t == knee}, VERMILION, 2.5),
    ]
    metric = results.objectives[index]
    few = sum(len(curve.epochs) for curve in shown.values()) <= _FEW_POINTS
    traces = [
        _curve_trace(name, group, index, metric, color, width, few) for name, group, color, width in groups if group
    ]
    values = [value for curve in shown.values() for value in curve.values[index] if value is not None]
    anchors = [row.values[index] for row in results.front]
    y = axis(text(axis_title(metric)), range=list(axis_range(values, anchors)) if values else None)
    return go.Figure(traces, layout(axis("epoch", rangemode="tozero", tickformat="d"), y))


def _curve_trace(
    name: str, group: dict[int, Curve], index: int, metric: Metric, color: str, width: float, markers: bool
) -> go.Scatter:
    """Return many curves as one line with gaps; one trace per curve would take a browser seconds."""
    x: list[int | None] = []
    y: list[float | None] = []
    trials: list[int | None] = []
    for trial, curve in group.items():
        x += [*curve.epochs, None]
        y += [*curve.values[index], None]
        trials += [*[trial] * len(curve.epochs), None]
    return go.Scatter(
        x=x,
        y=rounded(y),
        customdata=trials,
        name=name,
        mode="lines+markers" if markers else "lines",
        line={"color": color, "width": width},
        marker={"size": 4, "color": color},
        connectgaps=False,
        hovertemplate=f"trial %{{customdata}}, epoch %{{x}}<br>{text(metric.label)}: %{{y:.4g}}<extra></extra>",
    )


def parallel_figure(results: StudyResults) -> go.Figure | None:
    """Draw every trial as a line through its parameters and objectives; None if nothing was searched.

    NOTE: drawn as plain lines. Plotly's parallel coordinates compile code at run time, which the page's policy forbids.
    """
    searched = dimensions(results)
    if not searched or not results.rows:
        return None
    ranges = front_view(results).ranges
    member, knee_name = legend_names(results.objectives)
    count = len(results.objectives)
    objectives = [_objective(results, index, ranges[index] if ranges else (0.0, 1.0)) for index in range(count)]
    every = [*searched, *objectives]
    front, knee = on_front(results), results.knee.trial if results.knee else None
    # Each group of trials: its name, the test for its trials, and the colour and width of its lines.
    groups: list[tuple[str, Callable[[FrontRow], bool], str, float]] = [
        ("other trials", lambda row: row.trial not in front, "rgba(128,136,144,0.3)", 1.0),
        (member, lambda row: row.trial in front and row.trial != knee, BLUE, 1.75),
        (knee_name, lambda row: row.trial == knee, VERMILION, 3.0),
    ]
    grouped = (
        (name, [row for row in results.rows if belongs(row)], color, width) for name, belongs, color, width in groups
    )
    traces = [_polylines(name, rows, every, color, width) for name, rows, color, width in grouped if rows]
    ticks = {"tickvals": list(range(len(every))), "ticktext": [folded(each.name) for each in every]}
    x = axis("", range=[-0.5, len(every) - 0.5], **ticks)
    y = axis("", range=[-0.12, 1.12], showticklabels=False, showgrid=False, ticks="", showline=False)
    marks = [mark for place, each in enumerate(every) for mark in _axis_ends(place, each)]
    return go.Figure(traces, layout(x, y, annotations=marks, margin={"l": 16, "r": 16, "t": 28, "b": 110}))


def _objective(results: StudyResults, index: int, ends: Range) -> Dimension:
    values = {row.trial: row.values[index] for row in results.rows}
    return Dimension(results.objectives[index].label, values, False, ends, ())


def _polylines(name: str, rows: Sequence[FrontRow], every: Sequence[Dimension], color: str, width: float) -> go.Scatter:
    x: list[int | None] = []
    y: list[float | None] = []
    said: list[str | None] = []
    trials: list[int | None] = []
    for row in rows:
        # A value outside the visible range is drawn at the edge of its axis.
        places = [each.place(row.trial) for each in every]
        y += [None if place is None else min(max(place, -0.06), 1.06) for place in places]
        x += range(len(every))
        said += [number(each.values.get(row.trial, "")) for each in every]
        for column, end in ((x, None), (y, None), (said, None)):
            column.append(end)
        trials += [row.trial] * len(every)
        trials.append(None)
    return go.Scatter(
        x=x,
        y=rounded(y, 3),
        text=[None if each is None else text(each, 24) for each in said],
        customdata=trials,
        name=name,
        mode="lines",
        line={"color": color, "width": width},
        hovertemplate="trial %{customdata}: %{text}<extra></extra>",
    )


def _axis_ends(place: int, each: Dimension) -> Iterable[dict[str, Any]]:
    style = {"x": place, "showarrow": False, "font": {"size": 11}, "name": "end"}
    low, high = each.labels
    yield {**style, "y": 0, "yshift": -11, "text": text(low, 16)}
    yield {**style, "y": 1, "yshift": 11, "text": text(high, 16)}


def importance_figure(results: StudyResults) -> go.Figure | None:
    """Draw the importance of each parameter for each objective; None if no importance was computed."""
    if not results.importances:
        return None
    names = list(dict.fromkeys(name for shares in results.importances.values() for name in shares))
    names.sort(key=lambda name: sum(shares.get(name, 0.0) for shares in results.importances.values()))
    labels = {metric.key: metric.label for metric in results.objectives}
    traces = [
        go.Bar(
            y=[text(name, 30) for name in names],
            x=rounded([100 * shares.get(name, 0.0) for name in names], 3),
            name=text(labels[key]),
            orientation="h",
            marker={"color": color, "pattern": {"shape": shape, "fillmode": "overlay"}},
            hovertemplate="%{y}: %{x:.3g} %<extra>" + text(labels[key]) + "</extra>",
        )
        for (key, shares), color, shape in zip(results.importances.items(), PALETTE, _PATTERNS, strict=False)
    ]
    x = axis("importance (%)", rangemode="tozero")
    height = 170 + 22 * len(names) * max(2, len(traces))
    return go.Figure(traces, layout(x, axis("", type="category"), barmode="group", height=height))


def parameter_figures(results: StudyResults) -> list[tuple[str, go.Figure]]:
    """Draw each parameter against each objective; return each figure with a label for screen readers."""
    return [
        (f"{results.objectives[index].label} over {each.name}", _parameter_figure(results, each, index))
        for each in (dimensions(results) if results.rows else [])
        for index in range(len(results.objectives))
    ]


def _parameter_figure(results: StudyResults, each: Dimension, index: int) -> go.Figure:
    front, metric, ranges = on_front(results), results.objectives[index], front_view(results).ranges
    labels = _labels(each.choices)
    kinds = [
        ("other trials", [row for row in results.rows if row.trial not in front],
         {"symbol": "circle-open", "size": 6, "color": GREY, "opacity": 0.6}),
        ("front" if len(results.objectives) > 1 else "best trial", [row for row in results.rows if row.trial in front],
         {"symbol": "circle", "size": 8, "color": BLUE}),
    ]  # fmt: skip
    traces = [
        go.Scatter(
            x=rounded([labels.get(v, v) for v in (each.values.get(r.trial) for r in rows)]),
            y=rounded([row.values[index] for row in rows]),
            customdata=[row.trial for row in rows],
            name=name,
            mode="markers",
            marker=marker,
            hovertemplate=f"trial %{{customdata}}<br>{text(each.name, 24)}: %{{x}}<br>"
            f"{text(metric.label)}: %{{y:.4g}}<extra></extra>",
        )
        for name, rows, marker in kinds
        if rows
    ]
    kind: dict[str, Any] = {"type": "log"} if each.log else {}
    if each.choices:
        # NOTE: "category" keeps 16, 32 and 64 at equal distances and in the order of the choices.
        kind = {"type": "category", "categoryorder": "array",
                "categoryarray": list(labels.values())}  # fmt: skip
    x = axis(text(each.name, 40), **kind)
    y = axis(text(metric.axis), range=list(ranges[index]) if ranges else None)
    return go.Figure(traces, layout(x, y, margin={"l": 60, "r": 12, "t": 16, "b": 88}))


def _labels(choices: Sequence[Any]) -> dict[Any, str]:
    """Return a short label for each choice; choices that would look the same get their position in front."""
    labels = [text(number(choice), 24) for choice in choices]
    if len(set(labels)) < len(labels):
        labels = [f"{place}: {label}" for place, label in enumerate(labels, 1)]
    return dict(zip(choices, labels, strict=True))


def time_figure(results: StudyResults) -> go.Figure | None:
    """Draw the seconds of each trial by phase; None if no times are stored."""
    trials = sorted(results.times)
    if not trials:
        return None
    totals = {trial: (results.times[trial].ended - results.times[trial].begun).total_seconds() for trial in trials}
    phases = {trial: results.times[trial].seconds for trial in trials}
    parts = {phase: [phases[t].get(phase, 0.0) for t in trials] for phase in _PHASES}
    parts[_REST] = [max(0.0, totals[t] - sum(phases[t].get(phase, 0.0) for phase in _PHASES)) for t in trials]
    traces = [
        go.Bar(
            x=trials,
            y=rounded(seconds, 4),
            name=word,
            marker={
                "color": color,
                "line": {"width": 0},
                "pattern": {"shape": shape if len(trials) <= 100 else "", "fillmode": "overlay"},
            },
            hovertemplate=f"trial %{{x}}, {word}: %{{y:.3g}} s<extra></extra>",
        )
        for (word, seconds), color, shape in zip(
            parts.items(), (PALETTE[4], BLUE, VERMILION, GREY), _PATTERNS, strict=True
        )
        if any(seconds)
    ]
    y = axis("wall clock (seconds)", rangemode="tozero")
    return go.Figure(traces, layout(axis("trial", tickformat="d"), y, barmode="stack", bargap=0.1))
