"""Figures of how a study went and what its parameters did: hypervolume, curves, parameters, importance, time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mtsearch.objectives import Metric
from mtsearch.report.drawing import BLUE, GREEN, GREY, PALETTE, VERMILION, axis, folded, layout, rounded, text
from mtsearch.report.front_view import Range, axis_range, front_view
from mtsearch.report.parameters_view import Dimension, dimensions
from mtsearch.report.progress import Curve, curves, hypervolume_steps, on_front
from mtsearch.report.wording import axis_title, legend_names, number, volume_format, volume_title

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

FAINT = "rgba(128,136,144,0.4)"
_PHASES = ("prepare", "train", "evaluate")
_REST = "rest: waiting, storing"
_PATTERNS = ("", "/", ".", "x")  # of bars, since not everybody tells colours apart
_FEW_POINTS = 1500  # under so many every epoch of a curve has its marker


def hypervolume_figure(record: StudyRecord) -> go.Figure | None:
    """The hypervolume after each complete trial, beside that of the baselines together; None without baselines."""
    steps = hypervolume_steps(record)
    if not steps:
        return None
    volume = f"%{{y:{volume_format(record.objectives)}}}"
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
    baselines = record.volume([record.baseline_values(name) for name in record.baselines])
    reference = go.Scatter(
        x=[min(1, len(steps) - 1), len(steps)],  # a line of one point is not drawn
        y=[baselines, baselines],
        name="all baselines",
        mode="lines",
        line={"color": GREEN, "dash": "dash", "width": 1.25},
        hovertemplate=f"all baselines: {volume}<extra></extra>",
    )
    x = axis("complete trials, in the order of their ends", rangemode="tozero")
    return go.Figure([line, reference], layout(x, axis(volume_title(record.objectives), rangemode="tozero")))


def curve_figure(record: StudyRecord, index: int, points: int | None = None) -> go.Figure | None:
    """An objective over the epochs of every trial; None where no curve is stored.

    Args:
        record: of the study.
        index: of the objective, 0-based.
        points: epochs that are shown of all trials together.
    """
    shown = curves(record) if points is None else curves(record, points)
    if not shown:
        return None
    front, knee = on_front(record), record.knee.trial if record.knee else None
    member, knee_name = legend_names(record.objectives)
    groups = [
        ("other trials", {t: c for t, c in shown.items() if t not in front}, FAINT, 1.0),
        (member, {t: c for t, c in shown.items() if t in front and t != knee}, BLUE, 1.5),
        (knee_name, {t: c for t, c in shown.items() if t == knee}, VERMILION, 2.5),
    ]
    metric = record.objectives[index]
    few = sum(len(curve.epochs) for curve in shown.values()) <= _FEW_POINTS
    traces = [
        _curve_trace(name, group, index, metric, color, width, few) for name, group, color, width in groups if group
    ]
    values = [value for curve in shown.values() for value in curve.values[index] if value is not None]
    anchors = [row.values[index] for row in record.front]
    y = axis(text(axis_title(metric)), range=list(axis_range(values, anchors)) if values else None)
    return go.Figure(traces, layout(axis("epoch", rangemode="tozero", tickformat="d"), y))


def _curve_trace(
    name: str, group: dict[int, Curve], index: int, metric: Metric, color: str, width: float, markers: bool
) -> go.Scatter:
    """Many curves as one line with gaps: a trace of its own for each would take a browser seconds."""
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


def parallel_figure(record: StudyRecord) -> go.Figure | None:
    """Every trial as a line through its parameters and its objectives; None where nothing was searched.

    NOTE: drawn as lines. Plotly's own parallel coordinates compile code at run time, which the page's policy forbids.
    """
    searched = dimensions(record)
    if not searched or not record.rows:
        return None
    ranges = front_view(record).ranges
    member, knee_name = legend_names(record.objectives)
    count = len(record.objectives)
    objectives = [_objective(record, index, ranges[index] if ranges else (0.0, 1.0)) for index in range(count)]
    every = [*searched, *objectives]
    front, knee = on_front(record), record.knee.trial if record.knee else None
    groups: list[tuple[str, Callable[[FrontRow], bool], str, float]] = [
        ("other trials", lambda row: row.trial not in front, "rgba(128,136,144,0.3)", 1.0),
        (member, lambda row: row.trial in front and row.trial != knee, BLUE, 1.75),
        (knee_name, lambda row: row.trial == knee, VERMILION, 3.0),
    ]
    grouped = (
        (name, [row for row in record.rows if belongs(row)], color, width) for name, belongs, color, width in groups
    )
    traces = [_polylines(name, rows, every, color, width) for name, rows, color, width in grouped if rows]
    ticks = {"tickvals": list(range(len(every))), "ticktext": [folded(each.name) for each in every]}
    x = axis("", range=[-0.5, len(every) - 0.5], **ticks)
    y = axis("", range=[-0.12, 1.12], showticklabels=False, showgrid=False, ticks="", showline=False)
    marks = [mark for place, each in enumerate(every) for mark in _ends(place, each)]
    return go.Figure(traces, layout(x, y, annotations=marks, margin={"l": 16, "r": 16, "t": 28, "b": 110}))


def _objective(record: StudyRecord, index: int, ends: Range) -> Dimension:
    values = {row.trial: row.values[index] for row in record.rows}
    return Dimension(record.objectives[index].label, values, False, ends, ())


def _polylines(name: str, rows: Sequence[FrontRow], every: Sequence[Dimension], color: str, width: float) -> go.Scatter:
    x: list[int | None] = []
    y: list[float | None] = []
    said: list[str | None] = []
    trials: list[int | None] = []
    for row in rows:
        # What lies outside an axis ends at its edge.
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


def _ends(place: int, each: Dimension) -> Iterable[dict[str, Any]]:
    style = {"x": place, "showarrow": False, "font": {"size": 11}, "name": "end"}
    low, high = each.labels
    yield {**style, "y": 0, "yshift": -11, "text": text(low, 16)}
    yield {**style, "y": 1, "yshift": 11, "text": text(high, 16)}


def importance_figure(record: StudyRecord) -> go.Figure | None:
    """The share of each parameter in reaching the best trials of each objective; None where it was not computed."""
    if not record.importances:
        return None
    names = list(dict.fromkeys(name for shares in record.importances.values() for name in shares))
    names.sort(key=lambda name: sum(shares.get(name, 0.0) for shares in record.importances.values()))
    labels = {metric.key: metric.label for metric in record.objectives}
    traces = [
        go.Bar(
            y=[text(name, 30) for name in names],
            x=rounded([100 * shares.get(name, 0.0) for name in names], 3),
            name=text(labels[key]),
            orientation="h",
            marker={"color": color, "pattern": {"shape": shape, "fillmode": "overlay"}},
            hovertemplate="%{y}: %{x:.3g} %<extra>" + text(labels[key]) + "</extra>",
        )
        for (key, shares), color, shape in zip(record.importances.items(), PALETTE, _PATTERNS, strict=False)
    ]
    x = axis("importance (%)", rangemode="tozero")
    height = 170 + 22 * len(names) * max(2, len(traces))
    return go.Figure(traces, layout(x, axis("", type="category"), barmode="group", height=height))


def parameter_figures(record: StudyRecord) -> list[tuple[str, go.Figure]]:
    """Each parameter against each objective, with a label for those who cannot see it."""
    return [
        (f"{record.objectives[index].label} over {each.name}", _parameter_figure(record, each, index))
        for each in (dimensions(record) if record.rows else [])
        for index in range(len(record.objectives))
    ]


def _parameter_figure(record: StudyRecord, each: Dimension, index: int) -> go.Figure:
    front, metric, ranges = on_front(record), record.objectives[index], front_view(record).ranges
    labels = _labels(each.choices)
    kinds = [
        ("other trials", [row for row in record.rows if row.trial not in front],
         {"symbol": "circle-open", "size": 6, "color": GREY, "opacity": 0.6}),
        ("front" if len(record.objectives) > 1 else "best trial", [row for row in record.rows if row.trial in front],
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
    """Each choice in few characters; where two would be alike, all have their places before them."""
    labels = [text(number(choice), 24) for choice in choices]
    if len(set(labels)) < len(labels):
        labels = [f"{place}: {label}" for place, label in enumerate(labels, 1)]
    return dict(zip(choices, labels, strict=True))


def time_figure(record: StudyRecord) -> go.Figure | None:
    """Seconds of each trial by phase; None where no times are stored."""
    trials = sorted(record.times)
    if not trials:
        return None
    totals = {trial: (record.times[trial].ended - record.times[trial].begun).total_seconds() for trial in trials}
    phases = {trial: record.times[trial].seconds for trial in trials}
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
