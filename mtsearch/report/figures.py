"""The Pareto front, drawn with Plotly from what its view holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mtsearch.objectives import METRICS, Metric
from mtsearch.report.drawing import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    PLANE,
    VERMILION,
    Pair,
    axes_of,
    axis,
    layout,
    matrix_layout,
    pairs,
    text,
)
from mtsearch.report.front_view import SHOW_ALL, FrontView, front_view
from mtsearch.report.progress import improvements
from mtsearch.report.references import Reference
from mtsearch.report.wording import axis_title, better, number

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

BASELINE_SYMBOLS = ("x", "square", "triangle-up", "cross", "star", "pentagon")

_MARGIN = {"l": 64, "r": 16, "t": 48, "b": 120}

Axes = tuple[int | None, int]
"""The objectives on the horizontal and the vertical axis; None: the trials in the order of their ends."""

Frame = tuple[str, str]
"""Plotly's names of the width and the height of a plot or a panel, for what reaches from edge to edge."""

_PAPER = ("paper", "paper")


def front_figure(record: StudyRecord, *, still: bool = False, most: int | None = None) -> go.Figure:
    """The front among all trials, beside the baselines.

    Of two objectives it is a plane, of three and more a matrix with a panel per pair, and of a single one the best
    value so far over the trials.

    Args:
        record: of the study.
        still: say nothing of clicks.
        most: of the trials that are not on the front, draw so many of the latest; None: all.
    """
    view = front_view(record)
    if most is not None:
        view = replace(view, dominated=view.dominated[-most:])
    notes = [note for note in view.notes if not (still and note == SHOW_ALL)]
    draw = {1: _best_so_far, 2: _plane}.get(len(view.objectives), _matrix)
    return draw(view, notes)


def hover_text(row: FrontRow, view: FrontView) -> str:
    """What hovering over a trial says, in Plotly's own markup: objectives, parameters, other metrics."""
    special = ", knee" if len(view.objectives) > 1 else ", best"
    title = f"trial {row.trial}" + (special if view.knee and row.trial == view.knee.trial else "")
    spreads = view.spreads.get(row.trial, (None,) * len(row.values))
    objectives = _lines({
        metric.label: number(value) if spread is None else f"{number(value)} ± {spread:.2g}"
        for metric, value, spread in zip(view.objectives, row.values, spreads, strict=True)
    })  # fmt: skip
    keys = [metric.key for metric in view.objectives]
    others = {_label(key): value for key, value in row.metrics.items() if key not in keys}
    groups = [[f"<b>{text(title)}</b>", *objectives], _lines(row.params), _lines(others)]
    return "<br> <br>".join("<br>".join(group) for group in groups if group)


def _plane(view: FrontView, notes: Sequence[str]) -> go.Figure:
    """Two objectives against each other; the front is a staircase."""
    # Horizontal first: until the next trial's first objective is accepted, the second stays what it was.
    line = {"shape": "hv", "width": 1.5, "color": BLUE}
    front = _front(view, view.front, PLANE, mode="lines+markers", line=line)
    traces = [_trials(view, view.dominated, PLANE), front, _knee(view, PLANE), *_baselines(view, PLANE)]
    # NOTE: notes go into the horizontal title, the one place where no point, label or legend entry can lie.
    x, y = _axis(view, 0, notes), _axis(view, 1)
    figure = go.Figure(traces, layout(x, y, margin=_MARGIN))
    for reference in view.lines:
        _draw_line(figure, reference, PLANE, _PAPER)
        _label_line(figure, reference, PLANE, _PAPER)
    return figure


def _matrix(view: FrontView, notes: Sequence[str]) -> go.Figure:
    """Three or more objectives, each pair in a panel; projected, their front is no staircase, so it has no line."""
    titles = ["<br>".join([text(metric.axis), better(metric)]) for metric in view.objectives]
    figure = go.Figure(layout=matrix_layout(titles, view.ranges or [None] * len(titles), margin=_MARGIN))
    for pair in pairs(len(view.objectives)):
        x, y = axes_of(pair)
        frame = f"{x} domain", f"{y} domain"
        drawn = [_trials(view, view.dominated, pair), _front(view, view.front, pair, mode="markers"), _knee(view, pair)]
        for trace in [*drawn, *_baselines(view, pair)]:
            in_legend = trace.showlegend and pair == PLANE  # once: PLANE is the first panel
            figure.add_trace(trace.update(legendgroup=trace.name, showlegend=in_legend, xaxis=x, yaxis=y))
        for line in (each for each in view.lines if each.index in pair):
            _draw_line(figure, line, pair, frame)
            # Once per column and row: on the diagonal is the column's uppermost panel, and the row's last.
            if pair[1] == pair[0] + 1:
                _label_line(figure, line, pair, frame, **_placed(line, pair, view))
    # The corner above the triangle is free, and as wide as a panel.
    lines = [f"<i>{text(line)}</i>" for note in notes for line in wrap(note, 28)]
    figure.add_annotation(text="<br>".join(lines), showarrow=False, align="right", xref="paper", yref="paper",
                          x=1, y=1, xanchor="right", yanchor="top")  # fmt: skip
    return figure


def _best_so_far(view: FrontView, notes: Sequence[str]) -> go.Figure:
    """One objective over the trials in the order of their ends; baselines are lines."""
    over_trials: Axes = (None, 0)
    steps = improvements(view.ended, view.objectives[0].sign)
    improving = [row for _, row in steps]
    others = [row for row in (*view.dominated, *view.front) if row not in improving]
    stairs = go.Scatter(
        # From each improvement to the next one, from the last one to the end.
        x=[*(place for place, _ in steps), *([len(view.ended)] if steps else [])],
        y=[row.values[0] for row in [*improving, *improving[-1:]]],
        name="best so far",
        legendgroup="best so far",
        showlegend=False,
        mode="lines",
        line={"shape": "hv", "width": 1.5, "color": BLUE},
        hoverinfo="skip",
    )
    best = _front(view, improving, over_trials, mode="markers").update(name="best so far", legendgroup="best so far")
    knee = _knee(view, over_trials).update(name="best trial")
    baselines = {point.name: point.values[0] for point in view.baselines}
    lines = baseline_lines(baselines, view.objectives[0], len(view.ended))
    for line, point in zip(lines, view.baselines, strict=True):
        line.update(showlegend=point.inside)
    traces = [_trials(view, others, over_trials), stairs, best, knee, *lines]
    x = trials_axis(_noted("complete trials, in the order of their ends", notes), len(view.ended))
    figure = go.Figure(traces, layout(x, _axis(view, 0), margin=_MARGIN))
    for reference in view.lines:
        _label_line(figure, reference, over_trials, _PAPER)
    return figure


def _trials(view: FrontView, rows: Sequence[FrontRow], axes: Axes) -> go.Scatter:
    marker = {"symbol": "circle-open", "size": 7, "color": GREY, "opacity": 0.75}
    bars = _bars(view, rows, axes, color="rgba(128,136,144,0.45)", thickness=1, width=0)
    return _points(view, rows, axes, name="trials", mode="markers", marker=marker, **bars)


def _front(view: FrontView, rows: Sequence[FrontRow], axes: Axes, **style: Any) -> go.Scatter:
    marker = {"symbol": "circle", "size": 10, "color": BLUE}
    bars = _bars(view, rows, axes, color="rgba(0,114,178,0.6)", thickness=1.25, width=4)
    return _points(view, rows, axes, name="front", **style, marker=marker, **bars)


def _knee(view: FrontView, axes: Axes) -> go.Scatter:
    """A diamond around the front's own point, which answers the pointer."""
    rows = (view.knee,) if view.knee else ()
    marker = {"symbol": "diamond-open", "size": 19, "color": VERMILION, "line": {"width": 2.5}}
    knee = _points(view, rows, axes, name="knee", mode="markers", marker=marker)
    return knee.update(hoverinfo="skip", hovertext=None)


def _bars(view: FrontView, rows: Sequence[FrontRow], axes: Axes, **style: Any) -> dict[str, Any]:
    """One standard deviation or error to each side, in every objective; nothing where no trial has any."""
    if not view.spreads:
        return {}
    spreads = [view.spreads.get(row.trial, (0.0,) * len(row.values)) for row in rows]
    return {
        f"error_{axis}": {"array": [each[index] for each in spreads], **style}
        for index, axis in zip(axes, "xy", strict=True)
        if index is not None
    }


def _points(view: FrontView, rows: Sequence[FrontRow], axes: Axes, **style: Any) -> go.Scatter:
    horizontal, vertical = axes
    if horizontal is None:
        places = {row.trial: place for place, row in enumerate(view.ended, start=1)}
        x: list[float] = [places[row.trial] for row in rows]
    else:
        x = [row.values[horizontal] for row in rows]
    return go.Scatter(
        x=x,
        y=[row.values[vertical] for row in rows],
        hovertext=[hover_text(row, view) for row in rows],
        hoverinfo="text",
        customdata=[row.trial for row in rows],
        showlegend=bool(rows),
        **style,
    )


def _baselines(view: FrontView, pair: Pair) -> list[go.Scatter]:
    return [
        go.Scatter(
            x=[point.values[pair[0]]],
            y=[point.values[pair[1]]],
            name=text(point.name, 24),
            mode="markers",
            marker={"symbol": symbol, "size": 11, "color": GREEN},
            hovertext=[_baseline_text(point.name, view.objectives, point.values)],
            hoverinfo="text",
            showlegend=point.inside,
        )
        for point, symbol in zip(view.baselines, cycle(BASELINE_SYMBOLS), strict=False)
    ]


def trials_axis(title: str, trials: int) -> dict[str, Any]:
    """A horizontal axis that counts trials, in whole numbers."""
    return axis(title, range=[0, trials + 1], **({"dtick": 1} if trials < 10 else {}))


def baseline_lines(values: Mapping[str, float], metric: Metric, trials: int) -> list[go.Scatter]:
    """A line per baseline across a figure whose horizontal axis counts trials.

    Args:
        values: of the metric, by the baselines' names.
        metric: on the vertical axis.
        trials: so many; a line has points along it, which answer the pointer.
    """
    x = list(range(0, trials + 2, max(1, trials // 100)))
    return [
        go.Scatter(
            x=x,
            y=[value] * len(x),
            name=text(name, 24),
            mode="lines",
            line={"color": GREEN, "width": 1.25, "dash": dash},
            hovertext=_baseline_text(name, (metric,), (value,)),
            hoverinfo="text",
        )
        for (name, value), dash in zip(values.items(), cycle(DASHES[1:]), strict=False)
    ]


def _baseline_text(name: str, objectives: Sequence[Metric], values: Sequence[float]) -> str:
    said = {metric.label: value for metric, value in zip(objectives, values, strict=True)}
    return "<br>".join([f"<b>{text(name, 24)}</b>, baseline", *_lines(said)])


def _draw_line(figure: go.Figure, line: Reference, axes: Axes, frame: Frame) -> None:
    """Across a plot or a panel at the best baseline's value."""
    x, y = axes_of(axes)
    style = {"line": {"color": GREEN, "width": 1.25, "dash": "dash"}, "layer": "below", "name": line.name}
    if line.index == axes[0]:
        figure.add_shape(type="line", xref=x, yref=frame[1], x0=line.value, x1=line.value, y0=0, y1=1, **style)
    else:
        figure.add_shape(type="line", xref=frame[0], yref=y, x0=0, x1=1, y0=line.value, y1=line.value, **style)


def _label_line(figure: go.Figure, line: Reference, axes: Axes, frame: Frame, **changes: Any) -> None:
    """A label above the plot or panel, or inside at its right end; `changes` are of the annotation."""
    x, y = axes_of(axes)
    label = {"text": text(line.label), "showarrow": False, "yanchor": "bottom", "yshift": 6, "name": "line", **changes}
    if line.index == axes[0]:
        figure.add_annotation(xref=x, yref=frame[1], x=line.value, y=1, **label)
    else:
        figure.add_annotation(xref=frame[0], yref=y, x=1, y=line.value, xanchor="right", **label)


def _placed(line: Reference, pair: Pair, view: FrontView) -> dict[str, Any]:
    """Place a label in a panel, which may be narrow: changes of the annotation.

    It stands on the wider side of an upright line, and below a level line that is near the upper edge.
    """
    low, high = view.ranges[line.index] if view.ranges else (0.0, 1.0)
    share = (line.value - low) / (high - low)
    if line.index == pair[0]:
        return {"xanchor": "left" if share < 0.5 else "right"}
    return {"yanchor": "top", "yshift": -6} if share > 0.85 else {}


def _axis(view: FrontView, index: int, notes: Sequence[str] = ()) -> dict[str, Any]:
    title = _noted(axis_title(view.objectives[index]), notes)
    return axis(title, range=view.ranges and list(view.ranges[index]))


def _noted(title: str, notes: Sequence[str]) -> str:
    return "<br>".join([text(title), *(f"<i>{text(note)}</i>" for note in notes)])


def _label(key: str) -> str:
    return METRICS[key].label if key in METRICS else key


def _lines(values: Any) -> list[str]:
    return [f"{text(name, 24)}: {text(number(value), 40)}" for name, value in values.items()]
