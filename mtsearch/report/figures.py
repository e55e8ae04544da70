"""The Pareto front, drawn with Plotly from what its view holds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from mtsearch.objectives import METRICS
from mtsearch.report.drawing import BLUE, GREEN, GREY, VERMILION, axis, layout, text
from mtsearch.report.front_view import SHOW_ALL, BaselinePoint, FrontView, front_view
from mtsearch.report.references import Reference
from mtsearch.report.wording import axis_title, number

if TYPE_CHECKING:
    from mtsearch.search.front import FrontRow
    from mtsearch.search.record import StudyRecord

BASELINE_SYMBOLS = ("x", "square", "triangle-up", "cross", "star", "pentagon")


def front_figure(record: StudyRecord, *, still: bool = False) -> go.Figure:
    """The Pareto front among all trials, its knee, and the baselines; a `still` one says nothing of clicks."""
    view = front_view(record)
    figure = go.Figure([_trials(view), _front(view), _knee(view), *_baselines(view)], _layout(view, still))
    for line in view.lines:
        _draw_line(figure, line)
    return figure


def hover_text(row: FrontRow, view: FrontView) -> str:
    """What hovering over a trial says, in Plotly's own markup: objectives, parameters, other metrics."""
    title = f"trial {row.trial}" + (", knee" if view.knee and row.trial == view.knee.trial else "")
    spreads = view.spreads.get(row.trial, (None, None))
    objectives = _lines({
        metric.label: number(value) if spread is None else f"{number(value)} ± {spread:.2g}"
        for metric, value, spread in zip(view.objectives, row.values, spreads, strict=True)
    })  # fmt: skip
    keys = [metric.key for metric in view.objectives]
    others = {_label(key): value for key, value in row.metrics.items() if key not in keys}
    groups = [[f"<b>{text(title)}</b>", *objectives], _lines(row.params), _lines(others)]
    return "<br> <br>".join("<br>".join(group) for group in groups if group)


def _trials(view: FrontView) -> go.Scatter:
    marker = {"symbol": "circle-open", "size": 7, "color": GREY, "opacity": 0.75}
    bars = _bars(view, view.dominated, color="rgba(128,136,144,0.45)", thickness=1, width=0)
    return _points(view, view.dominated, name="trials", mode="markers", marker=marker, **bars)


def _front(view: FrontView) -> go.Scatter:
    # Horizontal first: until the next trial's first objective is accepted, the second stays what it was.
    line = {"shape": "hv", "width": 1.5, "color": BLUE}
    marker = {"symbol": "circle", "size": 10, "color": BLUE}
    bars = _bars(view, view.front, color="rgba(0,114,178,0.6)", thickness=1.25, width=4)
    return _points(view, view.front, name="front", mode="lines+markers", line=line, marker=marker, **bars)


def _knee(view: FrontView) -> go.Scatter:
    """A diamond around the front's own point, which answers the pointer."""
    rows = (view.knee,) if view.knee else ()
    marker = {"symbol": "diamond-open", "size": 19, "color": VERMILION, "line": {"width": 2.5}}
    knee = _points(view, rows, name="knee", mode="markers", marker=marker)
    return knee.update(hoverinfo="skip", hovertext=None)


def _bars(view: FrontView, rows: tuple[FrontRow, ...], **style: Any) -> dict[str, Any]:
    """One standard deviation or error to each side, in both objectives; nothing where no trial has any."""
    if not view.spreads:
        return {}
    spreads = [view.spreads.get(row.trial, (0.0, 0.0)) for row in rows]
    return {f"error_{axis}": {"array": [each[index] for each in spreads], **style} for index, axis in enumerate("xy")}


def _points(view: FrontView, rows: tuple[FrontRow, ...], **style: Any) -> go.Scatter:
    return go.Scatter(
        x=[row.values[0] for row in rows],
        y=[row.values[1] for row in rows],
        hovertext=[hover_text(row, view) for row in rows],
        hoverinfo="text",
        customdata=[row.trial for row in rows],
        showlegend=bool(rows),
        **style,
    )


def _baselines(view: FrontView) -> list[go.Scatter]:
    return [
        _baseline(view, point, symbol)
        for point, symbol in zip(view.baselines, cycle(BASELINE_SYMBOLS), strict=False)
    ]  # fmt: skip


def _baseline(view: FrontView, point: BaselinePoint, symbol: str) -> go.Scatter:
    values = {metric.label: value for metric, value in zip(view.objectives, point.values, strict=True)}
    name = text(point.name, 24)
    return go.Scatter(
        x=[point.values[0]],
        y=[point.values[1]],
        name=name,
        mode="markers",
        marker={"symbol": symbol, "size": 11, "color": GREEN},
        hovertext=["<br>".join([f"<b>{name}</b>, baseline", *_lines(values)])],
        hoverinfo="text",
        showlegend=point.inside,
    )


def _draw_line(figure: go.Figure, line: Reference) -> None:
    """Across the plot at the best baseline's value; its label above the plot, or inside at the better end."""
    style = {"line": {"color": GREEN, "width": 1.25, "dash": "dash"}, "layer": "below", "name": line.name}
    label = {"text": text(line.label), "showarrow": False, "yanchor": "bottom", "yshift": 6, "name": "line"}
    if line.index == 0:
        figure.add_shape(type="line", xref="x", yref="paper", x0=line.value, x1=line.value, y0=0, y1=1, **style)
        figure.add_annotation(xref="x", yref="paper", x=line.value, y=1, **label)
    else:
        figure.add_shape(type="line", xref="paper", yref="y", x0=0, x1=1, y0=line.value, y1=line.value, **style)
        figure.add_annotation(xref="paper", yref="y", x=1, y=line.value, xanchor="right", **label)


def _layout(view: FrontView, still: bool) -> dict[str, Any]:
    # NOTE: notes go into the horizontal title, the one place where no point, label or legend entry can lie.
    notes = [note for note in view.notes if not (still and note == SHOW_ALL)]
    x, y = _axis(view, 0, notes), _axis(view, 1)
    return layout(x, y, margin={"l": 64, "r": 16, "t": 48, "b": 120})


def _axis(view: FrontView, index: int, notes: Sequence[str] = ()) -> dict[str, Any]:
    lines = [text(axis_title(view.objectives[index])), *(f"<i>{text(note)}</i>" for note in notes)]
    return axis("<br>".join(lines), range=view.ranges and list(view.ranges[index]))


def _label(key: str) -> str:
    return METRICS[key].label if key in METRICS else key


def _lines(values: Any) -> list[str]:
    return [f"{text(name, 24)}: {text(number(value), 40)}" for name, value in values.items()]
